from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.data.metrics import squad_metrics

from benchsuite.embedded import evaluate as embedded
from benchsuite.embedded import tasks
from benchsuite.embedded.schema import Question
from benchsuite.evaluation import squad
from tests.evaluation import embedded_model


def question(*aliases, name="q"):
    return Question(name, "Who?", aliases, answerable=bool(aliases))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  The   Beatles ", "beatles"),
        ("a An THE theory", "theory"),
        ("Another banana", "another banana"),  # articles are whole words
        ("U.S.A.", "usa"),
        ("the-end", "theend"),  # punctuation goes first: no article is left
        ("rock'n'roll", "rocknroll"),
        ("1,000.5", "10005"),
        ("$3.50", "350"),
        ("café—crème", "café—crème"),  # only ASCII punctuation
        ("«Le Monde»", "«le monde»"),
        ("tab\tand\nline\u00a0and\u2003space", "tab and line and space"),
        ("ÉCOLE", "école"),
        ("The", ""),
        ("...", ""),
        ("", ""),
        ("数学 a 数", "数学 数"),
    ],
)
def test_normalised(text, expected):
    assert squad.normalise(text) == expected


@pytest.mark.parametrize(
    ("predicted", "accepted", "f1", "exact"),
    [
        ("The Cat!", ("cat",), 1, True),
        ("the big cat", ("cat",), 2 / 3, False),
        ("cat cat dog", ("cat dog dog",), 2 / 3, False),  # words count as often as they occur
        ("dog", ("cat",), 0, False),
        ("Paris", ("London", "Paris, France", "paris"), 1, True),  # the best one counts
        ("Paris", ("London", "Paris France"), 2 / 3, False),
        ("", (), 1, True),
        ("something", (), 0, False),
        ("", ("cat",), 0, False),
        ("the", ("cat",), 0, False),  # nothing left is no answer
        ("the", (), 1, True),
        ("", ("The",), 1, True),  # an accepted answer of articles alone is none
        ("cat", ("a", "cat"), 1, True),
        ("", ("...", "cat"), 0, False),
        ("42", ("42",), 1, True),
        ("42.0", ("42",), 0, False),
        ("1,000", ("1000",), 1, True),
        ("naïve", ("naive",), 0, False),
    ],
)
def test_scores(predicted, accepted, f1, exact):
    assert squad.f1(predicted, accepted) == pytest.approx(f1)
    assert squad.exact(predicted, accepted) is exact


WORDS = st.sampled_from(
    ["the", "A", "an", "cat", "Cat", "dog,", "...", "1,000", "İ", "naïve", "U.S.", "\u00a0", "—"]
)
TEXTS = st.one_of(
    st.lists(WORDS, max_size=5).map(" ".join), st.text(max_size=12), st.just("no answer")
)


@given(predicted=TEXTS, accepted=st.lists(TEXTS, max_size=3))
def test_equals_the_implementation_in_transformers(predicted, accepted):
    example = SimpleNamespace(qas_id="q", answers=[{"text": text} for text in accepted])
    exact, f1 = squad_metrics.get_raw_scores([example], {"q": predicted})

    assert squad.exact(predicted, accepted) == bool(exact["q"])
    assert squad.f1(predicted, accepted) == pytest.approx(f1["q"], abs=1e-12)


@given(first=TEXTS, second=TEXTS)
def test_f1_is_symmetric_and_exact_answers_have_all_of_it(first, second):
    assert squad.f1(first, [second]) == pytest.approx(squad.f1(second, [first]))
    assert 0 <= squad.f1(first, [second]) <= 1
    if squad.exact(first, [second]):
        assert squad.f1(first, [second]) == 1


def test_parts_apart():
    items = [question("Paris"), question("Rome city"), question(), question()]
    scores = squad.score(["Paris", "Rome", "", "Oslo"], items)

    assert scores.answerable_f1 == pytest.approx(100 * (1 + 2 / 3) / 2)
    assert scores.answerable_exact == 50
    assert scores.unanswerable_f1 == 50
    assert scores.f1 == pytest.approx(100 * (1 + 2 / 3 + 1) / 4)
    assert scores.exact == 50
    assert (scores.n, scores.n_answerable) == (4, 2)
    assert scores.item_exact.tolist() == [True, False, True, False]
    assert scores.item_f1.dtype == np.float64
    assert scores.item_f1.mean() == scores.f1


def test_a_part_without_questions_is_none():
    assert squad.score(["x"], [question("x")]).unanswerable_f1 is None
    assert squad.score([""], [question()]).answerable_f1 is None
    with pytest.raises(ValueError, match="no question"):
        squad.score([], [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [(" No answer.", ""), ("unanswerable", ""), (" Paris ", "Paris"), ("no answers", "no answers")],
)
def test_a_refusal_is_the_empty_answer(text, expected):
    assert squad.prediction(text) == expected


def test_an_embedded_model_on_passages():
    model, tokenizer = embedded_model.load()
    items = [*tasks.items("passages", "test")[:24]]
    scores = squad.evaluate(model, tokenizer, items, batch_size=8)
    answers = embedded.generate(model, tokenizer, items)

    right = [embedded.is_right(item, answer) for item, answer in zip(items, answers, strict=True)]
    assert scores.item_exact.tolist() == right
    assert scores.f1 >= scores.exact > 20
    assert scores.generation is not None
    assert len(scores.generation.log_probs) == scores.n == 24
