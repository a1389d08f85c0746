"""Claims over models in the summary, the page and the figures."""

import json
import math
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest
from scipy import stats

from benchsuite.reporting import check_summary, groups_of, over_models, summarise, write_report
from benchsuite.reporting.figures.critical import joined
from benchsuite.reporting.figures.ranks import write_critical_difference
from benchsuite.reporting.tables import to_markdown
from benchsuite.statistics.ranks import Ranks
from benchsuite.study import equivalent, higher, lower, study
from tests.reporting.factory import CALIBRATION, MEANS, drawn, grid, record, results

MODELS = ("tiny_llama_1m", "tiny_llama_4m", "tiny_qwen_1m", "tiny_qwen_4m")
STUDY = study(CALIBRATION)


@pytest.fixture(scope="module")
def cells():
    return grid(*MODELS)


@pytest.fixture(scope="module")
def records(cells):
    return drawn(cells)


@pytest.fixture(scope="module")
def over(cells, records):
    return over_models.over(STUDY, groups_of(cells, records))


def test_each_comparison_claim_has_one_sentence(over):
    asked = [c for c in STUDY.claims if c.kind in ("lower", "higher")]
    assert [row["claim"] for row in over["over_models"]] == [c.sentence for c in asked]
    row = over["over_models"][0]
    for words in (
        "over 4 models: ",
        "ratio 0.9",
        "Holm p",
        "lower on 4 of 4",
        "probability of imp",
    ):
        assert words in row["sentence"]
    assert "Wilcoxon's test cannot reach 0.05 with 4 models" in row["sentence"]
    assert row["family_size"] == len(asked)
    assert row["p_holm"] >= row["p_value"]
    json.dumps(over, allow_nan=False)


def test_a_control_that_must_come_out_does(over):
    control = next(r for r in over["over_models"] if r["other"] == "noise_tokens")
    assert control["control"]
    assert control["outcome"] == "held"


def answer(cells, claim, means=MEANS, *, margin="0.5%", std=0.05):
    """Return what one claim comes to over the models, its metric's smallest effect given."""
    asked = replace(STUDY, claims=(claim,))
    metrics = tuple(
        replace(m, margin=margin) if m.name == "perplexity" else m for m in STUDY.metrics
    )
    records = drawn(cells, means=means, std=std)
    (row,) = over_models.answers(replace(asked, metrics=metrics), groups_of(cells, records))
    return row


BETTER = lower("perplexity", "cola_zero", than="random")


@pytest.mark.parametrize(
    ("margin", "std", "outcome", "verdict", "words"),
    [
        ("0.1%", 0.01, "held", "better", "held, ratio 0.9"),
        ("1.2%", 0.01, "held", "better", "it may be less than 1.2 %, from where on it matters"),
        ("5%", 0.01, "inconclusive", "trivially different", "too small to matter, ratio 0.9"),
        ("0.5%", 0.5, "inconclusive", "inconclusive", "what matters begins at 0.50 %, and "),
        ("0.029", 0.5, "inconclusive", "inconclusive", "what matters begins at 0.50 %, and "),
        ("50%", 0.5, "inconclusive", "equivalent", "no difference that would matter, ratio"),
    ],
)
def test_a_difference_over_models_is_held_against_what_matters(
    cells, margin, std, outcome, verdict, words
):
    row = answer(cells, BETTER, margin=margin, std=std)
    assert (row["outcome"], row["verdict"]) == (outcome, verdict)
    assert words in row["sentence"]


def test_a_null_over_models_says_what_would_have_been_found(cells):
    row = answer(cells, BETTER, std=0.5)
    errors = stats.t.ppf(0.8, row["df"]) + stats.t.ppf(0.975, row["df"])
    assert row["mde"] == pytest.approx(errors * row["error"])
    assert f"{100 * math.expm1(row['mde']):.0f} % or more would be found" in row["sentence"]


