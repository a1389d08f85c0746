"""Tests of a mean difference against an edge, over items or over clusters of them."""

import numpy as np
import pytest
from scipy import stats

from benchsuite.statistics.paired_means import (
    Differences,
    differences,
    mean_above,
    mean_below,
    mean_interval,
    mean_items_needed,
)
from benchsuite.statistics.paired_shares import p_below

ROUNDS = 600
BAR = 0.05 + 3 * (0.05 * 0.95 / ROUNDS) ** 0.5


@pytest.mark.parametrize(("n", "more"), [(20, 1.25), (2000, 1.01)])
def test_without_skewness_it_is_the_t_test_but_for_skewness_that_was_not_seen(n, more):
    values = np.concatenate([x := np.linspace(0.1, 2, n), -x])
    found = differences(values, bounded=False)
    edge = 1.645 * found.error

    expected = stats.ttest_1samp(values, edge, alternative="less").pvalue

    assert expected < mean_below(found, edge) < more * expected
    assert mean_above(found, -edge) == pytest.approx(mean_below(found, edge))


def test_the_interval_holds_the_edges_that_no_test_rejects():
    found = differences(np.random.default_rng(0).gamma(1.0, 1.0, 40), bounded=False)
    low, high = mean_interval(found, 0.05)

    assert mean_below(found, high) == pytest.approx(0.05)
    assert mean_above(found, low) == pytest.approx(0.05)
    plain = stats.ttest_1samp(found.sums, 0).confidence_interval(0.9)
    # What is skewed to the right reaches further up than a t-interval, and no less far down.
    assert low == pytest.approx(plain.low)
    assert high > plain.high


@pytest.mark.parametrize("n", [4, 8, 16, 32])
def test_a_few_chunks_keep_alpha(n):
    """KL by chunk is skewed; Hall's correction by what was seen says "small" twice too often."""
    rng = np.random.default_rng(n)
    draws = {
        "normal": lambda: rng.normal(1, 0.3, n),
        "lognormal": lambda: rng.lognormal(-0.125, 0.5, n),
        "exponential": lambda: rng.exponential(1, n),
    }
    for name, draw in draws.items():
        found = [differences(draw(), bounded=False) for _ in range(ROUNDS)]
        assert np.mean([mean_below(f, 1.0) <= 0.05 for f in found]) <= BAR, name
        assert np.mean([mean_above(f, 1.0) <= 0.05 for f in found]) <= BAR, name


def test_a_skewed_loss_is_not_called_small_too_often():
    rng = np.random.default_rng(1)
    found = [differences(rng.gamma(1.0, 0.01, 64), bounded=False) for _ in range(ROUNDS)]

    assert np.mean([mean_below(f, 0.01) <= 0.05 for f in found]) <= BAR
    assert np.mean([mean_above(f, 0.01) <= 0.05 for f in found]) <= BAR


def test_few_differing_scores_are_not_called_small_too_often():
    """4 of 200 scores drop, by .5 on average, so that the loss is 1 point: a t-test says less."""
    rng = np.random.default_rng(2)

    def drawn():
        return np.where(rng.random(200) < 0.02, rng.uniform(0, 1, 200), 0.0)

    rows = [drawn() for _ in range(200)]
    by_t = [stats.ttest_1samp(r, 0.01, alternative="less").pvalue <= 0.05 for r in rows if r.any()]
    bar = 0.05 + 3 * (0.05 * 0.95 / 200) ** 0.5

    assert np.mean([mean_below(differences(r, bounded=True), 0.01) <= 0.05 for r in rows]) <= bar
    assert np.mean(by_t) > bar


def test_few_whole_differences_are_counted():
    values = np.zeros(300)
    values[:4], values[4:6] = 1.0, -1.0

    assert mean_below(differences(values, bounded=True), 0.05) == p_below(300, 4, 2, 0.05)


