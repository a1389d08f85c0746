"""Which files of a folder are one split."""

import json

import pytest

from benchsuite.corpora import files, load_task, load_text
from benchsuite.errors import UsageError
from tests.corpora.local import at


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps({"text": name}) + "\n")


def read(folder, split="test"):
    return load_text("wikitext2", split, at("wikitext2", folder)).documents


@pytest.mark.parametrize(
    "names",
    [
        [f"test-{i:05d}-of-00012.jsonl" for i in range(12)],
        [f"test-{i:05d}-of-00012-{'fedcba987654'[i]}.jsonl" for i in range(12)],
        [f"c4-test.{i:05d}-of-00003.json" for i in range(3)],
        [f"test-{i:05d}-of-00003.jsonl" for i in (1, 2, 3)],
        [f"test/{i:04d}.jsonl" for i in range(3)],
        [f"test-{i:02d}.jsonl" for i in range(1, 4)],
    ],
)
def test_shards_are_joined_in_order(names, tmp_path):
    write(tmp_path, *reversed(names))
    assert read(tmp_path) == tuple(names)


@pytest.mark.parametrize(
    "names",
    [
        ["test.jsonl", "test_socratic.jsonl"],
        ["en/test.jsonl", "fr/test.jsonl"],
        ["test-v1.jsonl", "test-v2.jsonl"],
        ["test-2019.jsonl", "test-2020.jsonl"],
        ["test-00.jsonl", "test-02.jsonl"],
        ["test.jsonl", "test-00000-of-00001.jsonl"],
        ["test-00000-of-00002.jsonl", "test-00001-of-00002.jsonl", "test-00000-of-00001.jsonl"],
        ["test-00000-of-00001.jsonl", "test-00001-of-00001.jsonl"],
        ["test-00000-of-00001-a.jsonl", "test-00000-of-00001-b.jsonl"],
    ],
)
def test_files_of_which_one_can_be_meant_are_refused(names, tmp_path):
    write(tmp_path, *names)
    with pytest.raises(UsageError, match=f"{len(names)} files match the test split") as caught:
        read(tmp_path)
    assert all(name in str(caught.value) for name in names)
    assert "--local NAME=" in str(caught.value)


def test_gsm8k_beside_its_socratic_form_is_read_by_naming_the_file(tmp_path):
    row = {"question": "How many?", "answer": "Two.\n#### 2"}
    for name in ("test.jsonl", "test_socratic.jsonl"):
        (tmp_path / name).write_text(json.dumps(row) + "\n")
    with pytest.raises(UsageError, match=r"test\.jsonl, test_socratic\.jsonl"):
        load_task("gsm8k", "test", at("gsm8k", tmp_path))
    assert len(load_task("gsm8k", "test", at("gsm8k", tmp_path / "test.jsonl")).items) == 1


def test_a_missing_shard_is_named(tmp_path):
    write(tmp_path, "test-00000-of-00003.jsonl", "test-00002-of-00003.jsonl")
    with pytest.raises(UsageError, match=r"has 2 of its 3 shards: 00001-of-00003 missing"):
        read(tmp_path)


def test_of_a_set_that_is_read_in_part_one_shard_is_enough(tmp_path):
    write(tmp_path, "en/c4-train.00000-of-01024.json")
    (name,) = load_text("c4", "train", at("c4", tmp_path)).documents
    assert name == "en/c4-train.00000-of-01024.json"


def test_a_split_goes_by_its_own_name_first(tmp_path):
    write(tmp_path, "dev/text.jsonl", "val/text.jsonl")
    assert read(tmp_path, "validation") == ("val/text.jsonl",)
    assert read(tmp_path, "dev") == ("dev/text.jsonl",)


def test_one_file_is_the_split_that_its_name_says(tmp_path):
    write(tmp_path, "wiki.test.jsonl", "notes.jsonl")
    assert read(tmp_path / "wiki.test.jsonl") == ("wiki.test.jsonl",)
    with pytest.raises(files.MissingSplit, match="is not the train split: its name says test"):
        read(tmp_path / "wiki.test.jsonl", "train")
    with pytest.raises(files.MissingSplit, match=r"its name says no split.*train\.jsonl"):
        read(tmp_path / "notes.jsonl", "train")
    (tmp_path / "notes.pdf").touch()
    with pytest.raises(UsageError, match=r"is no data file. Expected a name that ends in"):
        read(tmp_path / "notes.pdf")
