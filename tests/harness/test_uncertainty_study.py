"""The uncertainty study through the command that a user types, at small counts."""

import json
import sys
from pathlib import Path

import pytest

from benchsuite import catalog, models
from benchsuite.evaluation.uncertainty.registry import SCORES
from benchsuite.quantizers import checkpoint, rtn
from benchsuite.records.columns import read_columns
from benchsuite.study import study
from tests import forked
from tests.reporting.factory import undescribed

# All scores of two models in one session; the tour runs some of its cells in every change.
pytestmark = pytest.mark.stress

ROOT = Path(__file__).parents[2]
NLI = ("semantic_discrete", "semantic_nli", "semantic_sets")
EMBEDDED = [name for name in SCORES if name not in (*NLI, "verbalised_confidence")]
ALIKE = {name for name, entry in SCORES.items() if "similarity" in entry.needs}


def run(reports, *words):
    command = [sys.executable, "-m", "pytest", "benchmarks/test_uncertainty.py", *words]
    return forked.run([*command, f"--reports-dir={reports}", "-p", "no:cacheprovider"], ROOT)


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Every score of one embedded model in 8 bits on passages, 60 questions."""
    folder = tmp_path_factory.mktemp("reports")
    chosen = ("-k", "tiny_qwen_4m and 8bit and passages")
    done = run(folder, *chosen, "--set=uncertainty.samples=60", "--set=uncertainty.draws=3")
    assert done.returncode == 0, done.stdout
    return folder


@pytest.fixture(scope="module")
def records(reports):
    paths = (reports / "uncertainty/raw_runs").glob("*.json")
    return {record["method"]: record for record in (json.loads(p.read_text()) for p in paths)}


def test_every_embedded_score_has_its_record(records):
    assert sorted(records) == sorted(EMBEDDED)
    for record in records.values():
        assert record["n_questions"] == record["n_scored"] == 60
        assert 0 <= record["auroc"] <= 1
        low, high = record["auroc_ci95"]
        assert low <= record["auroc"] <= high
        assert record["quantization"] == "benchsuite RTN W8 g128"
        assert record["undefined"] == {}


def test_all_scores_share_one_generation_pass(records, reports):
    assert len(list((reports / "store/artefacts").glob("*/answers.parquet"))) == 1
    cost = {record["generation_time_sec"] for record in records.values()}
    assert len(cost) == 1
    paid = [r for r in records.values() if r["generation_spent_time_sec"] > 0]
    assert len(paid) == 1
    for record in records.values():
        assert record["total_time_sec"] == pytest.approx(
            record["generation_time_sec"] + record["scoring_time_sec"]
        )


def test_the_similarity_is_named_where_one_was_used(records):
    named = {method for method, record in records.items() if record.get("similarity")}
    assert named == ALIKE
    assert records["sar"]["similarity"] == "lexical"


def test_g_nll_tells_wrong_answers_and_the_control_does_not(records):
    low, high = records["shuffled"]["auroc_ci95"]
    assert low < 0.5 < high
    assert records["g_nll"]["auroc_ci95"][0] > 0.5


def test_parts_are_reported_together_and_apart(records):
    whole = records["g_nll"]
    parts = whole["parts"]
    assert parts["answerable"]["n_questions"] + parts["unanswerable"]["n_questions"] == 60
    assert sum(p["abstained"] for p in parts.values()) == whole["abstained"]
    assert len(whole["rejection_accuracy"]) == 20
    assert whole["rejection_accuracy"][-1] == pytest.approx(whole["accuracy"])


def test_the_rows_hold_every_question_with_its_tokens(records, reports):
    columns = read_columns(reports / "store/records" / records["g_nll"]["items"]["file"])
    assert len(set(columns["question_id"])) == 60
    tokens = [json.loads(row) for row in columns["tokens"]]
    for row, uncertainty, answer in zip(
        tokens, columns["uncertainty"], columns["answer"], strict=True
    ):
        assert -sum(log_p for _, log_p in row) == pytest.approx(uncertainty)
        assert "".join(piece for piece, _ in row) == answer
    assert columns["correct"].sum() == 60 - records["g_nll"]["n_wrong"]


@pytest.mark.parametrize(
    ("half", "said"),
    [
        ("correctness=judge", "uncertainty.judge_model="),
        ("judge_model=tiny_llama_4m", "uncertainty.correctness=judge"),
    ],
)
def test_half_of_what_a_judge_needs_is_one_paragraph(half, said, tmp_path):
    """A judge whom nobody asked was passed over: answers were graded by F1 without a word."""
    done = run(
        *(tmp_path, "-k", "tiny_llama_1m and passages and g_nll"),
        *("--set=uncertainty.samples=2", f"--set=uncertainty.{half}"),
    )
    assert done.returncode == 1
    assert said in done.stdout.split("==== benchsuite ====")[0]
    assert "Traceback" not in done.stdout


def test_a_given_checkpoint_is_asked_as_it_is_and_not_rounded_again(tmp_path):
    lease = models.load(catalog.model("tiny_qwen_4m"))
    rtn.quantize(lease.model, bits=4)
    checkpoint.save(lease.model, tmp_path / "w4", tokenizer=lease.tokenizer)
    chosen = ("-k", "tiny_qwen_4m and passages and g_nll and not 4bit and not gptq and not rw")
    small = ("--set=uncertainty.samples=4", "--set=uncertainty.draws=1", "--seeds=42")
    given = f"--checkpoint=tiny_qwen_4m={tmp_path / 'w4'}"
    done = run(tmp_path / "reports", *chosen, *small, given)
    assert "precision=8bit would quantize again" in done.stdout
    (path,) = (tmp_path / "reports").glob("checkpoint/uncertainty/raw_runs/*.json")
    found = json.loads(path.read_text())
    assert found["weights"] == "checkpoint"
    assert found["quantization"] == "as given with --checkpoint"


def test_the_session_ends_with_the_studys_own_files(reports):
    folder = reports / "uncertainty"
    summary = json.loads((folder / "analysis_summary.json").read_text())
    assert summary["population"] == "embedded models"
    assert [q["outcome"] for q in summary["questions"]] == ["not run"] * 5
    rows = json.loads((folder / "auroc_results.json").read_text())
    assert [(row["model"], row["precision"]) for row in rows] == [("tiny_qwen_4m", "8bit")]
    assert (folder / "figures/auroc_heatmap.svg").exists()
    assert "uncertainty/figures/key_findings.png" in (reports / "index.html").read_text()


# --- the declared grid


def cells():
    return list(study("uncertainty").cells())


def test_models_meet_the_data_sets_and_precisions_that_are_theirs():
    for cell in cells():
        embedded = catalog.model(cell.model).embedded
        assert embedded == catalog.task(cell["dataset"]).embedded
        assert not (embedded and cell.method not in EMBEDDED)
    kinds = {(cell.model, cell["precision"]) for cell in cells()}
    eight = {model for model, precision in kinds if precision == "8bit"}
    assert eight >= {"llama3_8b", "qwen2_5_7b", "mistral_v0_3_base", "mistral_v0_3_instruct"}
    assert {(model, "fp16") for model in eight} <= kinds


def test_parameters_are_those_of_the_methods_that_have_them():
    for cell in cells():
        assert ("similarity_model" in cell.parameters) == (cell.method in ALIKE)
        assert ("nli_model" in cell.parameters) == (cell.method in NLI)
        assert ("demonstrations" in cell.parameters) == (cell.method == "p_true")


def test_the_page_states_the_declared_grid():
    page = (ROOT / "docs/studies/uncertainty.md").read_text()
    for values in study("uncertainty").axes.values():
        assert all(f"`{value}`" in page for value in values)
    embedded = [cell for cell in cells() if catalog.model(cell.model).embedded]
    assert f"{len(cells())} cells, {len(embedded)} of them embedded" in page


def test_the_study_says_what_each_column_of_its_records_is(reports):
    assert undescribed(reports) == []
