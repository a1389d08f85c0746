import json
from dataclasses import replace

import numpy as np
import pytest

from benchsuite.records.record import Items
from benchsuite.reporting import groups_of
from benchsuite.reporting.groups import short_names
from benchsuite.reporting.judging import items_of, judge_groups
from benchsuite.reporting.settings import together
from benchsuite.study import PERPLEXITY, lower, study
from tests.reporting.factory import drawn, grid, record, results

BOTH = ["random", "cola_zero"]


def test_one_group_per_model_under_the_documents_name():
    cells = grid("tiny_llama_1m", "llama2_7b", methods=BOTH)

    groups = groups_of(cells, drawn(cells))

    assert [g.key for g in groups] == ["tiny_llama_1m", "llama-2-7b-hf"]
    assert all(len(g.records) == 10 and not g.missing for g in groups)


def test_changed_parameters_make_another_group():
    cells = grid("llama2_7b", methods=BOTH)
    fewer_bits = grid("llama2_7b", methods=BOTH, settings={"quant_bits": 3})
    records = [*drawn(cells).values(), *drawn(fewer_bits).values()]

    groups = groups_of([*cells, *fewer_bits], records)

    assert [g.key for g in groups] == ["llama-2-7b-hf", "llama-2-7b-hf__quant_bits-3"]
    assert [len(g.records) for g in groups] == [10, 10]
    assert {r.cell.parameters["quant_bits"] for r in groups[1].records.values()} == {3}


def test_a_record_read_from_json_fills_the_cell_of_a_tuple():
    cells = [
        replace(cell, parameters={**cell.parameters, "widths": (2, 4), "alpha": 1})
        for cell in grid("llama2_7b", methods=["random"])
    ]
    read = {}
    for cell, made in zip(cells, drawn(cells).values(), strict=True):
        parameters = json.loads(json.dumps(made.cell.parameters, sort_keys=True))
        read[cell.id] = replace(made, cell=replace(made.cell, parameters=parameters))

    (group,) = groups_of(cells, read)

    assert len(group.records) == len(cells)


def test_downstream_on_the_first_seed_keeps_the_seeds_together():
    from benchsuite.study import study

    cells = [
        c
        for c in study("calibration_selection").cells(first_seed={"downstream_tasks": True})
        if c.model == "llama2_7b" and c.method == "random"
    ]

    (group,) = groups_of(cells, drawn(cells))

    assert group.key == "llama-2-7b-hf"
    assert len(group.records) == 5


def test_failed_records_never_count():
    cells = grid("llama2_7b", methods=["random"])
    records = drawn(cells, change=lambda c: {"outcome": "failed"} if c.seed == 44 else {})

    (group,) = groups_of(cells, records)

    assert sorted(group.values("random", "perplexity")) == [42, 43, 45, 46]
    assert [c.seed for c in group.missing] == [44]


def test_kinds_of_weights_never_share_a_group():
    cells = grid("llama2_7b", methods=["random"])
    kinds = {42: {"weights": "random"}, 43: {"weights": "local", "stand_in": "two layers"}}

    groups = groups_of(cells, drawn(cells, change=lambda c: kinds.get(c.seed, {})))

    assert [(g.kind, len(g.records)) for g in groups] == [
        ("real", 3),
        ("stand_in", 1),
        ("rehearsal", 1),
    ]


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"weights": "hub"}, "real"),
        ({"weights": "random", "stand_in": "x"}, "rehearsal"),
        ({"weights": "local", "stand_in": "x"}, "stand_in"),
        ({"weights": "local", "stand_in": None}, "real"),
    ],
)
def test_kind(changes, kind):
    (cell, *_) = grid("llama2_7b", methods=["random"])

    assert record(cell, **changes).kind == kind


def test_a_record_of_other_parameters_does_not_fill_a_cell():
    cells = grid("llama2_7b", methods=["random"], settings={"quant_bits": 3})
    other = drawn(grid("llama2_7b", methods=["random"]))

    (group,) = groups_of(cells, other)

    assert not group.records


