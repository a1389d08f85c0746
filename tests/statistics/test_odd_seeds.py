"""Seeds that are not as a t-test supposes are named, and normal ones seldom."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from benchsuite.statistics import judge
from benchsuite.statistics.inference import robust
from benchsuite.statistics.inference.claims import Arm
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
    assert "the seeds are skewed (1." in judged.sentence
    assert "sign-flip p = " in judged.sentence
    assert "0.062 with so many seeds" in judged.sentence


def test_normal_seeds_are_seldom_called_skewed_or_odd():
    rng, rounds = np.random.default_rng(5), 2000
    drawn = rng.normal(5.0, 0.1, size=(rounds, 5))
    skewed = np.mean([robust.is_skewed(row) for row in drawn])
    odd = np.mean([robust.outlier(dict(enumerate(row.tolist()))) is not None for row in drawn])

    assert abs(skewed - 0.05) < 3 * np.sqrt(0.05 * 0.95 / rounds)
    assert abs(odd - 0.01) < 3 * np.sqrt(0.01 * 0.99 / rounds)
