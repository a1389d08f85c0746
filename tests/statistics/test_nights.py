"""Changes over nights: no false marks however often one looks, and large changes found."""

import numpy as np
import pytest

from benchsuite.statistics.inference import nights
from benchsuite.statistics.inference.changes import arm_change

SEEDS = range(42, 47)


def arm(rng, mean, sd=0.05):
    return {seed: float(v) for seed, v in zip(SEEDS, rng.normal(mean, sd, 5), strict=True)}


def test_all_looks_together_spend_alpha():
    assert sum(nights.spent(t, 0.05) for t in range(1, 200_001)) == pytest.approx(0.05, rel=1e-4)


def test_of_many_nights_and_methods_few_runs_mark_anything_false():
    rng, rounds = np.random.default_rng(0), 150
    false = 0
    for _ in range(rounds):
        series = {name: [arm(rng, 5.8) for _ in range(12)] for name in range(6)}
        found = nights.over_nights(series)
        false += any(c and c.outcome == "beyond_noise" for cs in found.values() for c in cs)
    # Four standard errors of a share of .05 over the rounds.
    assert false / rounds <= 0.05 + 4 * (0.05 * 0.95 / rounds) ** 0.5


def test_a_large_change_is_marked_once_and_a_drift_is_seen_from_its_beginning():
    rng = np.random.default_rng(1)
    base = arm(rng, 5.8)
    series = {
        "level": [arm(rng, mean) for mean in [5.8] * 5 + [7.0] * 7],
        "drift": [{seed: v + 0.04 * night for seed, v in base.items()} for night in range(12)],
    }
    found = nights.over_nights(series)
    marked = {
        name: [i for i, c in enumerate(changes) if c and c.outcome == "beyond_noise"]
        for name, changes in found.items()
    }
    assert marked["level"] == [5]
    assert marked["drift"]
    assert found["level"][5].difference == pytest.approx(1.2, abs=0.15)
    pairs = zip(series["drift"], series["drift"][1:], strict=False)
    assert min(arm_change(a, b).p_value for a, b in pairs) > 0.05  # no night beside the last one


def test_a_night_more_changes_no_mark_before():
    rng = np.random.default_rng(2)
    series = {n: [arm(rng, 5.8 + (i > 3)) for i in range(8)] for n in "ab"}
    whole = nights.over_nights(series)
    for length in range(1, 8):
        shorter = nights.over_nights({n: arms[:length] for n, arms in series.items()})
        assert shorter == {n: changes[:length] for n, changes in whole.items()}


def test_equal_bits_missing_nights_and_single_seeds_are_no_change():
    same = {42: 5.8, 43: 5.9}
    found = nights.over_nights({"a": [same, {}, same], "b": [{42: 1.0}, {42: 2.0}, {}]})
    assert [c and c.outcome for c in found["a"]] == [None, None, "equal"]
    assert [c and c.outcome for c in found["b"]] == [None, "unknown", None]


def test_what_did_not_vary_and_does_is_a_change():
    still = dict.fromkeys(SEEDS, 5.8)
    found = nights.over_nights({"a": [still, still, dict.fromkeys(SEEDS, 5.9)]})["a"]
    assert [c and c.outcome for c in found] == [None, "equal", "beyond_noise"]
