"""The family question: models are compared with models of like size, on the same questions."""

from dataclasses import replace

import pytest

from benchsuite.studies.uncertainty.analysis import result_rows
from benchsuite.studies.uncertainty.questions import answer_questions
from benchsuite.studies.uncertainty.runs import Run, runs_of, sized, sizes
from tests.studies.uncertainty.grid import EASY, HARD, Grid

SMALL = ("llama3_2_1b", "qwen2_5_1_5b")
LARGE = ("llama3_8b", "qwen2_5_7b")


def family_question(chosen, easy):
    grid = Grid(
        lambda cell: (
            cell.method == "g_nll"
            and cell["dataset"] == "trivia_qa"
            and cell["precision"] != "4bit"
            and chosen(cell)
        ),
        lambda cell: EASY if easy(cell) else HARD,
    )
    return answer_questions(runs_of(grid.records, grid.columns))[1]


def test_a_larger_model_s_lead_is_not_its_family_s():
    """A small model of one family beside a large one of another says nothing of families."""
    chosen = ("llama3_2_1b", "qwen2_5_7b")
    found = family_question(lambda c: c.model in chosen, lambda c: c.model == "qwen2_5_7b")
    assert found.outcome == "not run"
    assert "like size" in found.sentence


def test_sizes_that_one_family_lacks_do_not_count_for_the_other():
    """Three of the models tie at their size; the family that has a small one is no worse for it."""
    chosen = (*SMALL[:1], *LARGE)
    found = family_question(lambda c: c.model in chosen, lambda c: c.model in LARGE)
    (pair,) = found.pairs
    (matched,) = pair["matched"]
    assert {name in matched for name in LARGE} == {True}
    assert "llama3_2_1b" not in matched
    assert found.p_holm > 0.05


def test_models_are_matched_by_size_precision_and_tuning():
    found = family_question(lambda c: True, lambda c: "qwen" in c.model)
    assert found.outcome == "answered"
    assert found.contrast.startswith("qwen minus ")
    matched = [name for pair in found.pairs for name in pair["matched"]]
    assert sorted(matched) == [
        "qwen2_5_1_5b minus llama3_2_1b, trivia_qa",
        "qwen2_5_7b minus llama3_8b, trivia_qa",
        "qwen2_5_7b minus mistral_v0_3_base, trivia_qa",
    ]
    assert found.p_value == pytest.approx(3 * max(pair["p_value"] for pair in found.pairs))


def test_in_reduced_precision_both_are_reduced():
    found = family_question(
        lambda c: c.model in LARGE and c["precision"] == "8bit", lambda c: "qwen" in c.model
    )
    assert found.pairs[0]["matched"] == ["qwen2_5_7b 8bit minus llama3_8b 8bit, trivia_qa"]


@pytest.mark.parametrize(
    ("model", "tuned"),
    [("mistral_v0_3_instruct", True), ("mistral_v0_3_base", False), ("smollm2_135m_q4", True)],
)
def test_tuning_is_told_by_the_catalogue(model, tuned):
    assert Run(model, "fp16", "nq", 1, {}, lambda record: {}).tuned is tuned


def test_a_model_that_the_catalogue_does_not_know_is_of_no_size_and_no_other_family():
    """A session's ``--model`` is unknown to the report that another session makes."""
    grid = Grid(lambda c: c.method == "g_nll" and c["dataset"] == "trivia_qa" and c.model in SMALL)
    renamed = []
    for record in grid.records:
        axes = dict(record.cell.axes) | {"model": f"my_{record.cell.model}"}
        renamed.append(replace(record, cell=replace(record.cell, axes=axes)))
    runs = runs_of([*grid.records, *renamed], grid.columns)
    found = sizes(runs)
    assert {found[f"my_{name}"] for name in SMALL} == {"unknown"}
    assert len(sized(runs)) == len(grid.records)
    assert [run.family for run in runs if run.model.startswith("my_")] == [
        run.model for run in runs if run.model.startswith("my_")
    ]
    pairs = answer_questions(runs)[1].pairs
    assert not any("my_" in name for pair in pairs for name in pair["matched"])
    rows = {row["model"]: row for row in result_rows(runs)}
    assert rows["my_llama3_2_1b"]["parameters"] is None
    assert rows["llama3_2_1b"]["parameters"] > 1e9