def test_identical_items_are_no_certainty():
    assert mean_below(differences(np.zeros(4), bounded=False), 0.005) == 1 / 16
    assert mean_above(differences(np.zeros(4), bounded=False), 0.005) == 1.0
    assert mean_below(differences(np.zeros(200), bounded=True), 0.01) == p_below(200, 0, 0, 0.01)
    assert mean_below(differences([0.001], bounded=False), 0.005) == 1.0


def test_items_of_one_cluster_count_once():
    rng = np.random.default_rng(3)
    values = rng.normal(size=30)
    clusters = [str(i) for i in range(30) for _ in range(10)]
    repeated = differences(values.repeat(10), clusters, bounded=False)
    alone = differences(values, bounded=False)

    assert mean_below(repeated, 0.1) == pytest.approx(mean_below(alone, 0.1))
    assert repeated.error == pytest.approx(alone.error)


@pytest.mark.parametrize(("n", "bounded"), [(4, False), (40, True)])
def test_equal_items_say_how_many_would_decide(n, bounded):
    """Two copies of one model, over too little text: nothing scatters, and more items decide."""
    seen = differences(np.zeros(n), bounded=bounded)
    edge = 0.01
    assert mean_below(seen, edge) > 0.05

    needed = mean_items_needed(seen, edge, mean=0.0, alpha=0.05, power=0.8)

    assert needed is not None
    assert mean_below(differences(np.zeros(needed), bounded=bounded), edge) <= 0.05
    assert needed == 5 or bounded


def test_the_items_needed_have_the_power_that_was_asked():
    rng = np.random.default_rng(4)
    seen = differences(stats.norm.ppf((np.arange(200) + 0.5) / 200), bounded=False)
    n = mean_items_needed(seen, 0.5, mean=0.1, alpha=0.05, power=0.8)

    found = [differences(rng.normal(0.1, 1, n), bounded=False) for _ in range(ROUNDS)]

    power = np.mean([mean_below(f, 0.5) <= 0.05 for f in found])
    assert power == pytest.approx(0.8, abs=3 * (0.8 * 0.2 / ROUNDS) ** 0.5 + 0.02)
    assert mean_items_needed(seen, 0.5, mean=0.5, alpha=0.05, power=0.8) is None


@pytest.mark.parametrize(
    "sizes",
    [
        [1] * 11 + [50],
        [1, 2, 3, 5, 8, 13, 21, 34] * 3,
        [1] * 38 + [171] * 2,
        [1] * 37 + [49] * 3,
        [1] * 39 + [39],
    ],
)
def test_clusters_of_unequal_size_do_not_hide_their_scatter(sizes):
    """One that holds most items lies near the mean that it makes: 39 % false verdicts at 5 %.

    Two that hold nine tenths scatter like two and not like forty: 13 %.
    """
    rng, n = np.random.default_rng(0), np.array(sizes, float)
    drawn = n * rng.normal(size=(2000, len(n))) + np.sqrt(n) * rng.normal(size=(2000, len(n)))

    found = [Differences(sums, n, False) for sums in drawn]

    assert np.mean([mean_below(one, 0.0) < 0.05 for one in found]) < 0.07
    without = (drawn[0].sum() - drawn[0]) / (n.sum() - n)
    error = np.sqrt((len(n) - 1) / len(n) * np.sum((without - found[0].mean) ** 2))
    assert found[0].error == pytest.approx(error)
    assert Differences(np.ones(1), np.ones(1), False).skew == 0


def test_one_cluster_with_nearly_all_items_decides_nothing():
    clusters = ["long"] * 970 + [f"short {n}" for n in range(30)]
    values = np.random.default_rng(0).normal(-5, 0.1, 1000)
    found = differences(values, clusters, bounded=False)

    assert mean_below(found, 0.0) == mean_above(found, -9.0) == 1.0
    assert mean_interval(found, 0.05) == (-np.inf, np.inf)
    alone = differences(values, bounded=False)
    assert alone.freedom == 999
    assert mean_below(alone, 0.0) < 1e-9