def test_a_parameter_of_few_methods_takes_no_comparison_away():
    """With another scoring model cola_zero stood alone, and no claim about it was judged."""
    methods = ["random", "cola_zero", "gptq_default"]
    plain = grid("llama2_7b", methods=methods)
    scored = grid("llama2_7b", methods=methods, settings={"scoring_model": "qwen3_0_6b"})

    (group,) = groups_of(scored, drawn(scored))

    assert group.key == "llama-2-7b-hf__scoring_model-qwen3_0_6b"
    assert group.marks == ["scoring model qwen3_0_6b"]
    assert set(group.methods) == set(methods)
    judged = [
        [(j.claim.sentence, j.evidence.get("family_size")) for j in results(cells).judgements]
        for cells in (plain, scored)
    ]
    assert judged[0] == judged[1]
    both = groups_of([*plain, *(c for c in scored if c.method == "cola_zero")], {})
    assert {g.key: len(g.cells) for g in both} == {
        "llama-2-7b-hf": len(plain),
        "llama-2-7b-hf__scoring_model-qwen3_0_6b": len(plain),
    }


def test_settings_are_what_cells_may_have_together():
    same, plain, one, two = {"bits": ""}, {"bits": "", "of": ""}, {"of": "1"}, {"and": "2"}
    assert together([same, plain, {"bits": "", "of": "1"}]) == [[0, 1], [0, 2]]
    assert together([same, one, two]) == [[0, 1, 2]]
    assert together([{"bits": "3"}, same, one]) == [[0, 2], [1, 2]]
    assert together([same, same]) == [[0, 1]]
    assert together([]) == []


def test_a_short_name_leaves_out_what_all_groups_have_in_common():
    few = {"quant_bits": 3, "group_size": 64}
    cells = grid("llama2_7b", "opt_6_7b", methods=["random"], settings=few)
    groups = groups_of(cells, {})
    assert list(short_names(groups).values()) == ["llama-2-7b-hf", "opt-6.7b"]
    assert all("quant_bits-3" in label for label in short_names(groups))

    apart = [*cells, *grid("llama2_7b", methods=["random"], settings={"group_size": 64})]
    assert list(short_names(groups_of(apart, {})).values()) == [
        "llama-2-7b-hf__quant_bits-3",
        "llama-2-7b-hf",
        "opt-6.7b__quant_bits-3",
    ]
    assert short_names([]) == {}


def test_a_column_of_texts_makes_no_metric_that_was_declared_of_it_later():
    texts, numbers = np.array(["yes", "no"]), np.array([1.5, 2.5])
    assert items_of({"chunk_nll": texts, "chunk": texts}, PERPLEXITY) is None
    assert items_of({"chunk_nll": numbers, "chunk": texts}, PERPLEXITY).values is numbers


@pytest.mark.parametrize(
    ("items", "make", "decided_by", "told"),
    [
        ((0.0, 0.0), np.exp, "exact", "left out"),
        ((1.61, 1.63), np.exp, "item_t", "paired t-test over items"),
        ((1.61, 1.63), lambda mean: 1 / 0, "exact", "left out"),
    ],
)
def test_items_decide_where_they_make_the_metric_and_another_number_is_left_out(
    items, make, decided_by, told
):
    """Shares beside percents said 4278 points of a difference of 43, by the same sentence."""
    spread = np.linspace(-0.1, 0.1, 60)
    metrics = (replace(PERPLEXITY, items=("chunk_nll", make)),)
    once = ("random", "cola_zero")
    mine = replace(study("calibration_selection"), once=once, metrics=metrics)
    claims = (lower("perplexity", "cola_zero", than="random"),)
    cells = [
        c
        for c in replace(mine, claims=claims).cells(seeds=[1])
        if c.model == "tiny_llama_1m" and c.method in ("random", "cola_zero")
    ]
    nll = dict(zip(("random", "cola_zero"), reversed(items), strict=True))
    side = Items("side.parquet", (), None)
    value = {"random": float(np.exp(1.63)), "cola_zero": float(np.exp(1.61))}
    records = {c.id: record(c, value[c.method], items=side) for c in cells}
    noise = np.random.default_rng(0).normal(0, 1e-3, 60)
    (judged,) = judge_groups(
        replace(mine, claims=claims),
        groups_of(cells, records),
        columns=lambda r: {
            "chunk_nll": nll[r.cell.axes["method"]]
            + spread
            + (noise if r.cell.axes["method"] == "random" else 0)
        },
    )
    assert judged.evidence["test"] == decided_by
    assert told in judged.sentence
