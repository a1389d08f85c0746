import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from benchsuite.statistics import (
    cohens_d,
    cohens_dz,
    hedges_g,
    holm,
    one_sample,
    one_sample_d,
    paired,
    small_sample_correction,
    student,
    welch,
)
from tests.statistics.samples_for_tests import anything, clean, varied, with_moments

# The calibration document's example: means and stds of five seeds an arm.
COLA, RANDOM = with_moments(5.72, 0.08, 5, 1), with_moments(5.79, 0.12, 5, 2)


def test_the_documents_example_student():
    result = student(COLA, RANDOM)

    assert result.statistic == pytest.approx(-1.085, abs=5e-4)
    assert result.df == 8
    assert result.p_value == pytest.approx(0.3094, abs=5e-5)


def test_the_documents_example_welch():
    result = welch(COLA, RANDOM)

    assert result.statistic == pytest.approx(-1.085, abs=5e-4)
    assert result.df == pytest.approx(6.97, abs=5e-3)
    assert result.p_value == pytest.approx(0.3139, abs=5e-5)


def test_the_documents_example_effects():
    assert cohens_d(COLA, RANDOM).value == pytest.approx(-0.686, abs=5e-4)
    assert hedges_g(COLA, RANDOM).value == pytest.approx(-0.620, abs=5e-4)
    # For equal n, d = t sqrt(2 / n): what the document's printed numbers violate.
    assert cohens_d(COLA, RANDOM).value == pytest.approx(
        student(COLA, RANDOM).statistic * np.sqrt(2 / 5)
    )


@given(varied, varied)
def test_unpaired_tests_agree_with_scipy(a, b):
    for ours, equal_variances in ((welch(a, b), False), (student(a, b), True)):
        reference = stats.ttest_ind(a, b, equal_var=equal_variances)
        interval = reference.confidence_interval()
        assert ours.statistic == pytest.approx(reference.statistic, rel=1e-9, abs=1e-9)
        assert ours.p_value == pytest.approx(reference.pvalue, rel=1e-8, abs=1e-12)
        assert ours.df == pytest.approx(reference.df)
        assert (ours.ci_low, ours.ci_high) == pytest.approx(interval, rel=1e-8, abs=1e-6)


@given(varied, st.floats(-1e6, 1e6))
def test_one_sample_agrees_with_scipy(a, constant):
    reference = stats.ttest_1samp(a, constant)

    ours = one_sample(a, constant)

    assert ours.statistic == pytest.approx(reference.statistic, rel=1e-9, abs=1e-9)
    assert ours.p_value == pytest.approx(reference.pvalue, rel=1e-8, abs=1e-12)


@given(varied, st.data())
def test_paired_agrees_with_scipy(a, data):
    noise = data.draw(st.lists(st.floats(-10, 10), min_size=len(a), max_size=len(a)))
    b = [x + e for x, e in zip(a, noise, strict=True)]
    assume(np.std(np.subtract(a, b)) > 1e-3)
    reference = stats.ttest_rel(a, b)

    ours = paired(a, b)

    assert ours.statistic == pytest.approx(reference.statistic, rel=1e-6, abs=1e-6)
    assert ours.p_value == pytest.approx(reference.pvalue, rel=1e-5, abs=1e-9)
    if np.std(b) > 0:
        assert ours.correlation == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-9)


@given(varied, varied)
def test_swapping_the_arms_turns_the_sign_only(a, b):
    for test in (welch, student):
        there, back = test(a, b), test(b, a)
        assert there.statistic == pytest.approx(-back.statistic, abs=1e-12)
        assert there.p_value == pytest.approx(back.p_value)
        assert there.ci_low == pytest.approx(-back.ci_high)
    for effect in (cohens_d, hedges_g):
        assert effect(a, b).value == pytest.approx(-effect(b, a).value, abs=1e-12)


@given(varied, varied, st.floats(-100, 100), st.sampled_from([0.25, 3.0, 1000.0]))
def test_shift_and_scale_change_no_decision(a, b, shift, scale):
    moved_a, moved_b = [scale * (x + shift) for x in a], [scale * (x + shift) for x in b]

    assert welch(moved_a, moved_b).p_value == pytest.approx(welch(a, b).p_value, rel=1e-5)
    assert cohens_d(moved_a, moved_b).value == pytest.approx(
        cohens_d(a, b).value, rel=1e-5, abs=1e-8
    )
    assert welch(moved_a, moved_b).difference == pytest.approx(
        scale * welch(a, b).difference, rel=1e-5, abs=1e-5
    )


