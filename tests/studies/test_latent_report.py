"""The latent-reasoning document's files, from records made by hand."""

import csv
import shutil
import subprocess

import numpy as np
import pytest
import yaml

from benchsuite.records.fingerprint import Fingerprint
from benchsuite.records.record import CellFacts, Record, Source
from benchsuite.reporting import check_summary
from benchsuite.reporting.checking.files import read
from benchsuite.statistics import describe
from benchsuite.studies.latent_reasoning.report import SETS, write

SEEDS = (42, 43, 44)
ACCURACY = {"kava": (56.0, 57.0, 55.0), "full_cot": (61.0, 62.0, 61.5)}


def record(method, seed, accuracy, asked="gsm8k", changed=None, **changes):
    axes = {"model": "llama3_2_1b", "steps": "equations", "method": method, "asked": asked}
    values = {
        "accuracy": accuracy,
        "accuracy_stderr": (accuracy * (100 - accuracy) / 1319) ** 0.5,
        "forward_passes": 7.0,
        "thinking_passes": 4.0,
        "parse_rate": 100.0,
        "n_items_asked": 1319,
    }
    cell = CellFacts("latent_reasoning", "id", "name", {**axes, "seed": seed}, {}, changed or {})
    source = Source(**{"weights": "hub", **changes})
    return Record(cell, Fingerprint("i", "c", "e"), source=source, values=values)


@pytest.fixture
def records():
    return [
        record(method, seed, accuracy)
        for method, values in ACCURACY.items()
        for seed, accuracy in zip(SEEDS, values, strict=True)
    ]


def paper(folder):
    with open(folder / "paper_results.csv") as file:
        return {row["Method"]: row for row in csv.DictReader(file)}


def test_the_documents_tree_and_keys(records, tmp_path):
    written = write(records, tmp_path, lambda record: {})
    folder = tmp_path / "llama1b_gsm8k-aug" / "kava"
    assert (folder / "seed_43" / "results_gsm8k.yaml") in written
    summary = yaml.safe_load((folder / "summary.yaml").read_text())["gsm8k"]
    expected = describe(ACCURACY["kava"])
    assert summary["accuracy_mean"] == expected.mean
    assert summary["accuracy_std"] == pytest.approx(expected.std)
    assert summary["forward_passes_std"] == 0
    assert summary["n_seeds"] == 3
    seeds = yaml.safe_load((folder / "all_seeds_results.yaml").read_text())
    assert seeds["seed_44"]["gsm8k"]["accuracy"] == 55.0
    assert seeds["seed_44"]["gsm8k"]["accuracy_ci95"] == pytest.approx([52.3, 57.6], abs=0.05)
    assert (folder / "summary.csv").read_text().startswith("dataset,accuracy_mean,accuracy_std")
    assert all(path.is_file() for path in written)


def test_the_check_reads_every_file(tmp_path):
    # Whole numbers of the 1,319 problems: others are found out.
    right = {"kava": (738, 752, 725), "full_cot": (805, 818, 811)}
    records = [
        record(method, seed, 100 * n / 1319)
        for method, counts in right.items()
        for seed, n in zip(SEEDS, counts, strict=True)
    ]
    files = write(records, tmp_path, lambda record: {})
    checked = {
        path: check_summary(read(path)) for path in files if path.suffix in (".yaml", ".csv")
    }
    assert len(checked) == 13
    for path, found in checked.items():
        assert found.passed, (path, found.findings, found.sentence)

    table = tmp_path / "paper_results.csv"
    table.write_text(table.read_text().replace("± 1.02", "± 0.10"))
    assert "std 0.1 is highly stable, not normal" in check_summary(read(table)).findings[0].message
    write([record("kava", 42, 56.301)], tmp_path, lambda record: {})
    results = tmp_path / "llama1b_gsm8k-aug/kava/seed_42/results_gsm8k.yaml"
    assert "no whole number" in check_summary(read(results)).findings[0].message


