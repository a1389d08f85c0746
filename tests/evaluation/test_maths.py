import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchsuite.embedded import evaluate as embedded
from benchsuite.embedded import tasks
from benchsuite.embedded.schema import Problem
from benchsuite.errors import UsageError
from benchsuite.evaluation import maths
from tests.evaluation import embedded_model


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("42", 42),
        ("so there are 1,234,567 bees", 1234567),
        ("1,234.5 km", 1234.5),
        ("He has 3, 4 or 5.", 5),
        ("3,5", 5),  # no group of thousands
        ("-7", -7),
        ("it falls to −7 degrees", -7),
        ("-$5.50", -5.5),
        ("$-5.50", -5.5),
        ("10-3", 3),  # a difference, not a sign
        ("10 - 3 = 7", 7),
        ("(2)-3", 3),
        ("from 3-5", 5),
        (".5", 0.5),
        ("0.125.", 0.125),
        ("5%", 5),
        ("12cm", 12),
        ("£3", 3),
        ("1.5e3 joules", 1500),
        ("3/4", 0.75),
        ("-1/2", -0.5),
        ("12/4=3", 3),
        ("H2 and x3", None),
        ("no number", None),
        ("", None),
        ("7/0", None),
        ("1e999", None),
        ("2 then 1e999", 2),
        ("<<2*3=6>>6 in all\n#### 6", 6),
        ("#### -1,000\nQuestion 17", -1000),
        ("<<81+62=143>> <<143-30=113>>\nThe answer is: 113", 113),
        ("The answer is 8. Then 9 came.", 8),
        ("the answer is: 2 + 3 = 5 apples", 5),
        ("The answer is: unknown\n9", None),
        ("The answer is: $12.00.", 12),
        (r"Hence \boxed{42}.", 42),
        (r"so \boxed{-\frac{3}{4}} of 9", -0.75),
        (r"\boxed{1{,}234}", 1234),
        (r"$\boxed{10\,000}$", 10000),
        (r"\boxed{x = 7}", 7),
        (r"\dfrac{1}{8}", 0.125),
    ],
)
def test_final_number(text, expected):
    assert maths.final_number(text) == expected


@given(st.integers(-(10**12), 10**12), st.integers(0, 3))
def test_every_written_number_is_read_back(whole, decimals):
    value = whole / 10**decimals
    for text in (f"{value:,.{decimals}f}", f"{value:.{decimals}f}"):
        assert maths.final_number(f"so 7 and {text} km.") == pytest.approx(
            float(f"{value:.{decimals}f}")
        )
        assert maths.final_number(f"The answer is: {text}\n\n8") == maths.final_number(text)


@given(st.text(max_size=40))
def test_any_text_gives_a_finite_number_or_none(text):
    found = maths.final_number(text)
    assert found is None or math.isfinite(found)


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
