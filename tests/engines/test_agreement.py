"""When two engines agree: numbers by hand."""

import numpy as np
import pytest

from benchsuite.engines.agreement import agreement
from benchsuite.evaluation.forced import Expectation

TOLERANCE = 0.1
LOG_PROBS = np.array([-1.0, -2.0, -3.0, -4.0])


def row(best, margins, log_probs=LOG_PROBS):
    return Expectation(np.array(log_probs), np.array(best), np.array(margins))


OURS = [row([7, 8, 9, 10], [1.0, 0.05, 1.0, 0.2])]
CHOSEN = [row([1, 2, 3, 4], [1.0, 0.3, 0.05, 1.0]), row([5, 6, 7, 8], [0.01, 1.0, 1.0, 1.0])]


def compared(log_probs=LOG_PROBS, best=(7, 8, 9, 10), tokens=((1, 2, 3, 4), (5, 6, 7, 8))):
    return agreement(
        OURS, [list(log_probs)], [list(best)], CHOSEN, np.array(tokens), tolerance=TOLERANCE
    )


def test_an_engine_agrees_with_itself():
    found = compared()
    assert found.holds
    assert (found.n_tokens, found.largest, found.mean) == (4, 0.0, 0.0)
    assert (found.n_decided, found.n_alike) == (3, 3)
    assert (found.greedy_decided, found.greedy_alike) == (2, 2)


@pytest.mark.parametrize(("shift", "holds"), [(0.09, True), (0.11, False)])
def test_every_log_prob_must_lie_within_the_tolerance(shift, holds):
    found = compared(log_probs=LOG_PROBS + np.array([0, 0, -shift, 0]))
    assert found.largest == pytest.approx(shift)
    assert found.mean == pytest.approx(shift / 4)
    assert found.holds == holds


def test_another_choice_counts_only_where_it_was_decided():
    assert compared(best=(7, 88, 9, 10)).holds
    lost = compared(best=(7, 8, 99, 10))
    assert not lost.holds
    assert (lost.n_decided, lost.n_alike) == (3, 2)


def test_completions_count_until_the_first_open_choice():
    """The first is open at its third token, the second at once: what follows is another text."""
    assert compared(tokens=((1, 2, 33, 44), (55, 66, 77, 88))).holds


def test_a_completion_that_parts_before_an_open_choice_does_not_hold():
    lost = compared(tokens=((11, 2, 3, 4), (5, 6, 7, 8)))
    assert not lost.holds
    assert (lost.greedy_decided, lost.greedy_alike) == (2, 0)
