"""Seeds and items drawn together: against the variances of a known crossed design."""

import tracemalloc

import numpy as np
import pytest

from benchsuite.statistics import PerItem, Ranking, auroc_over_both, means_over_both
from benchsuite.statistics.item_tests import item_difference
from benchsuite.statistics.two_levels import MOST_UNITS

IDS = np.array([f"q{i}" for i in range(60)])


def crossed(rng, std_seeds, std_items, n_seeds=5, n=60):
    """Return an arm: a seed moves all of its items, an item is hard for all seeds."""
    seeds, items = std_seeds * rng.normal(size=(n_seeds, 1)), std_items * rng.normal(size=n)
    values = seeds + items + 0.01 * rng.normal(size=(n_seeds, n))
    return {s: PerItem(row, IDS[:n]) for s, row in enumerate(values)}


@pytest.mark.parametrize(
    ("std_seeds", "std_items", "source"), [(1, 0.1, "seeds"), (0.01, 1, "items")]
)
def test_the_larger_source_of_variation_is_named(std_seeds, std_items, source):
    rng = np.random.default_rng(0)
    found = means_over_both(*(crossed(rng, std_seeds, std_items) for _ in range(2)))
    assert found.dominant == source
    assert found.error == pytest.approx(getattr(found, f"error_{source}"), rel=0.1)
    assert (found.n_seeds, found.n_items) == ((5, 5), 60)


def test_both_variances_add_up():
    rng = np.random.default_rng(1)
    a, b = (crossed(rng, 1, 7) for _ in range(2))
    found = means_over_both(a, b)
    rows = [np.array([items.values for items in arm.values()]) for arm in (a, b)]
    seeds = sum(row.mean(1).var(ddof=1) / 5 for row in rows)
    items = (rows[0].mean(0) - rows[1].mean(0)).var(ddof=1) / 60
    assert found.error_seeds == pytest.approx(np.sqrt(seeds))
    assert found.error_items == pytest.approx(np.sqrt(items), rel=0.08)
    assert found.error == pytest.approx(np.sqrt(seeds + items), rel=0.08)
    assert found.share_seeds == pytest.approx(seeds / (seeds + items), abs=0.08)
    assert found.ci_low < found.difference < found.ci_high


@pytest.mark.parametrize("n_seeds", [3, 5])
def test_the_interval_covers_with_few_seeds(n_seeds):
    covered = 0
    for round_ in range(300):
        rng = np.random.default_rng(round_)
        a, b = (crossed(rng, 0.2, 1, n_seeds, 30) for _ in range(2))
        found = means_over_both(a, b)
        covered += found.ci_low <= 0 <= found.ci_high
    bar = 3 * np.sqrt(0.05 * 0.95 / 300)
    assert 0.93 - bar < covered / 300 < 0.98 + bar


def test_a_shared_seed_is_drawn_for_both_arms():
    rng = np.random.default_rng(2)
    arm = crossed(rng, 1, 0.1)
    other = {s: PerItem(items.values + 0.1 * rng.normal(size=60), IDS) for s, items in arm.items()}
    assert (
        means_over_both(arm, other, shared_seeds=True).error < means_over_both(arm, other).error / 5
    )


def test_clusters_are_drawn_as_a_whole():
    rng = np.random.default_rng(3)
    passages = np.repeat(np.arange(15), 4)
    moved = np.repeat(rng.normal(size=15), 4)
    arms = [
        {s: PerItem(value + 0.01 * rng.normal(size=60), IDS, passages) for s in range(3)}
        for value in (moved, np.zeros(60))
    ]
    found = means_over_both(*arms)
    assert (found.n_units, found.n_items) == (15, 60)
    assert found.error_items == pytest.approx(moved[::4].std(ddof=1) / np.sqrt(15), rel=0.1)


def test_two_clusters_with_most_items_vary_like_two():
    rng, sizes = np.random.default_rng(0), [2] * 28 + [126] * 2
    clusters = np.repeat(np.arange(30), sizes)
    ids = np.arange(len(clusters))

    def arm(place):
        moved = np.repeat(rng.normal(size=30), sizes)
        return {s: PerItem(moved + 0.01 * rng.normal(size=len(ids)), ids, place) for s in (1, 2, 3)}

    found = means_over_both(arm(clusters), arm(clusters))

    assert found.n_units == 30
    assert found.df < 2 * (308**2 / (28 * 4 + 2 * 126**2) - 1)
    lopsided = np.minimum(ids, 20)
    assert means_over_both(arm(lopsided), arm(lopsided)).reason == (
        "one cluster holds nearly all items"
    )


def test_more_items_than_are_drawn_one_by_one_have_the_variance_that_they_have():
    rng, n = np.random.default_rng(6), 2 * MOST_UNITS + 1
    arms = [{s: PerItem(rng.normal(size=n) * scale) for s in range(2)} for scale in (1, 3)]
    tracemalloc.start()
    found = means_over_both(*arms)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    means = [np.mean([one.values for one in arm.values()], axis=0) for arm in arms]
    assert found.error_items == pytest.approx((means[0] - means[1]).std(ddof=1) / n**0.5, rel=0.08)
    assert found.n_units == found.n_items == n
    assert peak < 2.5 * 8 * 500 * MOST_UNITS  # bytes: the draws as they come, and as numbers


def test_an_auroc_has_both_sources_too():
    rng, wrong = np.random.default_rng(4), np.arange(60) % 3 == 0
    easy = rng.normal(size=60) + 2 * wrong
    arms = [
        {s: Ranking(wrong, score + 0.1 * rng.normal(size=60), IDS) for s in range(4)}
        for score in (easy, rng.normal(size=60))
    ]
    found = auroc_over_both(*arms)
    assert found.dominant == "items"
    assert found.ci_low > 0
    few = auroc_over_both(*({1: Ranking(np.arange(60) < 3, easy, IDS)} for _ in range(2)))
    assert "3 positive items" in few.reason


def test_one_seed_of_each_arm_or_few_items_is_no_such_question():
    rng = np.random.default_rng(5)
    one = crossed(rng, 1, 1, n_seeds=1)
    assert "one seed" in means_over_both(one, one).reason
    short = crossed(rng, 1, 1, n=6)
    assert "n = 6 items" in means_over_both(short, short).reason


@pytest.mark.parametrize("scale", [1e-90, 1e120])  # of probabilities of whole texts, say
def test_the_unit_changes_no_answer(scale):
    draw = np.random.default_rng(3)
    arms = [crossed(draw, 0.1, 0.3) for _ in range(2)]
    scaled = [{s: PerItem(scale * r.values, r.ids) for s, r in arm.items()} for arm in arms]
    for compare in (means_over_both, item_difference):
        expected, found = compare(*arms), compare(*scaled)
        assert found.p_value == pytest.approx(expected.p_value)
        assert found.df == pytest.approx(expected.df)
        assert found.error == pytest.approx(scale * expected.error)


def test_items_whose_differences_float64_cannot_hold_have_no_test():
    draw = np.random.default_rng(3)
    arms = [{s: PerItem(1e308 * draw.random(20), IDS[:20]) for s in range(3)} for _ in range(2)]
    for compare in (means_over_both, item_difference):
        found = compare(*arms)
        assert found.p_value is None
        assert found.reason
