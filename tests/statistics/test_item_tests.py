"""Paired tests over items: by id, exact where few differ, covering where values are skewed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from benchsuite.statistics import PerItem, item_difference, mcnemar
from benchsuite.statistics.item_tests import paired_interval
from benchsuite.statistics.pairing import neighbours

RNG = np.random.default_rng(3)
NLL = RNG.normal(2.0, 0.5, size=120)
IDS = np.array([f"q{i}" for i in range(120)])


def one(values, ids=None, clusters=None):
    return {42: PerItem(values, ids, clusters)}


def test_the_paired_interval_ignores_what_items_share():
    better = NLL - 0.02 + RNG.normal(0, 0.01, size=120)

    result = item_difference(one(better), one(NLL), metric=np.exp)

    assert result.difference == pytest.approx(np.exp(better.mean()) - np.exp(NLL.mean()))
    assert result.ci_low < result.difference < result.ci_high < 0
    assert result.p_value < 0.001


def test_of_a_mean_it_is_the_paired_t_test():
    other = NLL + RNG.normal(0, 0.1, size=120)
    result = item_difference(one(other), one(NLL))
    expected = stats.ttest_rel(other, NLL)

    assert result.error == pytest.approx(np.std(other - NLL, ddof=1) / np.sqrt(120))
    assert (result.test, result.df) == ("item_t", expected.df)
    # The wider of Student's and Hall's: near it where there is next to no skewness.
    assert result.p_value >= expected.pvalue * (1 - 1e-9)
    low, high = expected.confidence_interval()
    assert result.ci_low <= low + 1e-9 < high <= result.ci_high + 1e-9
    assert result.ci_high - result.ci_low == pytest.approx(high - low, rel=0.1)


def test_the_error_of_a_metric_is_that_of_the_delta_method():
    other = NLL + RNG.normal(0, 0.1, size=120)
    result = item_difference(one(other), one(NLL), metric=np.exp)
    parts = np.exp(other.mean()) * other - np.exp(NLL.mean()) * NLL

    assert result.error == pytest.approx(parts.std(ddof=1) / np.sqrt(120), rel=0.01)


def test_seeds_are_averaged_after_the_metric():
    result = item_difference({1: NLL, 2: NLL + 0.1}, one(NLL), metric=np.exp)

    first, second = np.exp(NLL.mean()), np.exp((NLL + 0.1).mean())
    assert result.difference == pytest.approx((first + second) / 2 - first)


def test_swap_mirrors_the_interval():
    other = NLL + RNG.exponential(0.1, size=120)
    there, back = item_difference(one(other), one(NLL)), item_difference(one(NLL), one(other))

    assert there.ci_low == pytest.approx(-back.ci_high)
    assert there.p_value == pytest.approx(back.p_value)


def test_items_are_paired_by_id_whatever_their_order():
    other, order = NLL + RNG.normal(0, 0.1, size=120), RNG.permutation(120)
    expected = item_difference(one(other, IDS), one(NLL, IDS))
    found = item_difference(one(other[order], IDS[order]), one(NLL, IDS))

    assert (found.by, found.n_items) == ("id", 120)
    assert found.error == pytest.approx(expected.error)
    assert item_difference(one(other[order]), one(NLL)).by == "place"


def test_of_different_items_the_shared_part_is_compared_and_the_rest_counted():
    other = NLL + RNG.normal(0, 0.1, size=120)
    found = item_difference(one(other[:100], IDS[:100]), one(NLL[20:], IDS[20:]))
    expected = item_difference(one(other[20:100]), one(NLL[20:100]))

    assert (found.n_items, found.n_left_out) == (80, 40)
    assert found.difference == pytest.approx(expected.difference)
    apart = item_difference(one(other[:60], IDS[:60]), one(NLL[60:], IDS[60:]))
    assert "no id is shared" in apart.reason
    assert apart.difference is None


def test_a_question_of_several_seeds_is_one_observation():
    """Three seeds that ask the same questions know no more than one that asks them thrice."""
    other = NLL + RNG.normal(0, 0.1, size=120)
    once = item_difference(one(other, IDS), one(NLL, IDS))
    thrice = item_difference(
        {s: PerItem(other, IDS) for s in (1, 2, 3)}, {s: PerItem(NLL, IDS) for s in (1, 2, 3)}
    )

    assert thrice.n_items == 120
    assert (thrice.error, thrice.p_value) == pytest.approx((once.error, once.p_value))


def test_seeds_with_overlapping_questions_hold_each_distinct_one_once():
    rng = np.random.default_rng(4)
    other = NLL + rng.normal(0, 0.1, size=120)
    drawn = [rng.choice(120, 80, replace=False) for _ in range(3)]
    arms = ({s: PerItem(values[d], IDS[d]) for s, d in enumerate(drawn)} for values in (other, NLL))
    found = item_difference(*arms)

    assert found.n_items == len(set(np.concatenate(drawn)))
    assert found.error < np.std(other - NLL, ddof=1) / np.sqrt(80)


def test_clusters_are_taken_as_one():
    shared = np.repeat(RNG.normal(0, 0.1, size=24), 5)
    other, clusters = NLL + 0.01 + shared, np.repeat(np.arange(24), 5)
    found = item_difference(one(other, IDS, clusters), one(NLL, IDS, clusters))

    assert (found.n_items, found.n_units, found.df) == (120, 24, 23)
    assert found.error == pytest.approx(shared[::5].std(ddof=1) / np.sqrt(24))
    moved = item_difference(one(other, IDS, clusters), one(NLL, IDS, clusters + 7))
    assert moved.error == pytest.approx(found.error)
    assert neighbours(165).max() + 1 == 33
    assert len(set(neighbours(17))) == 17


def test_two_clusters_with_most_items_scatter_like_two():
    """Taken as forty they made a claim in one of six comparisons of nothing, at 5 %."""
    rng, sizes = np.random.default_rng(0), [2] * 38 + [342] * 2
    clusters = np.repeat(np.arange(40), sizes)
    ids, base = np.arange(len(clusters)), np.zeros(len(clusters))
    drawn = [np.repeat(rng.normal(size=40), sizes) + rng.normal(size=len(ids)) for _ in range(400)]
    found = [item_difference(one(row, ids, clusters), one(base, ids, clusters)) for row in drawn]

    assert found[0].df == pytest.approx(760**2 / (38 * 4 + 2 * 342**2) - 1)
    assert np.mean([result.p_value < 0.05 for result in found]) < 0.08
    lopsided = np.minimum(np.arange(760), 20)
    nothing = item_difference(one(drawn[0], ids, lopsided), one(base, ids, lopsided))
    assert nothing.reason == "one cluster holds nearly all items"
    assert not nothing.defined


def test_equal_items_have_no_difference():
    result = item_difference(one(NLL), one(NLL))

    assert (result.difference, result.p_value) == (0.0, 1.0)
    assert "same value" in result.reason


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        ({1: [1.0, 2.0]}, {1: [1.0, 2.0, 3.0]}, "2 and 3 items"),
        ({1: [1.0, 2.0], 2: [1.0]}, {1: [1.0, 2.0]}, "equally many"),
        ({}, {1: [1.0, 2.0]}, "keeps no items"),
        ({1: [1.5] * 9}, {1: [2.0] * 9}, "n = 9 items: fewer than 10"),
        ({1: [1.0, np.nan]}, {1: [2.0, 1.0]}, "not finite"),
        ({1: PerItem([1, 2], ["q", "q"])}, {1: PerItem([1], ["q"])}, "several items"),
    ],
)
def test_what_cannot_be_paired_says_why(a, b, reason):
    result = item_difference(a, b)

    assert not result.defined
    assert reason in result.reason


def test_where_few_items_differ_their_signs_are_counted():
    """Four of 400 answers change, all for the better: a t-test says p = .045."""
    rows = np.zeros((2, 3, 400))
    rows[0, :, :4] = 1
    found = item_difference(*(dict(enumerate(arm)) for arm in rows))

    assert (found.test, found.p_value) == ("sign_flip_items", 2 / 2**4)
    assert found.ci_low < 0 < found.ci_high


def covered(draw, truth, n, rounds=400):
    """Return how often the interval of a mean of ``n`` values contains the true one."""
    rng = np.random.default_rng(0)
    found = (item_difference(one(draw(rng, n)), one(np.zeros(n))) for _ in range(rounds))
    return np.mean([f.ci_low <= truth <= f.ci_high for f in found])


@pytest.mark.parametrize("n", [10, 40])
@pytest.mark.parametrize("kind", ["normal", "skewed", "heavy"])
def test_intervals_cover_with_ten_items_and_with_skewed_ones(kind, n):
    draw, truth = {
        "normal": (lambda rng, n: rng.normal(size=n), 0.0),
        "skewed": (lambda rng, n: rng.exponential(size=n), 1.0),
        "heavy": (lambda rng, n: rng.standard_t(3, size=n), 0.0),
    }[kind]
    bar = 3 * np.sqrt(0.05 * 0.95 / 400)
    assert 0.93 - bar < covered(draw, truth, n) < 0.97 + bar


def tango(only_a, only_b, n, delta):
    """Return Tango's score with the restricted estimate found by maximising the likelihood."""

    def loss(share):
        shares = (share + delta, share, 1 - 2 * share - delta)
        counts = (only_a, only_b, n - only_a - only_b)
        return -sum(c * np.log(max(s, 1e-300)) for c, s in zip(counts, shares, strict=True) if c)

    bounds = (max(0, -delta), (1 - delta) / 2)
    share = optimize.minimize_scalar(loss, bounds=bounds, method="bounded").x
    return (only_a - only_b - n * delta) / np.sqrt(n * (2 * share + delta - delta**2))


