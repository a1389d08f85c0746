import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from benchsuite.embedded import evaluate as embedded
from benchsuite.embedded import prompts, tasks
from benchsuite.embedded.schema import Choice
from benchsuite.errors import UsageError
from benchsuite.evaluation import arc
from benchsuite.evaluation.generation import generate
from tests.evaluation import embedded_model

OPTIONS = ("fig", "A cell", "C. elegans", "the donkey")


def choice(answer, name="c"):
    return Choice(name, "Which?", OPTIONS, answer)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" B", 1),
        ("b", 1),
        ("(D)", 3),
        ("**C**.", 2),
        ("A. fig", 0),
        ("(B) a cell", 1),
        ("D: the donkey", 3),
        ("fig (A)", 0),
        ("the donkey [D].", 3),
        ("The answer is C", 2),
        ("The correct answer is (B) because of it", 1),
        ("Answer: D", 3),
        ("I choose option B.", 1),
        ("fig", 0),
        ("Fig.", 0),
        ("A cell", 1),  # an option's own text, not the letter A
        ("C. elegans", 2),
        ("D. fig", 3),  # the letter counts, not what stands beside it
        ("A donkey lives here", None),
        ("It is a cell", None),
        ("fig or the donkey", None),
        ("E", None),
        ("Because", None),
        ("Best", None),
        ("", None),
        ("   ", None),
    ],
)
def test_parse(text, expected):
    assert arc.parse(text, OPTIONS) == expected


def test_two_options_of_one_text_cannot_be_told_apart():
    assert arc.parse("fig", ("fig", "Fig.", "saw", "hat")) is None


@given(st.lists(st.tuples(st.integers(0, 3), st.one_of(st.none(), st.integers(0, 3))), min_size=1))
def test_macro_f1_is_sklearns(pairs):
    gold, found = zip(*pairs, strict=True)
    scores = arc.score(found, [choice(answer) for answer in gold])

    labels = [arc.UNPARSED if p is None else p for p in found]
    options = {"labels": [0, 1, 2, 3], "average": None, "zero_division": 0}
    expected = f1_score(gold, labels, **options)
    np.testing.assert_allclose(scores.letter_f1, 100 * expected)
    assert scores.macro_f1 == pytest.approx(100 * expected.mean())
    assert scores.accuracy == pytest.approx(100 * np.mean([g == p for g, p in pairs]))
    assert scores.correct.mean() * 100 == scores.accuracy


def test_unparsed_predictions_are_wrong_and_counted():
    scores = arc.score([0, None, None, 3], [choice(i) for i in range(4)])

    assert scores.accuracy == 50
    assert scores.parse_rate == 50
    assert scores.letter_f1 == (100, 0, 0, 100)
    assert scores.macro_f1 == 50
    assert scores.predictions.tolist() == [0, -1, -1, 3]


def test_only_four_options_are_asked():
    items = [choice(0), Choice("three", "Which?", ("x", "y", "z"), 1)]

    with pytest.raises(UsageError, match="three has 3 options"):
        arc.score([0, 1], items)
    assert arc.with_four_options(items) == [items[0]]


def test_an_unknown_form():
    with pytest.raises(UsageError, match="unknown form 'letter'"):
        arc.evaluate(None, None, [choice(0)], form="letter")


@pytest.mark.parametrize("form", ["letters", "full"])
def test_generated_answers_are_read_as_the_model_was_taught(form):
    model, tokenizer = embedded_model.load("tiny_qwen_4m")
    items = [*tasks.items("four_choices", "test")[:24]]
    scores = arc.evaluate(model, tokenizer, items, form=form)
    answers = embedded.generate(model, tokenizer, items, form=form)

    right = [embedded.is_right(item, answer) for item, answer in zip(items, answers, strict=True)]
    assert scores.correct.tolist() == right
    assert scores.accuracy > 80
    assert scores.parse_rate == 100
    assert len(scores.texts) == 24


def test_listed_options_are_answered_by_their_text():
    model, tokenizer = embedded_model.load()
    items = [*tasks.items("four_choices", "test")[:24]]
    scores = arc.evaluate(model, tokenizer, items, form="listed")

    for item, text, found in zip(items, scores.texts, scores.predictions, strict=True):
        same = [i for i, option in enumerate(item.choices) if option == text.strip()]
        assert found == (same[0] if same else arc.UNPARSED)
    assert scores.accuracy > 70


def test_worked_examples_come_before_each_question():
    model, tokenizer = embedded_model.load()
    items, examples = tasks.items("four_choices", "test")[:6], tasks.items("four_choices", "train")
    scores = arc.evaluate(model, tokenizer, items, examples=examples[:2], form="listed")
    asked = generate(
        model,
        tokenizer,
        [prompts.prompt(item, examples=examples[:2], form="listed") for item in items],
        max_new_tokens=arc.MAX_NEW_TOKENS,
        stop=arc.STOP,
    )
    assert scores.texts == asked.texts


def test_accuracy_by_subject_where_there_are_subjects():
    told = [("q1", "law", 0), ("q2", "law", 1), ("q3", "art", 2), ("q4", "", 3)]
    items = [Choice(name, "?", ("a", "b", "c", "d"), right, about) for name, about, right in told]
    scores = arc.score([0, 0, 2, 3], items)

    assert scores.by_subject() == {
        "art": {"accuracy": 100.0, "n": 1},
        "law": {"accuracy": 50.0, "n": 2},
    }
