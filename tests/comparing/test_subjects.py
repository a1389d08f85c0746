"""MMLU's subjects are one metric with clusters; nothing else is put together."""

import json

import numpy as np
import pytest

from benchsuite.commands.main import main
from benchsuite.comparing.loss import loss_of
from benchsuite.comparing.pairs import PairedItems
from benchsuite.comparing.subjects import grouped

SUBJECTS = ("law", "physics", "virology", "us_history")


def evaluation(folder, seed, tasks=SUBJECTS, prefix="mmlu_", n=40):
    """Write lm-eval's files as `--tasks mmlu --log_samples` does; answers are the seed's."""
    folder.mkdir()
    for i, task in enumerate(tasks):
        rng = np.random.default_rng([seed, i])
        rows = [
            {"doc_id": j, "doc_hash": f"{task}{j}", "metrics": ["acc"], "filter": "none"}
            | {"acc": float(rng.random() < 0.5)}
            for j in range(n)
        ]
        name = f"samples_{prefix}{task}_2026-11-26T12-00-00.000000.jsonl"
        (folder / name).write_text("\n".join(map(json.dumps, rows)))
    return str(folder)


@pytest.fixture
def words(tmp_path):
    return ["--samples", evaluation(tmp_path / "a", 0), evaluation(tmp_path / "b", 1)]


def test_subjects_are_one_metric(words, tmp_path, capsys):
    assert main(["compare", *words, f"--json={tmp_path / 'json'}"]) == 0
    said = capsys.readouterr().out
    (metric,) = json.loads((tmp_path / "json").read_text())["metrics"]
    assert metric["metric"] == "accuracy:mmlu"
    assert (metric["n_items"], metric["n_clusters"]) == (160, 4)
    assert "law" not in said


def test_each_subject_is_told_on_request(words, capsys):
    assert main(["compare", *words, "--subjects"]) == 0
    lines = capsys.readouterr().out.splitlines()
    told = [line for line in lines if line.startswith("mmlu_")]
    assert [line.partition(":")[0] for line in told] == [f"mmlu_{s}" for s in sorted(SUBJECTS)]
    assert all(line.endswith("gained of 40") for line in told)
    judged = {line.split()[0].rstrip(":") for line in lines if line.startswith("accuracy:")}
    assert judged == {"accuracy:mmlu"}


def test_a_gate_has_one_margin_for_the_group(words, capsys):
    assert main(["gate", *words, "--margin", "accuracy:mmlu=40"]) in (0, 3)
    assert main(["gate", *words, "--margin", "accuracy:mmlu_law=40"]) == 4
    assert "is of a metric that is not measured" in capsys.readouterr().err


def test_a_subject_alone_and_other_tasks_stay_what_they_are(tmp_path):
    both = [evaluation(tmp_path / name, seed, ("law",)) for seed, name in enumerate(("a", "b"))]
    assert main(["compare", "--samples", *both, f"--json={tmp_path / 'json'}"]) == 0
    (metric,) = json.loads((tmp_path / "json").read_text())["metrics"]
    assert (metric["metric"], metric["n_clusters"]) == ("accuracy:mmlu_law", None)
    one = PairedItems("accuracy:arc_easy", ("0",), np.ones(1), np.ones(1))
    other = PairedItems("accuracy:arc_challenge", ("0",), np.ones(1), np.ones(1))
    assert grouped([one, other]) == ((one, other), ())


def test_a_variant_is_a_group_of_its_own():
    names = ("mmlu_law", "mmlu_art", "mmlu_pro_law", "mmlu_pro_art")
    found = [PairedItems(f"accuracy:{n}/acc", ("0", "1"), np.ones(2), np.zeros(2)) for n in names]
    groups, subjects = grouped(found)
    assert [items.metric for items in groups] == ["accuracy:mmlu/acc", "accuracy:mmlu_pro/acc"]
    assert groups[1].ids == ("law/0", "law/1", "art/0", "art/1")
    assert groups[1].clusters == ("law", "law", "art", "art")
    assert subjects == tuple(found)


def test_subjects_that_move_together_widen_the_interval():
    """A loss of whole subjects says less of others than the same loss of scattered questions."""
    rng = np.random.default_rng(0)
    lost = rng.random(40) < 0.25
    found = [
        PairedItems(f"accuracy:mmlu_{i}", tuple("0123456789"), np.ones(10), np.full(10, 1.0 - gone))
        for i, gone in enumerate(lost)
    ]
    ((together,), _) = grouped(found)
    apart = PairedItems("accuracy:mmlu", together.ids, together.base, together.candidate)
    widths = [np.diff(loss_of(each).interval(0.05))[0] for each in (together, apart)]
    assert widths[0] > 2.5 * widths[1]


@pytest.mark.parametrize("command", ["compare", "gate"])
def test_a_subject_with_nearly_all_questions_leaves_no_interval(command, tmp_path, capsys):
    small = tuple(f"s{n}" for n in range(60))
    both = [
        evaluation(tmp_path / name, seed, ("law",), n=2000) for seed, name in enumerate(("a", "b"))
    ]
    for folder, right in zip(both, (1.0, 0.0), strict=True):
        for task in small:
            row = {"doc_id": 0, "doc_hash": task, "metrics": ["acc"], "filter": "none"}
            name = f"samples_mmlu_{task}_2026-11-26T12-00-00.000000.jsonl"
            (tmp_path / folder / name).write_text(json.dumps(row | {"acc": right}))
    written = [f"--json={tmp_path / 'json'}", f"--markdown={tmp_path / 'md'}"]

    assert main([command, "--samples", *both, *written]) == (0 if command == "compare" else 3)

    told = capsys.readouterr().out
    assert "(no interval) points" in told
    assert "accuracy:mmlu: one cluster holds nearly all, which says nothing of others" in told
    (metric,) = json.loads((tmp_path / "json").read_text())["metrics"]
    assert (metric["low"], metric["high"], metric["items_needed"]) == (None, None, None)
    assert metric["n_clusters"] == 61
