"""Where worked examples come from: the set's split for them, or else the one that is asked."""

import json

import pytest

from benchsuite.corpora import load_task, worked_examples
from benchsuite.errors import BenchsuiteError
from tests.corpora import test_public as hub
from tests.corpora.local import at


@pytest.fixture
def gsm8k(tmp_path):
    for split, n in (("test", 3), ("train", 2)):
        lines = [hub.gsm8k_row(f"#### {i}") for i in range(n)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    return tmp_path


def test_they_come_from_the_train_split(gsm8k):
    asked = load_task("gsm8k", "test", at("gsm8k", gsm8k))
    items, split = worked_examples("gsm8k", asked, 5, at("gsm8k", gsm8k))
    assert (split, len(items)) == ("train", 2)


@pytest.mark.parametrize("given", ["folder", "file"])
def test_without_a_train_split_they_come_from_the_asked_one(given, gsm8k):
    (gsm8k / "train.jsonl").unlink()
    sources = at("gsm8k", gsm8k if given == "folder" else gsm8k / "test.jsonl")
    asked = load_task("gsm8k", "test", sources)
    assert worked_examples("gsm8k", asked, 5, sources) == (asked.items, "test")


def test_a_set_that_is_asked_in_its_train_split_has_no_other(tmp_path):
    (tmp_path / "train.jsonl").write_text(json.dumps({"input": "How many?", "target": 3}))
    asked = load_task("gsm_hard", "train", at("gsm_hard", tmp_path))
    assert worked_examples("gsm_hard", asked, 1, at("gsm_hard", tmp_path)) == (asked.items, "train")


def test_none_are_read_where_none_are_wanted(gsm8k):
    asked = load_task("gsm8k", "test", at("gsm8k", gsm8k))
    (gsm8k / "train.jsonl").write_text("damaged")
    assert worked_examples("gsm8k", asked, 0, at("gsm8k", gsm8k)) == ((), "")
    with pytest.raises(BenchsuiteError, match="line 1 is not a JSON object"):
        worked_examples("gsm8k", asked, 1, at("gsm8k", gsm8k))


def test_mmlus_come_from_its_dev_split(tmp_path):
    for split, question in (("test", "Which?"), ("dev", "When?"), ("val", "Where?")):
        (tmp_path / split).mkdir()
        row = f"{question},a,b,c,d,A\n"
        (tmp_path / split / f"virology_{split}.csv").write_text(row)
    asked = load_task("mmlu", "test", at("mmlu", tmp_path))
    (item,), split = worked_examples("mmlu", asked, 1, at("mmlu", tmp_path))
    assert (item.question, split) == ("When?", "dev")