def test_the_papers_table_marks_what_is_published_and_judges_two_stds(records, tmp_path):
    write(records, tmp_path, lambda record: {})
    row = paper(tmp_path)["kava"]
    assert (row["Model"], row["Training Data"]) == ("LLaMA 3.2-1B", "GSM8k-AUG")
    assert row["GSM8k Acc (%)"] == "56.00 ± 1.00"
    assert (row["Published [S]"], row["Difference"]) == ("56.5", "-0.50")
    # 56 + 2 * 1 < 61.5 - 2 * 0.5: no overlap.
    assert row["2-std rule against full_cot"] == "lower"
    tex = (tmp_path / "paper_results.tex").read_text()
    assert r"\quad kava & 56.00 $\pm$ 1.00 & 7.0 &  &  \\" in tex
    assert r"\quad kava & normal variation & lower & 56.5 & $-$0.50 \\" in tex


def test_the_papers_tables_fit_a_page(records, tmp_path):
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    long = [record("kava_no_projection", s, 50.0 + s, asked) for s in SEEDS for asked in SETS]
    write([*records, *long], tmp_path, lambda record: {})
    (tmp_path / "t.tex").write_text(
        r"\documentclass{article}\usepackage{booktabs}\begin{document}"
        r"\input{paper_results}\end{document}"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "Overfull" not in done.stdout


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": "random"},
        {"weights": "checkpoint"},
        {"stand_in": "another configuration"},
    ],
)
def test_what_is_not_the_study_itself_is_left_out(changes, records, tmp_path):
    write([*records, record("no_cot", 42, 99.0, **changes)], tmp_path, lambda record: {})
    assert set(paper(tmp_path)) == {"kava", "full_cot"}


def test_one_seed_has_no_deviation(tmp_path):
    write([record("kava", 42, 50.0)], tmp_path, lambda record: {})
    assert paper(tmp_path)["kava"]["GSM8k Acc (%)"] == "50.00"


def test_configurations_of_one_file_name_do_not_share_a_folder(tmp_path):
    mine = []
    for place, accuracy in (("a", 10.0), ("b", 20.0)):
        mine.append(record("kava", 42, accuracy, changed={"config": f"{place}/own.yaml"}))
    write(mine, tmp_path, lambda record: {})
    found = [yaml.safe_load(path.read_text()) for path in tmp_path.glob("*/kava/summary.yaml")]
    assert {summary["gsm8k"]["accuracy_mean"] for summary in found} == {10.0, 20.0}


def test_latents_are_shown_as_words_and_accuracy_by_steps(tmp_path):
    """Two seeds of the same four problems; words are the first seed's."""
    items = {
        42: {
            "question": ["a", "b", "c", "d"],
            "expected": ["7", "8", "9", "9"],
            "prediction": [1234567.25, float("nan"), 9.0, 9.0],
            "n_steps": np.array([1, 1, 2, 2]),
            "correct": np.array([True, False, True, True]),
            "latents": ['[["7", " +"], ["\\n", "x"]]'] * 4,
        }
    }
    items[43] = items[42] | {"correct": np.array([False, False, True, False])}
    records = [record("kava", seed, 50.0) for seed in (42, 43)]
    written = write(records, tmp_path, lambda r: items[r.cell.seed])
    assert {tmp_path / "latent_words.csv", tmp_path / "accuracy_by_steps.csv"} <= set(written)
    with open(tmp_path / "latent_words.csv") as file:
        words = list(csv.DictReader(file))
    assert [(w["Seed"], w["Problem"], w["Answer"]) for w in words[:2]] == [
        ("42", "a", "1234567.25"),  # all digits: 1.23457e+06 looked like a wrong answer
        ("42", "b", "nan"),
    ]
    assert len(words) == 4
    assert words[0]["Latents"] == r"7 / + | \n / x"
    with open(tmp_path / "accuracy_by_steps.csv") as file:
        steps = list(csv.DictReader(file))
    found = [(row["Steps"], row["Problems"], row["Accuracy (%)"]) for row in steps]
    assert found == [("1", "2", "25.0"), ("2", "2", "75.0")]


def test_without_items_nothing_is_said_of_what_is_inside(records, tmp_path):
    write(records, tmp_path, lambda record: {})
    assert not (tmp_path / "latent_words.csv").exists()
    assert not (tmp_path / "accuracy_by_steps.csv").exists()
