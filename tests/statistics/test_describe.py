import math

import numpy as np
import pytest
from hypothesis import given
from scipy import stats

from benchsuite.statistics import describe, proportion_interval
from benchsuite.statistics.inference.arms import compared
from benchsuite.statistics.samples import mean_of, std_of, variance_of
from tests.statistics.samples_for_tests import anything, clean, varied


@given(varied)
def test_agrees_with_scipy(values):
    seen = describe(values)
    reference = stats.describe(values)
    interval = stats.t.interval(0.95, len(values) - 1, loc=reference.mean, scale=stats.sem(values))

    assert seen.mean == pytest.approx(reference.mean, rel=1e-9, abs=1e-9)
    assert seen.std == pytest.approx(math.sqrt(reference.variance), rel=1e-9)
    assert (seen.min, seen.max) == reference.minmax
    assert (seen.ci_low, seen.ci_high) == pytest.approx(interval, rel=1e-9, abs=1e-9)


def test_cv_is_a_percentage_of_the_mean():
    seen = describe([9.0, 10.0, 11.0])

    assert seen.cv_percent == pytest.approx(10.0)
    assert describe([-9.0, -10.0, -11.0]).cv_percent == pytest.approx(10.0)


def test_equal_values_have_a_std_of_exactly_zero():
    value = 5.700000000000001  # three times this is not three times its third

    seen = describe([value] * 7)

    assert (seen.mean, seen.std, seen.cv_percent) == (value, 0.0, 0.0)
    assert (seen.ci_low, seen.ci_high) == (value, value)
    assert seen.constant
    assert "equal" in seen.reason


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([], "n = 0"),
        ([5.7], "n = 1"),
        ([5.7, float("nan"), 5.8], "1 of 3 values"),
        ([5.7, float("inf")], "1 of 2 values"),
        ([-1.0, 1.0], "mean is 0"),
        ([1e308, -1e308], "range"),
    ],
)
def test_what_has_no_answer_says_why(values, reason):
    seen = describe(values)

    assert not seen.defined
    assert reason in seen.reason
    assert clean(seen)


def test_one_value_keeps_its_mean():
    seen = describe([5.7])

    assert (seen.n, seen.mean, seen.min, seen.max, seen.std) == (1, 5.7, 5.7, 5.7, None)


@given(anything)
def test_never_nan_and_never_silent(values):
    assert clean(describe(values))


@pytest.mark.parametrize(("successes", "n"), [(0, 20), (1, 20), (745, 1319), (20, 20)])
def test_the_binomial_interval_is_wilsons(successes, n):
    expected = stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    found = proportion_interval(successes, n)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= found[0] <= successes / n <= found[1] <= 1


def test_values_whose_squares_leave_float64_have_a_spread_or_a_reason():
    """A broken model's perplexity is exp of what it is: 1e300 ended a whole session."""
    huge, small = np.array([5.7, 1e300, 5.6]), np.array([1e-300, 2e-300, 3e-300])

    assert mean_of(np.array([1.7e308, 1.7e308, 0.0])) == pytest.approx(1.7e308 / 3 * 2)
    assert math.isnan(mean_of(np.array([math.inf, -math.inf])))
    assert math.isinf(variance_of(huge))
    assert std_of(huge) == pytest.approx(1e300 / math.sqrt(3))
    assert std_of(small) == pytest.approx(1e-300)
    assert "out of the range" in describe(huge).reason
    evidence = compared(dict(enumerate(huge)), {0: 5.0, 1: 5.1, 2: 5.2}, names=("rtn_w2", "fp16"))
    assert evidence["p_value"] is None
    assert evidence["reason"].startswith("some values of rtn_w2 are out of the range")
