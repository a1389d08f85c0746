"""The published protocol, set by set, beside what the document does."""

import json
from pathlib import Path

import pytest

from benchsuite.catalog import Sources
from benchsuite.corpora import load_task
from benchsuite.embedded.schema import Problem, Question
from benchsuite.evaluation.uncertainty import correctness
from benchsuite.evaluation.uncertainty.prompts import prompt
from benchsuite.evaluation.uncertainty.protocol import questions
from tests.corpora.local import at
from tests.evaluation.uncertainty.answers_for_tests import answer, asked

DATA = Path(__file__).parents[4] / "shared/data"


def published(task, *items):
    return questions(task, items, "published")


def test_nq_ends_in_a_question_mark():
    one = Question("n", "who sang it", ("Ann",))
    assert published("nq", one)[0][0].question == "who sang it?"
    assert questions("nq", [one], "document") == ([one], "")


def test_svamp_s_body_is_the_context():
    item = Problem("s", "Ann has 2.5 pens, or so. She buys 3. How many pens has she?", (), "5")
    (one,), lacking = published("svamp", item)
    assert (one.context, one.question) == (
        "Ann has 2.5 pens, or so. She buys 3.",
        "How many pens has she?",
    )
    assert "Context: Ann has 2.5" in prompt(one)
    assert lacking == ""
    ((whole,), _) = questions("svamp", [item], "document")
    assert (whole.context, whole.question) == ("", item.question)


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the public sets beside the repository")
def test_every_body_of_svamp_is_parted_where_the_authors_part_it():
    rows = [json.loads(line) for line in (DATA / "svamp/test.jsonl").open()]
    sources = Sources(local={"svamp_all": DATA / "svamp/test.jsonl"})
    found, _ = published("svamp_all", *load_task("svamp_all", "train+test", sources).items)
    assert [one.question for one in found] == [row["Question"].strip() for row in rows]
    bodies = [row["Body"].strip().rstrip(".") for row in rows]
    assert [one.context.rstrip(".") for one in found] == bodies


def test_trivia_qa_is_asked_with_its_passages_where_the_files_have_them(tmp_path):
    row = {
        "id": "t1",
        "question": "Who wrote Emma?",
        "context": "Jane Austen wrote Emma in 1815.",
        "answers": {"text": ["Jane Austen", "Austen"], "answer_start": [0, 5]},
    }
    (tmp_path / "validation.jsonl").write_text(json.dumps(row) + "\n")
    items = load_task("trivia_qa", "validation", at("trivia_qa", tmp_path)).items
    (one,), lacking = published("trivia_qa", *items)
    assert one == Question("t1", row["question"], ("Jane Austen", "Austen"), row["context"])
    assert lacking == ""
    ((bare,), _) = questions("trivia_qa", items, "document")
    assert bare.context == ""
    assert "1 of 2 questions have no passage" in published("trivia_qa", one, bare)[1]


def test_bioasq_has_all_its_exact_answers(tmp_path):
    rows = [
        {
            "id": "1",
            "type": "list",
            "body": "Which genes?",
            "exact_answer": [["A1", "a-1"], ["B2"]],
        },
        {"id": "2", "type": "yesno", "body": "Is it so?", "exact_answer": "yes"},
        {"id": "3", "type": "summary", "body": "What is it?", "ideal_answer": ["Long."]},
    ]
    file = tmp_path / "validation.json"
    file.write_text(json.dumps({"questions": rows}))
    items = load_task("bioasq", "validation", at("bioasq", tmp_path)).items
    assert [one.aliases for one in items] == [("A1", "B2"), ("yes",)]
    twice = [Question("1", "Which genes?", ("A1",)), Question("2", "Which genes?", ("B2",))]
    assert [one.aliases for one in published("bioasq", *twice)[0]] == [("A1", "B2")]
    assert questions("bioasq", twice, "document")[0] == twice


def test_an_unanswerable_question_is_always_wrong():
    pair = [asked(answer(""), aliases=()), asked(answer("Paris"))]
    ours = correctness.grade(pair)
    theirs = correctness.grade(pair, protocol="published")
    assert ours.correct.tolist() == [True, True]
    assert theirs.correct.tolist() == [False, True]
    assert theirs.f1.tolist() == [0, 100]
    assert theirs.exact.tolist() == [False, True]
    for rule in ("exact", "judge"):
        judged = correctness.grade(
            pair, rule=rule, judge=lambda asked: [True, True], protocol="published"
        )
        assert judged.correct.tolist() == [False, True]
