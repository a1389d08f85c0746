import json
from dataclasses import replace

import pyarrow
import pytest
from pyarrow import parquet

from benchsuite import catalog
from benchsuite.corpora import load_task, load_text, task_digest, text_digest
from benchsuite.corpora.text import rows_digest
from benchsuite.embedded.schema import Choice, Question
from benchsuite.errors import BenchsuiteError, UsageError
from tests.corpora.local import at


def _write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_embedded_text_has_its_pinned_digest():
    corpus = load_text("embedded_text", "validation")

    assert corpus.source == "embedded"
    assert corpus.digest == rows_digest(corpus.documents)
    assert corpus.digest == text_digest("embedded_text", "validation")
    assert corpus.joined == "\n\n".join(corpus.documents)


def test_an_embedded_task():
    tasks = load_task("four_choices", "validation")

    assert all(isinstance(item, Choice) for item in tasks.items)
    assert tasks.digest == task_digest("four_choices", "validation")
    assert (tasks.source, tasks.revision) == ("embedded", "")


def test_a_split_that_does_not_exist():
    with pytest.raises(UsageError, match="no split 'dev'"):
        text_digest("embedded_text", "dev")


def test_a_local_task_from_json_lines(tmp_path):
    row = {"id": "1", "question": "Who?", "aliases": ["Ann", "A."], "unused": 0}
    _write(tmp_path / "test.jsonl", [row])

    tasks = load_task("closed_book", "test", at("closed_book", tmp_path))

    assert tasks.items == (Question("1", "Who?", ("Ann", "A.")),)
    assert tasks.source == "local"
    assert tasks.revision == task_digest("closed_book", "test", at("closed_book", tmp_path))


def test_a_local_task_from_parquet_keeps_optional_columns(tmp_path):
    row = {
        "id": ["1"],
        "question": ["Who?"],
        "aliases": [["Ann"]],
        "context": ["Ann did."],
        "answerable": [True],
    }
    parquet.write_table(pyarrow.table(row), tmp_path / "test.parquet")

    tasks = load_task("passages", "test", at("passages", tmp_path))

    assert tasks.items == (Question("1", "Who?", ("Ann",), "Ann did.", True),)


def test_local_digests_follow_the_items(tmp_path):
    rows = [{"id": "1", "question": "2 + 2?", "choices": ["3", "4"], "answer": 1}]
    _write(tmp_path / "test.jsonl", rows)
    before = load_task("four_choices", "test", at("four_choices", tmp_path))
    rows[0]["answer"] = 0
    _write(tmp_path / "test.jsonl", rows)
    after = load_task("four_choices", "test", at("four_choices", tmp_path))

    assert before.digest != after.digest


def test_local_digests_say_whose_columns_are_read(tmp_path, monkeypatch):
    _write(tmp_path / "test.jsonl", [{"id": "1", "question": "2 + 2?", "aliases": ["4"]}])
    entry = catalog.task("closed_book")
    before = task_digest("closed_book", "test", at("closed_book", tmp_path))
    monkeypatch.setitem(
        catalog.TASKS, "closed_book", replace(entry, hub_id="google-research-datasets/nq_open")
    )
    assert task_digest("closed_book", "test", at("closed_book", tmp_path)) != before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"choices": None}, "'choices' is None, not a list of strings"),
        ({"choices": ["3", 4]}, "not a list of strings"),
        ({"answer": "1"}, "'answer' is '1', not a int"),
        ({"answer": True}, "'answer' is True"),
    ],
)
def test_a_field_of_the_wrong_type_names_row_and_file(change, message, tmp_path):
    row = {"id": "1", "question": "2 + 2?", "choices": ["3", "4"], "answer": 1}
    _write(tmp_path / "test.jsonl", [row | change])

    with pytest.raises(BenchsuiteError, match=message) as caught:
        load_task("four_choices", "test", at("four_choices", tmp_path))

    assert str(tmp_path / "test.jsonl") in str(caught.value)


def test_a_missing_field(tmp_path):
    _write(tmp_path / "test.jsonl", [{"id": "1", "question": "2 + 2?"}])

    with pytest.raises(BenchsuiteError, match="no column 'choices'"):
        load_task("four_choices", "test", at("four_choices", tmp_path))


def test_a_task_without_items(tmp_path):
    _write(tmp_path / "test.jsonl", [])

    with pytest.raises(BenchsuiteError, match="has no items"):
        load_task("four_choices", "test", at("four_choices", tmp_path))
