"""Two evaluations that Inspect made: its logs, as JSON and as .eval, paired by id."""

import json
import zipfile
from pathlib import Path

import pytest

from benchsuite.comparing.samples import paired
from benchsuite.errors import BenchsuiteError, UsageError
from tests.comparing.paired import by_metric


def inspects(grades, scorer="match", epochs=1):
    """A log as Inspect writes it: grades by sample, one for each epoch."""
    return {
        "version": 2,
        "status": "success",
        "eval": {"task": "inspect_evals/gsm8k", "model": "mockllm/model"},
        "samples": [
            {"id": key, "epoch": epoch + 1, "scores": {scorer: {"value": values[epoch]}}}
            for key, values in grades.items()
            for epoch in range(epochs)
        ],
    }


def zipped(path, log):
    samples = log.pop("samples")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for sample in samples:
            name = f"samples/{sample['id']}_epoch_{sample['epoch']}.json"
            archive.writestr(name, json.dumps(sample))
        archive.writestr("header.json", json.dumps(log))
    return path


def test_inspects_logs_are_read_as_json_and_as_eval(tmp_path):
    base = tmp_path / "a.json"
    base.write_text(json.dumps(inspects({1: "C", 2: "I", 3: "C"})))
    other = zipped(tmp_path / "b.eval", inspects({1: "C", 2: "C", 3: "I", 4: "C"}))

    found = paired(base, other)

    (items,) = found.items
    assert items.metric == "accuracy:gsm8k"
    assert (items.ids, items.base.tolist(), items.candidate.tolist()) == (
        ("1", "2", "3"),
        [1, 0, 1],
        [1, 1, 0],
    )
    assert found.notes == ("gsm8k/match: 1 item (4) only in the candidate, left out",)


def test_ids_that_inspect_numbered_by_place_stand_for_one_question(tmp_path):
    """Samples without ids are counted: shuffled, the first of one log is the third of another."""

    def log(name, *questions, message=""):
        made = inspects({place + 1: "C" for place in range(len(questions))})
        for sample, question in zip(made["samples"], questions, strict=True):
            words = {"id": f"{name} {question}", "role": "user", "content": question}
            sample["input"] = [words] if message else question
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(made))
        return path

    base = log("a", "1+1", "2+2", "3+3")
    assert paired(base, log("b", "1+1", "2+2")).items[0].ids == ("1", "2")
    told = "2 of 3 ids stand for other questions on either side, the first is gsm8k/1"
    with pytest.raises(UsageError, match=told):
        paired(base, log("c", "3+3", "2+2", "1+1"))
    chats = [log(name, "1+1", "2+2", message="user") for name in "de"]
    assert len(paired(*chats).items[0].ids) == 2


def test_a_file_of_inspect_itself_is_read():
    """Written by inspect_ai 0.3.285, which packs by Zstandard: four sums, of which one is wrong."""
    path = Path(__file__).with_name("inspect_sums.eval")

    found = by_metric(paired(path, path))

    items = found["accuracy:sums/match"]
    right = dict(zip(items.ids, items.base.tolist(), strict=True))
    assert right == {"q0": 1, "q1": 0, "q2": 1, "q3": 1}
    assert set(found) == {"accuracy:sums/match", "accuracy:sums/f1"}


def test_a_damaged_file_of_inspect_is_refused(tmp_path):
    whole = bytearray(Path(__file__).with_name("inspect_sums.eval").read_bytes())
    start = whole.index(b"samples/q1_epoch_1.json") + 60
    whole[start : start + 8] = bytes(8)
    path = tmp_path / "a.eval"
    path.write_bytes(whole)

    with pytest.raises(BenchsuiteError, match="cannot be read as Inspect's"):
        paired(path, path)


def test_epochs_of_one_sample_are_one_item(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(inspects({"x": ["C", "I"], "y": ["C", "P"]}, epochs=2)))

    (items,) = paired(path, path).items

    assert items.metric == "score:gsm8k"
    assert dict(zip(items.ids, items.base, strict=True)) == {"x": 0.5, "y": 0.75}


def test_a_scorer_with_several_values_is_as_many_metrics(tmp_path):
    path = tmp_path / "a.json"
    log = inspects({1: [{"f1": 0.5, "exact": True, "said": "four"}]}, scorer="squad")
    path.write_text(json.dumps(log))

    found = paired(path, path)

    assert set(by_metric(found)) == {"score:gsm8k/squad.f1", "accuracy:gsm8k/squad.exact"}
    assert found.notes == ("gsm8k/squad.said: not judged",)
