"""Items by their names and clusters: what the records lack, or say differently, is told."""

from dataclasses import replace

import numpy as np
import pytest

from benchsuite.records.record import Items
from benchsuite.reporting import judge_study
from benchsuite.study import PERPLEXITY
from tests.reporting.factory import drawn, grid, results


def judged_on(columns, **metric):
    """Judge two methods whose records hold ``columns(method)``: the first comparison."""
    cells = grid("llama2_7b", methods=["random", "cola_zero"])
    facts = {"items": Items("x.parquet", ("chunk", "chunk_nll"), None)}
    made = results(cells, drawn(cells, change=lambda c: facts))
    made.study = replace(made.study, metrics=(replace(PERPLEXITY, **metric),))
    judged = judge_study(made, columns=lambda found: columns(found.cell.method))
    return next(j for j in judged if j.claim.kind == "lower")


def items_of(method, *names, n=40):
    """Return columns of ``n`` chunks; those of random are a little worse."""
    worse = 0.01 if method == "random" else 0.0
    found = {"chunk_nll": np.random.default_rng(0).normal(2, 0.5, n) + worse}
    return found | {name: np.array([f"{name} {i // 4}" for i in range(n)]) for name in names}


@pytest.mark.parametrize(
    ("declared", "held", "told"),
    [
        ({"ids": "chnuk"}, (), "No column 'chnuk' names the items of cola_zero and random: they "
         "are paired by place."),
        ({"ids": "", "clusters": "pasage"}, ("passage",), "No column 'pasage' says what the items "
         "of cola_zero and random share: each counts as independent."),
        ({"ids": "", "clusters": "passage"}, ("passage",), ""),
        ({"ids": "", "clusters": ""}, (), ""),
    ],
)  # fmt: skip
def test_a_misspelt_column_of_names_or_clusters_is_named_where_items_are_compared(
    declared, held, told
):
    found = judged_on(lambda method: items_of(method, *held), **declared)

    assert found.evidence["items"]["by"] == "place"
    assert told in found.sentence
    assert ("No column" in found.sentence) is bool(told)


def test_items_named_in_the_records_of_one_method_alone_are_not_paired_by_place():
    def columns(method):
        named = {"chunk": np.array([f"c{i}" for i in range(40)])}
        return items_of(method) | (named if method == "random" else {})

    found = judged_on(columns, clusters="")

    assert not found.evidence["items"]["defined"]
    assert "Over items nothing is said: some records name their items and others do not." in (
        found.sentence
    )
    assert "No column 'chunk' names the items of cola_zero." in found.sentence


def test_names_that_two_methods_spell_differently_are_counted_where_items_are_compared():
    def columns(method):
        typo = {7: "c7 "} if method == "random" else {}
        return items_of(method) | {"chunk": np.array([typo.get(i, f"c{i}") for i in range(40)])}

    found = judged_on(columns, clusters="")

    assert "Over the 39 shared items, paired, without 2 items that one of them alone has:" in (
        found.sentence
    )


def test_items_that_two_methods_group_differently_are_told():
    def columns(method, moved=True):
        group = [f"{method} {i // 4}" for i in range(40)]
        if method == "random" and moved:
            group[5] = "random 9"
        chunk = np.array([f"c{i}" for i in range(40)])
        return items_of(method) | {"chunk": chunk, "passage": np.array(group)}

    told = "The records disagree about which items belong together by 'passage'."
    assert told in judged_on(columns, clusters="passage").sentence
    alike = judged_on(lambda method: columns(method, moved=False), clusters="passage")
    assert told not in alike.sentence
    assert alike.evidence["items"]["n_units"] == 10
