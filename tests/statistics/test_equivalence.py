import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchsuite.statistics import tost
from tests.statistics.samples_for_tests import anything, clean, varied, with_moments


@given(varied, varied, st.sampled_from([0.1, 1.0, 1e4]))
def test_is_two_of_scipys_one_sided_tests(a, b, margin):
    raised, lowered = [x + margin for x in a], [x - margin for x in a]
    above = stats.ttest_ind(raised, b, equal_var=False, alternative="greater").pvalue
    below = stats.ttest_ind(lowered, b, equal_var=False, alternative="less").pvalue

    result = tost(a, b, margin)

    assert result.p_value == pytest.approx(max(above, below), rel=1e-5, abs=1e-9)


def test_paired_is_two_of_scipys_one_sided_tests():
    a, b = with_moments(5.7, 0.1, 6, 1), with_moments(5.72, 0.1, 6, 2)
    differences = [x - y for x, y in zip(a, b, strict=True)]
    above = stats.ttest_1samp(differences, -0.1, alternative="greater").pvalue
    below = stats.ttest_1samp(differences, 0.1, alternative="less").pvalue

    assert tost(a, b, 0.1, by_seed=True).p_value == pytest.approx(max(above, below))


@given(varied, varied, st.sampled_from([0.1, 1.0, 1e4]))
def test_equivalent_is_the_interval_inside_the_margin(a, b, margin):
    result = tost(a, b, margin)

    inside = -margin < result.ci_low and result.ci_high < margin
    assert result.equivalent == inside
    assert not (result.equivalent and result.different)


def test_equal_means_still_have_an_error():
    result = tost([5.0, 5.2, 5.1], [5.0, 5.2, 5.1], 0.5)

    assert result.difference == 0
    assert result.equivalent


def test_constant_arms_are_compared_exactly():
    assert tost([5.5] * 3, [5.25] * 3, 0.3).equivalent
    assert tost([5.5] * 3, [5.25] * 3, 0.2).different
    assert tost([5.5] * 3, [5.25] * 3, 0.2).p_value is None


def test_a_margin_must_be_positive():
    assert "not positive" in tost([1.0, 2.0], [1.0, 2.0], 0.0).reason


@given(anything, anything)
def test_never_nan_and_never_silent(a, b):
    assert clean(tost(a, b, 0.05))
    assert clean(tost(a, b, 0.05, by_seed=True))
