import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchsuite.statistics import (
    equivalence_margin,
    interval_half_width,
    minimum_detectable_effect,
    power_of,
    seeds_needed,
    tost,
)

# The project's own table (80 % power, alpha .05): n, MDE independent and paired, TOST margin
# independent and paired, half-width of one arm's interval.
TABLE = [
    (3, 3.07, 3.26, 2.92, 2.66, 2.48),
    (4, 2.38, 2.13, 2.35, 1.94, 1.59),
    (5, 2.02, 1.68, 2.03, 1.60, 1.24),
    (10, 1.32, 1.00, 1.36, 1.00, 0.72),
]


@pytest.mark.parametrize(("n", "d", "d_z", "margin", "margin_paired", "half_width"), TABLE)
def test_the_table(n, d, d_z, margin, margin_paired, half_width):
    assert minimum_detectable_effect(n, paired=False) == pytest.approx(d, abs=6e-3)
    assert minimum_detectable_effect(n, paired=True) == pytest.approx(d_z, abs=6e-3)
    assert equivalence_margin(n, paired=False) == pytest.approx(margin, abs=6e-3)
    assert equivalence_margin(n, paired=True) == pytest.approx(margin_paired, abs=6e-3)
    assert interval_half_width(n) == pytest.approx(half_width, abs=6e-3)


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 30), st.floats(0.05, 1.0))
def test_power_agrees_with_the_noncentral_t(n, effect):
    def reference(df, noncentrality):
        bound = stats.t.ppf(0.975, df)
        away = stats.nct(df, noncentrality)
        return away.sf(bound) + away.cdf(-bound)

    independent = reference(2 * n - 2, effect * np.sqrt(n / 2))
    shared = reference(n - 1, effect * np.sqrt(n))

    assert power_of(effect, n, paired=False) == pytest.approx(independent, abs=1e-6)
    assert power_of(effect, n, paired=True) == pytest.approx(shared, abs=1e-6)


@pytest.mark.parametrize("paired", [True, False])
def test_no_effect_is_found_at_the_rate_alpha(paired):
    assert power_of(0.0, 5, paired=paired) == pytest.approx(0.05, abs=1e-6)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("n", [2, 3, 5, 40])
def test_seeds_needed_inverts_the_detectable_effect(n, paired):
    effect = minimum_detectable_effect(n, paired=paired)

    assert seeds_needed(effect * 1.0001, paired=paired) == n
    assert seeds_needed(effect * 0.9999, paired=paired) == n + 1


def test_cohens_own_example():
    # Cohen (1988), table 2.4.1: d = .5, power .8, two-sided .05 needs 64 an arm.
    assert seeds_needed(0.5, paired=False) == 64


def test_nothing_finds_no_effect():
    assert seeds_needed(0.0, paired=True) is None
    assert minimum_detectable_effect(1, paired=True) == math.inf


def test_the_margin_is_confirmed_as_often_as_it_says():
    rng = np.random.default_rng(0)
    n, rounds = 4, 600
    margin = equivalence_margin(n, paired=True)
    draws = rng.normal(size=(rounds, n))
    hits = sum(bool(tost(x, np.zeros(n), margin, by_seed=True).equivalent) for x in draws)

    low, high = stats.binom.interval(0.999, rounds, 0.8)
    assert low <= hits <= high


@pytest.mark.parametrize("n", [3, 5])
def test_welchs_test_finds_its_detectable_effect_as_often_as_it_says(n):
    rng, rounds = np.random.default_rng(n), 20_000
    effect = minimum_detectable_effect(n, paired=False, welch=True, alpha=0.0125)
    a, b = rng.normal(size=(rounds, n)), rng.normal(size=(rounds, n)) + effect
    found = np.mean(stats.ttest_ind(a, b, axis=1, equal_var=False).pvalue < 0.0125)

    assert found == pytest.approx(0.8, abs=3 * np.sqrt(0.16 / rounds))


def test_welch_costs_power_at_few_seeds_and_nothing_at_many():
    def detectable(n, welch):
        return minimum_detectable_effect(n, paired=False, welch=welch)

    assert detectable(3, True) == pytest.approx(3.51, abs=5e-3)
    assert detectable(3, True) > detectable(3, False)
    assert detectable(50, True) == pytest.approx(detectable(50, False), rel=1e-3)
