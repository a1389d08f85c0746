"""Worked examples of a set that has one split: taken from it, and not asked."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest

from benchsuite.catalog import Sources
from benchsuite.embedded import tasks
from benchsuite.evaluation.uncertainty import answers
from benchsuite.harness import inputs
from tests import forked

ROOT = Path(__file__).parents[2]
N = 10


def run(reports, file, *words):
    command = [sys.executable, "-m", "pytest", f"benchmarks/{file}", *words]
    done = forked.run([*command, f"--reports-dir={reports}", "-p", "no:cacheprovider"], ROOT)
    assert done.returncode == 0, done.stdout
    return {
        record["method"]: record
        for path in reports.glob("*/raw_runs/*.json")
        for record in [json.loads(path.read_text())]
    }


@pytest.mark.stress
def test_quantizers_ask_what_is_left_of_a_set_with_one_split(tmp_path):
    rows = "".join(f"Question {i}?,a,b,c,d,{'ABCD'[i % 4]}\n" for i in range(N))
    (tmp_path / "virology_test.csv").write_text(rows)
    settings = (
        "arc_task=mmlu",
        "arc_form=letters",
        f"n_questions={N}",
        "shots=3",
        "maths_new_tokens=8",
        "evaluation_tokens=512",
        "seq_len=64",
        "pool_documents=64",
        "n_calibration_samples=4",
    )
    records = run(
        tmp_path / "reports",
        "test_quantizers.py",
        "-ktiny_llama_1m and seed42 and fp16",
        f"--local=mmlu={tmp_path}",
        *(f"--set=quantizers.{setting}" for setting in settings),
    )
    sets = records["fp16"]["question_sets"]
    kept = {"task": "mmlu", "examples_from": "test", "shots": 3, "n": N - 3}
    assert kept.items() <= sets["arc"].items()
    kept = {"examples_from": "train", "shots": 3, "n": N}
    assert kept.items() <= sets["squad"].items()


@pytest.mark.stress
def test_uncertainty_never_asks_an_example(tmp_path):
    items = tasks.items("closed_book", "test")[:N]
    lines = "".join(json.dumps(dataclasses.asdict(item)) + "\n" for item in items)
    (tmp_path / "test.jsonl").write_text(lines)
    settings = ("samples=100", "examples=2", "draws=2")
    records = run(
        tmp_path / "reports",
        "test_uncertainty.py",
        "-ktiny_llama_1m and fp16 and closed_book and g_nll",
        f"--local=closed_book={tmp_path / 'test.jsonl'}",
        *(f"--set=uncertainty.{setting}" for setting in settings),
    )
    assert records["g_nll"]["examples_from"] == "test"
    assert records["g_nll"]["n_questions"] == N - N // 5
    (made,) = (tmp_path / "reports/store/artefacts").glob("*/answers.parquet")
    asked = answers.load(made.parent).asked
    assert len({one.question.id for one in asked}) == N - N // 5


def test_changed_examples_change_what_a_cell_that_shows_them_is_known_by(tmp_path):
    def written(split, answer):
        row = {"question": "How many?", "answer": f"#### {answer}"}
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(row) + "\n")
        return inputs._split_digest("gsm8k", "train", Sources(local={"gsm8k": tmp_path}))

    assert written("test", 1) == "", "no split of examples: they are of the asked one"
    assert len({written("train", 1), written("train", 2), ""}) == 3