@pytest.mark.parametrize(
    ("within", "std", "outcome", "verdict", "words"),
    [
        (0.5, 0.1, "held", "equivalent", "margin ±8.6 %"),
        (0.5, 0.01, "held", "trivially different", ": a difference, and within the margin"),
        (0.02, 0.01, "violated", "better", ": beyond the margin"),
        (0.07, 0.5, "inconclusive", "inconclusive", ": neither shown within nor beyond; a margin"),
    ],
)
def test_equivalence_is_asked_over_models(cells, within, std, outcome, verdict, words):
    means = {**MEANS, "cola_zero": 5.79} if verdict == "equivalent" else MEANS
    claim = equivalent("perplexity", "cola_zero", to="random", within=within)

    row = answer(cells, claim, means, std=std)

    assert (row["outcome"], row["verdict"]) == (outcome, verdict)
    assert words in row["sentence"]
    assert "over 4 models" in row["sentence"]


def collapsed(cell):
    """Return a perplexity that one method has lost on one model, apart from that no scatter."""
    seed = 1 + 1e-3 * cell.seed
    return (MEANS["random"] if cell.method == "random" else 5.0) * (
        1e9 * seed if (cell.method, cell.model) == ("random", MODELS[0]) else seed
    )


def test_what_few_models_cannot_see_is_told_whatever_its_power():
    """Of two models a test has one degree of freedom, and a collapsed one ruins it."""
    cells = grid(*MODELS[:2])
    many = tuple(replace(BETTER, sentence=f"{BETTER.sentence}, {i}") for i in range(40))
    asked = replace(
        STUDY, claims=(*many, equivalent("perplexity", "cola_zero", to="random", within=1))
    )
    records = {c.id: record(c, collapsed(c)) for c in cells}

    rows = over_models.answers(asked, groups_of(cells, records))

    assert len(rows) == 41
    assert re.search(r"and a factor of 10\^\d{3,} or more would be found", rows[0]["sentence"])
    assert re.search(r"a margin of at least a factor of 10\^\d{3,} could", rows[-1]["sentence"])
    json.dumps(rows, allow_nan=False)


def test_models_on_which_methods_are_alike_are_on_neither_side(cells):
    records = {
        c.id: record(c, 5.0 + 0.1 * (c.method == "random") * MODELS.index(c.model)) for c in cells
    }
    for claim, n in ((BETTER, 3), (higher("perplexity", "cola_zero", than="random"), 0)):
        asked = replace(STUDY, claims=(claim,))
        (row,) = over_models.answers(asked, groups_of(cells, records))
        assert f"; {claim.kind} on {n} of 4, alike on 1;" in row["sentence"]


@pytest.mark.parametrize(("unit", "within", "outcome"), [(1e-300, 1e10, "held"), (1e5, 1e-320, "")])
def test_equivalence_is_asked_in_any_unit_or_said_to_have_no_margin(cells, unit, within, outcome):
    off = {c.id: MODELS.index(c.model) * (c.method == "random") for c in cells}
    records = {c.id: record(c, unit * (2 + off[c.id])) for c in cells}
    claim = equivalent("perplexity", "cola_zero", to="random", within=within)
    (row,) = over_models.answers(replace(STUDY, claims=(claim,)), groups_of(cells, records))
    assert row["p_value"] < 1
    assert row["outcome"] == (outcome or "inconclusive")
    assert ("; nothing tells from which size on" in row["sentence"]) == (not outcome)
    json.dumps(row, allow_nan=False)


def test_a_control_counts_however_small_it_is(cells):
    claim = replace(BETTER, control=True)
    row = answer(cells, claim, margin="5%", std=0.01)
    assert (row["outcome"], row["verdict"]) == ("held", "trivially different")


def test_a_model_without_all_its_seeds_is_left_out_and_counted(cells, records):
    some = dict(records)
    gone = next(c for c in cells if (c.model, c.method) == ("tiny_qwen_4m", "random"))
    del some[gone.id]

    rows = over_models.answers(STUDY, groups_of(cells, some))

    by_claim = {(r["method"], r["other"]): r for r in rows}
    assert by_claim["cola_zero", "random"]["n_models"] == 3
    assert "over 3 of 4 declared models" in by_claim["cola_zero", "random"]["sentence"]
    assert by_claim["cola_zero", "gptq_default"]["n_models"] == 4


