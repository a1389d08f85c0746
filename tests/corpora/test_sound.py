"""Items that nobody could answer right, could miss, or could tell apart are not asked."""

import json

import pytest

from benchsuite.catalog import TASKS, TaskEntry, register
from benchsuite.corpora import load_task
from benchsuite.errors import BenchsuiteError
from tests.corpora.local import at

ARC = {
    "id": "x",
    "question": "Which?",
    "choices": {"text": ["p", "q"], "label": ["A", "B"]},
    "answerKey": "B",
}
MMLU = {"question": "Which?", "subject": "s", "choices": ["p", "q"], "answer": 1}


def load(name, folder, rows, file="test.jsonl"):
    (folder / file).write_text("\n".join(map(json.dumps, rows)))
    return load_task(name, file.partition(".")[0], at(name, folder))


@pytest.fixture
def own():
    """A set of each schema whose columns are the schema's own."""
    entries = [TaskEntry(f"own_{schema}", schema) for schema in ("question", "problem")]
    for entry in entries:
        register(entry)
    yield
    for entry in entries:
        del TASKS[entry.name]


@pytest.mark.parametrize(
    ("name", "row", "told"),
    [
        (
            "arc_easy",
            ARC | {"choices": {"text": ["q"], "label": ["B"]}},
            "row 1: it has 1 options, and a question needs two",
        ),
        (
            "arc_easy",
            ARC | {"choices": {"text": ["p", "q"], "label": ["B", "B"]}},
            r"row 1: 'choices.label' is \('B', 'B'\): two options have one label",
        ),
        ("mmlu", MMLU | {"choices": ["p", " "]}, "row 1: its option 2 is empty"),
        ("mmlu", MMLU | {"question": ""}, "row 1: its question is empty"),
        ("mmlu", MMLU | {"answer": 1.5}, "row 1: 'answer' is 1.5, not the place"),
        ("nq", {"question": "q", "answer": []}, "row 1: it has no answer"),
        ("nq", {"question": "q", "answer": [" "]}, "row 1: it has no answer"),
        ("own_question", {"id": "1", "question": "q", "aliases": []}, "row 1: it has no answer"),
        ("gsm8k", {"question": "q", "answer": "#### 12,5"}, "row 1: 'answer' ends in ' 12,5'"),
        ("gsm8k", {"question": "q", "answer": "#### 1.234,5"}, "not in '#### ' and a number"),
        (
            "own_problem",
            {"id": "1", "question": "q", "steps": [], "answer": "seven"},
            "row 1: 'answer' is 'seven', not a number in digits",
        ),
    ],
)
def test_a_row_without_a_possible_right_answer_is_named(name, row, told, own, tmp_path):
    with pytest.raises(BenchsuiteError, match=told):
        load(name, tmp_path, [row])


def test_an_answer_that_a_table_turned_into_a_float_or_wrote_with_commas_is_read(own, tmp_path):
    (item,) = load("mmlu", tmp_path, [MMLU | {"answer": 1.0}]).items
    assert item.answer == 1
    row = {"id": "1", "question": "q", "steps": [], "answer": "1,450.50"}
    (problem,) = load("own_problem", tmp_path, [row]).items
    assert problem.answer == "1450.5"
    unanswerable = {"id": "1", "question": "q", "aliases": [], "answerable": False}
    assert load("own_question", tmp_path, [unanswerable]).items[0].aliases == ()


def test_what_is_there_twice_is_asked_once(tmp_path):
    """TriviaQA has a question for each kind of evidence; answers are kept by ids."""
    found = load("arc_easy", tmp_path, [ARC, ARC | {"id": "y"}, ARC])
    assert [item.id for item in found.questions] == ["x", "y"]


def test_two_different_items_of_one_id_are_not_asked(tmp_path):
    found = load("arc_easy", tmp_path, [ARC, ARC | {"answerKey": "A"}])
    with pytest.raises(BenchsuiteError, match="two of its items have the id 'x'"):
        assert found.questions


def test_two_columns_of_one_name_are_refused(tmp_path):
    (tmp_path / "test.csv").write_text('question,question,answer\na,b,"#### 3"\n')
    with pytest.raises(BenchsuiteError, match="two of its columns are called 'question'"):
        load_task("gsm8k", "test", at("gsm8k", tmp_path))
