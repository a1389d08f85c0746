"""A family is what was declared: comparisons that have not run count in it."""

import pytest

from benchsuite.statistics.inference.claims import Arm, Question, judge_family
from benchsuite.study import lower

CLAIM = lower("perplexity", "a", than="b")
BETTER, WORSE = Arm({1: 5.0, 2: 5.1, 3: 4.9}), Arm({1: 5.5, 2: 5.7, 3: 5.6})
WAITING = Arm({1: 5.0}, missing=("m-a-seed2",))


def judged(*others, declared=0):
    first = Question(CLAIM, "m", BETTER, WORSE)
    return judge_family([first, *others], declared=declared)[0].evidence


def test_a_comparison_that_waits_counts_if_it_was_asked_for():
    alone = judged()
    asked = judged(Question(CLAIM, "n", WAITING, WORSE))
    other = judged(Question(CLAIM, "n", WAITING, WORSE, asked=False))

    assert (alone["family_size"], asked["family_size"], other["family_size"]) == (1, 2, 1)
    assert asked["p_holm"] == pytest.approx(2 * alone["p_holm"])
    assert other["p_holm"] == alone["p_holm"]


def test_a_comparison_of_two_constants_is_no_test_and_does_not_count():
    still = Question(CLAIM, "n", Arm({1: 5.0, 2: 5.0}), Arm({1: 6.0, 2: 6.0}))
    assert judged(still)["family_size"] == 1


def test_more_may_be_declared_than_is_asked():
    assert judged(declared=7)["p_holm"] == pytest.approx(min(1, 7 * judged()["p_holm"]))
    assert judged(declared=7)["family_size"] == 7