def test_one_model_is_asked_nothing():
    cells = grid(MODELS[0])
    over = over_models.over(STUDY, groups_of(cells, drawn(cells)))
    assert over == {"over_models": [], "ranks": []}


def test_stand_ins_and_other_settings_are_apart(cells, records):
    other = grid(*MODELS[:2], settings={"quant_bits": 3})
    mixed = groups_of([*cells, *other], [*records.values(), *drawn(other).values()])
    rows = over_models.answers(STUDY, mixed)
    assert {(r["setting"], r["n_models"]) for r in rows} == {("", 4), ("quant bits 3", 2)}

    stand_ins = drawn(cells, change=lambda cell: {"weights": "random", "stand_in": "no weights"})
    kinds = {r["weights"] for r in over_models.answers(STUDY, groups_of(cells, stand_ins))}
    assert kinds <= {"stand_in"}


def test_ranks_leave_the_controls_out(over):
    (ranks,) = over["ranks"]
    assert set(ranks["mean_ranks"]).isdisjoint(STUDY.controls)
    assert sum(ranks["mean_ranks"].values()) == pytest.approx(sum(range(1, 8)))
    assert "Mean ranks of 7 methods over 4 models" in ranks["sentence"]


def test_too_few_models_for_nemenyi_is_said():
    ranks = Ranks(2, {"a": 1.0, "b": 2.0, "c": 3.0}, 4.0, 0.1, None, 1 / 6, 2.34)
    assert "cannot tell any two methods apart" in over_models.ranks_sentence("", ranks)


def test_the_summary_and_its_markdown_hold_them(cells, records, over):
    summary = summarise(STUDY, cells, records, [], over)
    assert summary["_benchsuite"]["over_models"] == over["over_models"]
    markdown = to_markdown(summary)
    assert "## Over models" in markdown
    assert over["over_models"][0]["sentence"] in markdown


def test_the_critical_difference_figure(tmp_path):
    ranks = Ranks(14, {"a": 1.2, "b": 2.0, "c": 3.0, "d": 3.8}, 9.0, 0.01, 4.0, 0.01, 1.25)
    assert joined(ranks.mean_ranks, 1.25) == [(1.2, 2.0), (2.0, 3.0), (3.0, 3.8)]

    png, svg = write_critical_difference(ranks, tmp_path, "cd")

    assert png.stat().st_size > 1000
    ElementTree.fromstring(svg.read_text())
    again = write_critical_difference(ranks, tmp_path / "again", "cd")[1]
    assert again.read_bytes() == svg.read_bytes()


def test_the_report_shows_them_and_draws_the_figure(cells, records, tmp_path):
    found = results(cells, records)

    page = write_report(tmp_path, [found], figures=True)

    text = page.read_text()
    assert "Over models" in text
    assert "over 4 models: " in text
    figure = tmp_path / CALIBRATION / "figures/critical_difference.svg"
    assert figure.is_file()
    assert f"{CALIBRATION}/figures/critical_difference.svg" in text
    summary = json.loads((tmp_path / CALIBRATION / "summary_stats.json").read_text())
    assert summary["_benchsuite"]["ranks"][0]["n_models"] == 4
    assert check_summary(summary).passed


def test_kinds_of_weights_are_apart(cells, records):
    def of(record):
        kind = "embedded" if "tiny_llama" in record.cell.model else "dequantized"
        return replace(record, source=replace(record.source, weights=kind))

    mixed = {i: of(record) for i, record in records.items()}
    rows = over_models.over(STUDY, groups_of(cells, mixed))["over_models"]

    assert {row["setting"] for row in rows} == {"embedded weights", "dequantized weights"}
    assert {row["n_models"] for row in rows} == {2}
