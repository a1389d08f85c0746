import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchsuite.statistics import item_bootstrap, mcnemar

RNG = np.random.default_rng(3)
NLL = RNG.normal(2.0, 0.5, size=120)


def test_the_paired_interval_ignores_what_items_share():
    better = NLL - 0.02 + RNG.normal(0, 0.01, size=120)

    result = item_bootstrap([better], [NLL], metric=np.exp)

    assert result.difference == pytest.approx(np.exp(better.mean()) - np.exp(NLL.mean()))
    assert result.ci_low < result.difference < result.ci_high < 0
    assert result.p_value < 0.001


def test_the_error_is_that_of_the_mean_difference():
    other = NLL + RNG.normal(0, 0.1, size=120)
    expected = np.std(other - NLL, ddof=1) / np.sqrt(120)

    assert item_bootstrap([other], [NLL]).error == pytest.approx(expected, rel=0.1)


def test_seeds_are_averaged_after_the_metric():
    seeds = [NLL, NLL + 0.1]

    result = item_bootstrap(seeds, [NLL], metric=np.exp)

    first, second = np.exp(NLL.mean()), np.exp((NLL + 0.1).mean())
    assert result.difference == pytest.approx((first + second) / 2 - first)


def test_swap_mirrors_the_interval():
    other = NLL + RNG.normal(0, 0.1, size=120)
    there, back = item_bootstrap([other], [NLL]), item_bootstrap([NLL], [other])

    assert there.ci_low == pytest.approx(-back.ci_high)
    assert there.p_value == pytest.approx(back.p_value)


def test_equal_items_need_no_draw():
    result = item_bootstrap([NLL], [NLL])

    assert (result.difference, result.p_value) == (0.0, 1.0)
    assert "same value" in result.reason


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        ([[1.0, 2.0]], [[1.0, 2.0, 3.0]], "2 and 3 items"),
        ([[1.0, 2.0], [1.0]], [[1.0, 2.0]], "equally many"),
        ([], [[1.0, 2.0]], "equally many"),
        ([[1.0]], [[2.0]], "n = 1"),
        ([[1.0, np.nan]], [[2.0, 1.0]], "not finite"),
    ],
)
def test_what_cannot_be_paired_says_why(a, b, reason):
    result = item_bootstrap(a, b)

    assert not result.defined
    assert reason in result.reason


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_mcnemar_is_the_sign_test_of_the_discordant_pairs(answers):
    a, b = [x for x, _ in answers], [y for _, y in answers]
    only_a, only_b = answers.count((True, False)), answers.count((False, True))
    result = mcnemar(a, b)

    assert result.difference == pytest.approx(np.mean(a) - np.mean(b))
    if only_a + only_b:
        expected = stats.binomtest(only_a, only_a + only_b).pvalue
        assert result.p_value == pytest.approx(expected)
    else:
        assert result.p_value == 1.0


def test_mcnemar_refuses_unequal_lengths():
    assert "cannot be paired" in mcnemar([True], [True, False]).reason
