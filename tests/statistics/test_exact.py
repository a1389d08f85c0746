import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchsuite.statistics import permutation, sign_flip, smallest_p
from tests.statistics.samples_for_tests import anything, clean, seeds


def whole(least, most):
    """Whole numbers: their sums tie exactly, in any order."""
    return st.lists(st.integers(-50, 50).map(float), min_size=least, max_size=most)


@settings(max_examples=25, deadline=None)
@given(whole(3, 3), whole(4, 4))
def test_permutation_counts_what_scipy_counts(a, b):
    reference = stats.permutation_test(
        (a, b),
        lambda x, y, axis: abs(x.mean(axis=axis) - y.mean(axis=axis)),
        vectorized=True,
        n_resamples=10**6,
        alternative="greater",
    )

    assert permutation(a, b).p_value == pytest.approx(reference.pvalue)


@settings(max_examples=25, deadline=None)
@given(whole(4, 4), whole(4, 4))
def test_sign_flip_counts_what_scipy_counts(a, b):
    reference = stats.permutation_test(
        (a, b),
        lambda x, y, axis: abs((x - y).mean(axis=axis)),
        vectorized=True,
        permutation_type="samples",
        n_resamples=10**6,
        alternative="greater",
    )

    assert sign_flip(a, b).p_value == pytest.approx(reference.pvalue)


@pytest.mark.parametrize(("n", "p"), [(3, 0.10), (4, 0.029), (5, 0.0079)])
def test_smallest_unpaired_p(n, p):
    low, high = [float(i) for i in range(n)], [float(100 + i) for i in range(n)]

    assert permutation(low, high).p_value == pytest.approx(p, abs=5e-4)
    assert smallest_p(n, paired=False) == pytest.approx(permutation(low, high).p_value)


@pytest.mark.parametrize(("n", "p"), [(3, 0.25), (5, 0.0625)])
def test_smallest_paired_p(n, p):
    low, high = [0.0] * n, [float(1 + i) for i in range(n)]

    assert sign_flip(low, high).p_value == p
    assert smallest_p(n, paired=True) == p


@given(seeds(2, 5), seeds(2, 5))
def test_permutation_is_symmetric(a, b):
    assert permutation(a, b).p_value == pytest.approx(permutation(b, a).p_value)


def test_too_many_arrangements_say_so():
    result = permutation(range(12), range(12))

    assert not result.defined
    assert "too many" in result.reason


@given(anything, anything)
def test_never_nan_and_never_silent(a, b):
    assert clean(sign_flip(a, b))
    assert clean(permutation(a, b))
