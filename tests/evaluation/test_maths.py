import numpy as np
import pytest

from benchsuite.embedded import evaluate as embedded
from benchsuite.embedded import tasks
from benchsuite.embedded.schema import Problem
from benchsuite.errors import UsageError
from benchsuite.evaluation import maths
from tests.evaluation import embedded_model


def problem(answer):
    return Problem("p", "How many?", (), answer)


def test_scores_by_hand():
    items = [problem(a) for a in ("1", "2", "3.5", "-4", "5")]
    scores = maths.score([1.00005, 4, None, -4, 1005], items)

    assert scores.mean_difference == pytest.approx((0.00005 + 2 + 0 + 1000) / 4)
    assert scores.median_difference == pytest.approx((0.00005 + 2) / 2)
    assert scores.accuracy == 40
    assert scores.parse_rate == 80
    assert scores.correct.tolist() == [True, False, False, True, False]
    assert np.isnan(scores.differences).tolist() == [False, False, True, False, False]


def test_no_readable_answer_has_no_distance():
    scores = maths.score([None, None], [problem("1"), problem("2")])

    assert (scores.mean_difference, scores.median_difference) == (None, None)
    assert (scores.accuracy, scores.parse_rate) == (0, 0)


def test_an_answer_in_words_is_refused():
    with pytest.raises(UsageError, match="'twelve' of problem p"):
        maths.score([12], [problem("twelve")])


def test_an_embedded_model_on_word_problems():
    model, tokenizer = embedded_model.load()
    items = [*tasks.items("word_problems", "test")[:12]]
    scores = maths.evaluate(model, tokenizer, items, max_new_tokens=110)

    right = [
        embedded.is_right(item, answer)
        for item, answer in zip(items, embedded.generate(model, tokenizer, items), strict=True)
    ]
    assert scores.correct.tolist() == right
    assert scores.parse_rate == 100
