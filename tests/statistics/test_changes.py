import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchsuite.statistics.inference.changes import Change, arm_change, seed_change, settled
from benchsuite.statistics.unequal import guarded_p
from tests.statistics.samples_for_tests import numbers

OLD = {42: 5.70, 43: 5.75, 44: 5.80, 45: 5.72, 46: 5.78}


def moved(by):
    return {seed: value + by for seed, value in OLD.items()}


def test_equal_values_are_no_change():
    assert arm_change(OLD, dict(OLD)) == Change("equal", 0.0)
    assert seed_change(OLD, 42, OLD[42]).outcome == "equal"


def test_a_certain_shift_inside_the_scatter_is_within_noise_and_a_large_one_beyond():
    small, large = settled([arm_change(OLD, moved(0.01)), arm_change(OLD, moved(0.5))])

    assert (small.outcome, large.outcome) == ("within_noise", "beyond_noise")
    expected = stats.ttest_ind([*moved(0.5).values()], [*OLD.values()], equal_var=False)
    assert large.p_value == pytest.approx(guarded_p(expected.pvalue, 5, 5))


def test_one_seed_is_judged_by_the_prediction_interval():
    before = np.array(list(OLD.values()))
    half = stats.t.ppf(0.975, 4) * before.std(ddof=1) * np.sqrt(1 + 1 / 5)

    at_the_edge = seed_change(OLD, 42, before.mean() + half)

    assert at_the_edge.p_value == pytest.approx(0.05)


def test_an_arm_without_variation_has_no_noise_to_hide_in():
    still = dict.fromkeys(OLD, 5.8)

    assert arm_change(still, dict.fromkeys(OLD, 5.8 + 1e-9)).outcome == "beyond_noise"
    assert seed_change(still, 42, 5.9).outcome == "beyond_noise"


@pytest.mark.parametrize("new", [{42: 5.9}, {42: float("nan"), 43: 1.0}])
def test_what_cannot_be_tested_says_why(new):
    change = arm_change({42: 5.7}, new)

    assert change.outcome == "unknown"
    assert change.reason


def test_false_alarms_stay_at_alpha_over_a_family():
    rng = np.random.default_rng(0)
    nights = 2000
    alarms = 0
    for _ in range(nights):
        arms = [dict(enumerate(rng.normal(5.7, 0.05, 5))) for _ in range(12)]
        family = [arm_change(arms[i], arms[i + 6]) for i in range(6)]
        alarms += any(change.outcome == "beyond_noise" for change in settled(family))

    assert alarms / nights < 0.05 + 3 * np.sqrt(0.05 * 0.95 / nights)


@given(st.dictionaries(st.integers(0, 99), numbers, max_size=5), st.integers(0, 99), numbers)
def test_any_values_have_an_answer_without_nan(old, seed, new):
    for change in (seed_change(old, seed, new), arm_change(old, {seed: new})):
        assert change.p_value is None or 0 <= change.p_value <= 1
        assert change.outcome in ("equal", "within_noise", "beyond_noise", "unknown")


def test_values_whose_scatter_float64_cannot_hold_have_no_test():
    found = seed_change({1: 5e-324, 2: 5e-324, 3: 5e-324, 4: 1e-323}, 5, 0.0)
    assert found.outcome == "unknown"
    assert "out of the range" in found.reason


def test_seeds_that_were_only_left_out_or_added_change_nothing():
    some = {42: OLD[42], 44: OLD[44]}
    assert arm_change(OLD, some) == arm_change(some, OLD) == Change("equal", 0.0)
    # Without variation it was told as "beyond seed noise", from 10.47 to 10.47.
    assert arm_change({1: 10.47, 2: 10.47, 3: 10.47}, {1: 10.47, 2: 10.47}).outcome == "equal"
    assert arm_change({1: 10.47, 2: 10.47}, {8: 10.47, 9: 10.47}).outcome == "equal"
    assert seed_change({1: 10.47, 2: 10.47}, 9, 10.47).outcome == "equal"
    assert arm_change({1: 10.47, 2: 10.47}, {1: 10.48, 2: 10.48}).outcome == "beyond_noise"
