"""Seeds that are not as a t-test supposes are named, and normal ones seldom."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from benchsuite.statistics import judge
from benchsuite.statistics.inference import robust
from benchsuite.statistics.inference.claims import Arm
from benchsuite.study import equivalent, lower
from tests.statistics.arms import COLA_BELOW_RANDOM, SEEDS, arm, constant


def test_a_diverged_seed_is_named():
    broken = Arm({**arm(5.7, 0.1).values, 44: math.nan})

    judged = judge(COLA_BELOW_RANDOM, "m", arm(5.7, 0.1), broken)

    assert judged.outcome == "inconclusive"
    assert "Diverged: seed 44 of random." in judged.sentence
    json.dumps(judged.as_dict(), allow_nan=False)


def test_a_seed_that_stands_apart_is_named():
    odd = Arm(dict(zip(SEEDS, (5.70, 5.71, 90.0, 5.69, 5.72), strict=True)))

    judged = judge(COLA_BELOW_RANDOM, "m", arm(5.5, 0.01), odd)

    assert "Beware: seed 44 of random stands apart from its others" in judged.sentence


def test_skewed_seeds_against_a_constant_come_with_a_warning_and_other_tests():
    seeds = np.exp([0.0, 0.1, 0.2, 0.1, 2.5])
    skewed = Arm(dict(zip(SEEDS, seeds.tolist(), strict=True)))

    judged = judge(COLA_BELOW_RANDOM, "m", skewed, constant(1.65))

    beside = judged.evidence["robust"]
    assert beside["skewness"] == pytest.approx(stats.skew(seeds))
    assert beside["sign_flip_p"] == pytest.approx(
        stats.permutation_test(
            (seeds - 1.65,), np.mean, permutation_type="samples", n_resamples=np.inf
        ).pvalue
    )
    logs = stats.ttest_1samp(np.log(seeds), math.log(1.65)).pvalue
    assert beside["log_t_p"] == pytest.approx(logs)
    assert "the seeds of cola_zero are skewed (1." in judged.sentence
    assert "sign-flip p = " in judged.sentence
    assert "0.062 with so many seeds" in judged.sentence


def test_normal_seeds_are_seldom_called_skewed_or_odd():
    rng, rounds = np.random.default_rng(5), 2000
    drawn = rng.normal(5.0, 0.1, size=(rounds, 5))
    skewed = np.mean([robust.is_skewed(row) for row in drawn])
    odd = np.mean([robust.outlier(dict(enumerate(row.tolist()))) is not None for row in drawn])

    assert abs(skewed - 0.05) < 3 * np.sqrt(0.05 * 0.95 / rounds)
    assert abs(odd - 0.01) < 3 * np.sqrt(0.01 * 0.99 / rounds)


BELOW = lower("score", "one", than="other")
EQUAL = equivalent("score", "one", to="other", within=0.9)


def against_zero(seeds, *, by_seed=False, reverse=False, claim=BELOW):
    """Judge seeds against an arm that is 0 for each of them."""
    arms = Arm(dict(enumerate(seeds.tolist()))), Arm(dict.fromkeys(range(len(seeds)), 0.0))
    return judge(claim, "m", *arms[:: -1 if reverse else 1], by_seed=by_seed)


@pytest.mark.parametrize("n", [3, 5, 20])
@pytest.mark.parametrize("claim", [BELOW, EQUAL], ids=["below", "equal"])
@pytest.mark.parametrize("by_seed", [False, True])
def test_every_verdict_against_a_constant_says_what_it_supposes(n, claim, by_seed):
    rng, n_decided = np.random.default_rng(n), 0
    draws = rng.normal(2, 0.1, n), rng.normal(0, 0.1, n), 1 - rng.lognormal(0, 1, n)
    for seeds in (*draws, *(-row for row in draws), 1e-3 * rng.normal(1, 0.1, n)):
        for reverse in (False, True):
            judged = against_zero(seeds, by_seed=by_seed, reverse=reverse, claim=claim)
            decided = judged.outcome != "inconclusive"
            n_decided += decided
            name = "other" if reverse else "one"
            supposed = f"This supposes that {name} scatters alike to both sides of its mean: {n}"
            assert (supposed in judged.sentence) == decided
            if decided and claim is BELOW:
                side = "higher" if seeds.mean() < 0 else "lower"
                assert f"can miss rare, much {side} values" in judged.sentence
    assert n_decided >= 4


def test_two_arms_with_scatter_suppose_no_such_thing():
    judged = judge(COLA_BELOW_RANDOM, "m", arm(5.7, 0.01), arm(6.0, 0.01))

    assert judged.outcome == "held"
    assert "supposes" not in judged.sentence


@pytest.mark.parametrize("sign", [1, -1])
def test_many_skewed_seeds_are_judged_with_their_skewness(sign):
    seeds = sign * (np.exp(stats.norm.ppf((np.arange(20) + 0.5) / 20)) - 2.45)
    judged, fewer = against_zero(seeds), against_zero(seeds[:14])
    turned = against_zero(seeds, reverse=True)
    even = against_zero(sign * stats.norm.ppf((np.arange(20) + 0.5) / 20) - 0.6 * sign)

    evidence = judged.evidence
    # Hall's transformation of t: + skewness / 6 (1 + 2 t^2) + (skewness t)^2 t / 27.
    t, own = evidence["statistic"], stats.skew(seeds, bias=False) / math.sqrt(20)
    careful = t + own * (1 + 2 * t**2) / 6 + own**2 * t**3 / 27
    assert evidence["p_guarded"] == pytest.approx(2 * stats.t.sf(abs(careful), 19))
    assert evidence["p_value"] < 0.05 < evidence["p_guarded"]
    assert judged.outcome == "inconclusive"
    assert "with the skewness seen)" in judged.sentence
    low, high = evidence["ci_simultaneous"]
    assert low < 0 < high
    assert turned.evidence["ci_simultaneous"] == pytest.approx([-high, -low])
    assert turned.evidence["p_guarded"] == pytest.approx(evidence["p_guarded"])
    assert fewer.evidence["p_guarded"] == fewer.evidence["p_value"]
    assert even.evidence["p_guarded"] == even.evidence["p_value"]
    json.dumps(judged.as_dict(), allow_nan=False)


def test_an_edge_of_equivalence_is_judged_with_the_skewness_too():
    seeds, raised, found = np.exp(stats.norm.ppf((np.arange(20) + 0.5) / 20)), 0, set()
    for shift in (-3.1, -2.4, -1.7, 1.2, 4.0):
        judged = against_zero(0.3 * (seeds + shift), claim=EQUAL)
        evidence, (low, high) = judged.evidence, judged.evidence["ci_simultaneous"]
        alone = 2 * min(evidence["tost"][name] for name in ("p_value", "p_different"))
        assert evidence["p_holm"] >= alone
        raised += evidence["p_holm"] >= 0.05 > alone
        inside, outside = -0.9 < low < high < 0.9, low > 0.9 or high < -0.9
        expected = "held" if inside else "violated" if outside else "inconclusive"
        assert judged.outcome == expected
        found.add(expected)
    assert raised
    assert len(found) == 3
