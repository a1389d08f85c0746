"""Welch's size at unequal variances: the integral against draws, and what the guard makes of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_ind

from benchsuite.statistics.unequal import guarded_level, guarded_p, welch_size

ROUNDS = 100_000


@pytest.mark.parametrize(("n_a", "n_b", "level"), [(3, 3, 0.05), (5, 5, 0.01), (3, 6, 0.01)])
def test_the_worst_size_is_met_by_draws_and_by_none_exceeded(n_a, n_b, level):
    rng = np.random.default_rng(0)
    seen = []
    for ratio in (0.01, 0.1, 0.2, 0.3, 1, 3, 5, 10, 100):
        a, b = ratio * rng.normal(size=(n_a, ROUNDS)), rng.normal(size=(n_b, ROUNDS))
        seen.append((ttest_ind(a, b, equal_var=False).pvalue < level).mean())

    size = welch_size(level, n_a, n_b)

    error = np.sqrt(size * (1 - size) / ROUNDS)
    assert max(seen) < size + 3 * error
    assert max(seen) > 0.93 * size  # the draws try a few ratios, the integral many


def test_three_seeds_reject_more_often_than_they_say():
    # Seen in 100,000 draws at a standard deviation ten times the other: 2.5 to 2.7 times .05 / 21.
    assert welch_size(0.05 / 21, 3, 3) / (0.05 / 21) == pytest.approx(2.67, abs=0.02)


@given(st.floats(1e-15, 1), st.sampled_from([(2, 2), (3, 3), (5, 3), (3, 5), (2, 9)]))
def test_the_guard_raises_p_values_and_keeps_their_order(p, sizes):
    n_a, n_b = sizes
    assert p <= guarded_p(p, n_a, n_b) <= 1
    assert guarded_p(p / 2, n_a, n_b) <= guarded_p(p, n_a, n_b)
    assert guarded_p(p, n_a, n_b) == guarded_p(p, n_b, n_a)
    level = guarded_level(p, n_a, n_b)
    assert level <= p
    if 1e-5 < p < 1 and sizes != (2, 9):  # whose size is larger at every level in the table
        assert guarded_p(level, n_a, n_b) == pytest.approx(p, rel=1e-6)


def test_one_seed_has_nothing_to_guard():
    assert guarded_p(0.03, 1, 5) == 0.03
    assert guarded_level(0.05, 1, 5) == 0.05