@pytest.mark.parametrize(("only_a", "only_b", "n"), [(10, 4, 100), (1, 7, 50), (3, 3, 20)])
def test_the_interval_of_paired_shares_is_tangos(only_a, only_b, n):
    low, high = paired_interval(only_a, only_b, n)
    assert tango(only_a, only_b, n, low) == pytest.approx(1.959964, abs=1e-2)
    assert tango(only_a, only_b, n, high) == pytest.approx(-1.959964, abs=1e-2)


def test_no_changed_answer_leaves_an_interval_with_a_width():
    found = mcnemar([True] * 600, [True] * 600)
    assert (found.difference, found.p_value) == (0, 1)
    assert -0.01 < found.ci_low < 0 < found.ci_high < 0.01
    assert found.error > 0


def test_right_and_wrong_answers_of_one_seed_are_mcnemars_case():
    right = RNG.random((2, 120)) < 0.5
    found = item_difference(*(one(row, IDS) for row in right), metric=lambda mean: 100 * mean)
    expected = mcnemar(*right)

    assert (found.test, found.p_value) == ("mcnemar", expected.p_value)
    assert found.difference == pytest.approx(100 * expected.difference)
    assert found.ci_low == pytest.approx(100 * expected.ci_low)


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


@pytest.mark.parametrize(
    "ids",
    [
        [("set", i) for i in range(120)],
        [i if i % 2 else str(i + 1) for i in range(120)],
        ["q" + "\0" * i for i in range(120)],
        [2**70 + i for i in range(120)],
    ],
    ids=["tuples", "numbers and their texts", "NULs", "large"],
)
def test_items_are_paired_by_whatever_names_them(ids):
    order = np.random.default_rng(0).permutation(120)
    other = NLL + RNG.normal(0, 0.1, size=120)

    found = item_difference(one(other[order], [ids[i] for i in order]), one(NLL, ids))
    fewer = item_difference(one(other[:50], ids[:50]), one(NLL, ids))

    expected = item_difference(one(other, IDS), one(NLL, IDS))
    assert (found.n_items, found.p_value) == (120, pytest.approx(expected.p_value))
    assert (fewer.n_items, fewer.n_left_out) == (50, 70)


def test_clusters_that_one_arm_alone_knows_count_whichever_arm_comes_first():
    rng, ids = np.random.default_rng(3), np.arange(60)
    known = {1: PerItem(rng.normal(size=60), ids, ids // 4)}
    unknown = {1: PerItem(rng.normal(size=60), ids)}
    one, other = item_difference(known, unknown), item_difference(unknown, known)
    assert one.n_units == other.n_units == 15
    assert one.error == pytest.approx(other.error)
