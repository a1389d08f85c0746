"""How many seeds a comparison needs: by its margin and the scatter that was seen, or why not."""

import math

import numpy as np
import pytest
from scipy.stats import chi2

from benchsuite.reporting.needs import need, scatter_of
from benchsuite.statistics.inference.sequential import Plan, planned
from benchsuite.statistics.power import equivalence_margin, minimum_detectable_effect, power_of
from benchsuite.study import Metric, Study, equivalent, lower
from tests.reporting.factory import grid, record

CELLS = grid("llama2_7b", methods=["random", "cola_zero"], seeds=range(1, 9))
ONE_LOOK = Plan((1, 2, 3, 4, 5), (5,))


def study(margin="0.5%", **fields):
    axes = {"model": ("llama2_7b",), "method": ("random", "cola_zero")}
    return Study(
        "s",
        "?",
        axes,
        (1, 2, 3, 4, 5),
        metrics=[Metric("perplexity", better="lower", margin=margin)],
        **fields,
    )


def arms(std=0.05, shift=0.0, n=8):
    rng = np.random.default_rng(3)
    found = {}
    for cell in CELLS[:]:
        if cell.seed <= n:
            mean = 5.7 + (shift if cell.method == "random" else 0)
            value = mean + std * float(rng.normal())
            found.setdefault(cell.method, {})[cell.seed] = record(cell, value)
    return found


def values(found, method):
    return np.array([r.value("perplexity") for r in found[method].values()])


CLAIM = lower("perplexity", "cola_zero", than="random")
HOW = {"alpha": 0.05, "family": 4, "power": 0.8}


def test_the_number_has_the_wanted_power_and_one_seed_less_has_not():
    found = arms()
    scatter = scatter_of(study("0.1"), CLAIM, found)
    pooled = math.sqrt(sum(values(found, m).var(ddof=1) for m in found) / 2)
    assert scatter.std == pytest.approx(pooled)
    assert scatter.low == pytest.approx(pooled * math.sqrt(14 / chi2.ppf(0.975, 14)))
    assert scatter.high == pytest.approx(pooled * math.sqrt(14 / chi2.ppf(0.025, 14)))

    got = need(study("0.1"), CLAIM, scatter, ONE_LOOK, **HOW)

    def power(n, std):
        return power_of(0.1 / std, n, paired=False, welch=True, alpha=0.05 / 4)

    for n, std in ((got.low, scatter.low), (got.seeds, scatter.std), (got.high, scatter.high)):
        assert power(n - 1, std) < 0.8 <= power(n, std)
    assert got.low < got.seeds < got.high


def test_a_relative_margin_is_of_the_other_arms_mean():
    found = arms()
    scatter = scatter_of(study("1%"), CLAIM, found)
    absolute = repr(float(values(found, "random").mean()) / 100)
    one, two = (need(study(m), CLAIM, scatter, ONE_LOOK, **HOW) for m in ("1%", absolute))
    assert (one.low, one.seeds, one.high) == (two.low, two.seeds, two.high)
    assert "margin 1 % of random's, standard deviation" in one.because


def test_seeds_that_are_shared_and_arms_that_stand_still_have_one_scatter():
    found = arms()
    paired = lower("perplexity", "cola_zero", than="random", by_seed=True)
    differences = values(found, "cola_zero") - values(found, "random")
    assert scatter_of(study(), paired, found).std == pytest.approx(differences.std(ddof=1))
    assert scatter_of(study(), paired, found).paired

    once = study(once=("random",))
    found["random"] = {1: found["random"][1]}
    assert scatter_of(once, CLAIM, found).std == pytest.approx(
        values(found, "cola_zero").std(ddof=1)
    )
    assert scatter_of(once, CLAIM, found).paired

    still = {"cola_zero": arms()["cola_zero"], "random": arms(std=0)["random"]}
    alone = scatter_of(study(), CLAIM, still)
    assert alone.std == pytest.approx(values(still, "cola_zero").std(ddof=1))
    assert alone.paired


def test_differences_of_shared_seeds_need_the_pairs_of_a_paired_test():
    paired = lower("perplexity", "cola_zero", than="random", by_seed=True)
    scatter = scatter_of(study("0.1"), paired, arms())
    n = need(study("0.1"), paired, scatter, ONE_LOOK, **HOW).seeds
    power = [power_of(0.1 / scatter.std, k, paired=True, alpha=0.05 / 4) for k in (n - 1, n)]
    assert power[0] < 0.8 <= power[1]


def test_an_equivalence_needs_the_seeds_that_confirm_its_margin():
    claim = equivalent("perplexity", "cola_zero", to="random", within=0.08)
    scatter = scatter_of(study(), claim, arms())
    n = need(study(), claim, scatter, ONE_LOOK, **HOW).seeds

    def confirmed(n):
        return scatter.std * equivalence_margin(n, paired=False, welch=True, alpha=0.05 / 4)

    assert confirmed(n) <= 0.08 < confirmed(n - 1)


def test_looks_cost_seeds():
    scatter = scatter_of(study("0.1"), CLAIM, arms())
    looks = planned((1, 2, 3, 4, 5), 20)
    once, often = (need(study("0.1"), CLAIM, scatter, p, **HOW).seeds for p in (ONE_LOOK, looks))
    assert once < often


def test_what_cannot_be_told_is_said():
    none = need(study("0.1"), CLAIM, None, ONE_LOOK, **HOW)
    assert none.seeds is None
    assert "no standard deviation is known or assumed" in none.because
    found = minimum_detectable_effect(5, paired=False, welch=True, power=0.8, alpha=0.05 / 4)
    assert f"enough if that is at most {0.1 / found:.2g}" in none.because
    relative = need(study("1%"), CLAIM, None, ONE_LOOK, **HOW).because
    assert f"at most 1/{found:.1f} of the margin" in relative
    equal = equivalent("perplexity", "cola_zero", to="random", within=0.08)
    assert "find a difference of" in none.because
    assert "confirm a margin of" in need(study(), equal, None, ONE_LOOK, **HOW).because
    assert scatter_of(study(), CLAIM, arms(n=1)) is None
    still = need(study("0.1"), CLAIM, scatter_of(study(), CLAIM, arms(std=0)), ONE_LOOK, **HOW)
    assert "did not vary" in still.because