@given(anything, anything)
def test_never_nan_and_never_silent(a, b):
    for test in (welch, student, paired, cohens_d, hedges_g, cohens_dz):
        assert clean(test(a, b))
    if b:
        assert clean(one_sample(a, b[0]))
        assert clean(one_sample_d(a, b[0]))


@given(varied, st.floats(-1e6, 1e6))
def test_welch_against_a_constant_arm_is_the_one_sample_test(a, constant):
    against = welch(a, [constant] * 5)
    alone = one_sample(a, constant)

    assert against.p_value == pytest.approx(alone.p_value, rel=1e-9)
    assert against.df == pytest.approx(len(a) - 1)
    assert "b is constant" in against.reason


def test_student_refuses_one_constant_arm():
    result = student([5.7, 5.8, 5.9], [5.6, 5.6, 5.6])

    assert not result.defined
    assert "one-sample" in result.reason


@pytest.mark.parametrize("test", [welch, student])
def test_two_constant_arms_differ_exactly(test):
    result = test([5.5] * 3, [5.25] * 3)

    assert (result.defined, result.p_value, result.difference) == (False, None, 0.25)
    assert "exactly 0.25" in result.reason


def test_arms_whose_squares_are_nothing_are_not_called_constant():
    result = welch([1e-170, 2e-170, 3e-170], [4e-170, 6e-170, 5e-170])
    assert not result.defined
    assert "out of the range" in result.reason


def test_paired_refuses_unequal_lengths():
    assert "cannot be paired" in paired([1.0, 2.0], [1.0, 2.0, 3.0]).reason
    assert "cannot be paired" in cohens_dz([1.0, 2.0], [1.0, 2.0, 3.0]).reason


def test_cohens_dz_is_the_corrected_mean_over_std_of_differences():
    a, b = [3.0, 4.0, 6.0], [2.0, 2.0, 3.0]  # differences 1, 2, 3

    assert cohens_dz(a, b, corrected=False).value == pytest.approx(2.0)
    assert cohens_dz(a, b).value == pytest.approx(2.0 * 0.5641896)


@pytest.mark.parametrize(("df", "j"), [(4, 0.798), (6, 0.869), (8, 0.903), (18, 0.958), (2, 0.564)])
def test_small_sample_correction(df, j):
    assert small_sample_correction(df) == pytest.approx(j, abs=5e-4)


def test_one_degree_of_freedom_has_no_corrected_effect():
    for effect in (
        one_sample_d([1.0, 2.0], 0.5, corrected=True),
        cohens_dz([1.0, 2.0], [0.0, 3.0]),
    ):
        assert (effect.value, effect.defined) == (None, False)
        assert "one degree of freedom" in effect.reason
    assert one_sample_d([1.0, 2.0], 0.5).value == pytest.approx(2**0.5)


def step_down(p_values, alpha):
    """Return which hypotheses Holm's sequential procedure rejects, as he states it."""
    rejected = set()
    for i in sorted(range(len(p_values)), key=p_values.__getitem__):
        if p_values[i] * (len(p_values) - len(rejected)) >= alpha:
            break
        rejected.add(i)
    return rejected


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.001, 0.999))
def test_holm_rejects_what_the_sequential_procedure_rejects(p_values, alpha):
    adjusted = holm(p_values)

    assert {i for i, p in enumerate(adjusted) if p < alpha} == step_down(p_values, alpha)
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))


def test_holm_on_a_worked_example():
    # Holm's procedure as in Wright (1992), "Adjusted p-values for simultaneous inference".
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_passes_over_what_was_not_tested():
    assert holm([0.01, None, 0.04]) == [0.02, None, 0.04]
    assert holm([]) == []


@pytest.mark.parametrize("p", [math.nan, -0.1, 1.5, math.inf])
def test_holm_refuses_what_is_no_p_value(p):
    with pytest.raises(ValueError, match="is no p-value"):
        holm([p, 0.01, 0.02])
