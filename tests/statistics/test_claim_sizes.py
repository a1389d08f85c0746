"""How large a difference is: margins, intervals, detectable effects; and how far seeds scatter."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from benchsuite.statistics import judge
from benchsuite.statistics.inference.claims import Arm, Question, judge_family
from benchsuite.statistics.unequal import guarded_level
from benchsuite.study import Metric, cv_below, equivalent, higher, lower
from tests.statistics.arms import COLA_BELOW_RANDOM, SEEDS, arm, constant


def question(claim, a, b=None, **more):
    return Question(claim, "m", a, b, **more)


def test_seeds_that_differ_in_the_last_bit_hold_no_claim():
    last = np.nextafter(5.7, 6)
    seeds = Arm({42: 5.7, 43: 5.7, 44: float(last)})
    off = constant(float(last) - 1e-12, 3)

    judged = judge(higher("perplexity", "a", than="b"), "m", seeds, off)

    assert judged.evidence["p_value"] < 1e-6
    assert (judged.outcome, judged.verdict) == ("inconclusive", "trivially different")
    assert "too small to matter" in judged.sentence
    assert not judged.is_open


@pytest.mark.parametrize(
    ("shift", "std", "outcome", "verdict"),
    [
        (-0.09, 0.02, "held", "better"),
        (0.09, 0.02, "violated", "worse"),
        (-0.01, 0.003, "inconclusive", "trivially different"),
        (0.001, 0.003, "inconclusive", "equivalent"),
        (-0.04, 0.1, "inconclusive", "inconclusive"),
    ],
)
def test_a_comparison_has_one_of_five_verdicts(shift, std, outcome, verdict):
    (judged,) = judge_family(
        [question(COLA_BELOW_RANDOM, arm(5.7 + shift, std), arm(5.7, std, rng_seed=2))]
    )

    assert (judged.outcome, judged.verdict) == (outcome, verdict)
    assert judged.evidence["margin"] == pytest.approx(0.005 * 5.7)
    assert judged.as_dict()["verdict"] == verdict
    low, high = judged.evidence["ci_simultaneous"]
    inside = max(abs(low), abs(high)) < judged.evidence["margin"]
    assert inside == (verdict in ("trivially different", "equivalent"))


def test_what_holm_finds_and_its_interval_does_not_may_be_less_than_what_matters():
    """The interval reaches from one side to the other, and has a small difference inside."""
    sure = question(COLA_BELOW_RANDOM, arm(4, 0.01), arm(6, 0.01))
    found = question(COLA_BELOW_RANDOM, arm(5.88, 0.08, rng_seed=2), arm(6, 0.08, rng_seed=3))
    *_, judged = judge_family([sure, sure, found])
    low, high = judged.evidence["ci_simultaneous"]
    assert judged.outcome == "held"
    assert low < 0 < high
    assert judged.evidence["margin"] < min(-low, high)
    assert "it may be less than 0.030" in judged.sentence


def test_a_sentence_says_that_one_arm_ran_once_and_its_margin_as_it_was_given():
    seeds = arm(5.7, 0.05)
    once = Arm(dict.fromkeys(seeds.values, 5.7), constant=True)
    shown = Metric("perplexity", better="lower", margin="1.25")

    (judged,) = judge_family([question(COLA_BELOW_RANDOM, once, seeds, shown=shown)])

    assert judged.outcome == "inconclusive"
    assert f"n = 1 and {len(seeds.values)}, p = " in judged.sentence
    assert "5.7000 against 5." in judged.sentence
    assert "within ±1.25." in judged.sentence


def test_a_control_asks_whether_a_difference_is_seen_at_all():
    claim = lower("perplexity", "random", than="noise_tokens", control=True)

    judged = judge(claim, "tiny", arm(5.69, 0.003), arm(5.7, 0.003, rng_seed=2))

    assert (judged.outcome, judged.verdict) == ("held", "trivially different")
    assert "cannot see" not in judged.sentence


@pytest.mark.parametrize(
    ("a", "verdict"), [(5.7, "equivalent"), (5.701, "trivially different"), (5.5, "better")]
)
def test_two_constants_differ_by_what_matters_or_not(a, verdict):
    judged = judge(COLA_BELOW_RANDOM, "m", constant(a), constant(5.7))

    assert judged.verdict == verdict
    assert judged.outcome == ("held" if verdict == "better" else "inconclusive")


def test_the_margin_is_in_the_unit_shown_or_relative_to_the_other_arm():
    points = Metric("accuracy", better="higher", unit="%", scale=100, margin="1")
    a, b = arm(0.405, 0.001), arm(0.4, 0.001, rng_seed=2)
    claim = higher("accuracy", "a", than="b")

    (judged,) = judge_family([question(claim, a, b, shown=points)])

    assert judged.evidence["margin"] == pytest.approx(0.01)
    assert judged.verdict == "trivially different"
    (other,) = judge_family([question(claim, a, b, shown=replace(points, margin="0.1%"))])
    assert other.evidence["margin"] == pytest.approx(0.0004)
    assert (other.outcome, other.verdict) == ("held", "better")


def test_better_is_what_the_metric_says_and_not_the_claim():
    fewer = Metric("passes", better="lower")
    claim = higher("passes", "a", than="b")

    (judged,) = judge_family([question(claim, arm(9, 0.1), arm(5, 0.1), shown=fewer)])

    assert (judged.outcome, judged.verdict) == ("held", "worse")


def test_an_equivalence_is_decided_by_one_interval_on_either_side():
    claim = equivalent("perplexity", "w8", to="fp16", within=0.05)
    for shift in np.linspace(0, 0.15, 31):
        judged = judge(claim, "m", arm(5.7 + shift, 0.02), arm(5.7, 0.02, rng_seed=2))
        low, high = judged.evidence["ci_simultaneous"]
        expected = "inconclusive"
        if low > -0.05 and high < 0.05:
            expected = "held"
        if low > 0.05 or high < -0.05:
            expected = "violated"
        assert judged.outcome == expected, shift


def test_at_the_edge_of_the_margin_neither_verdict_is_claimed_too_often():
    """Eight models at the edge: "violated" alone came in 30 to 35 % before it was corrected."""
    rng, studies, false = np.random.default_rng(4), 300, 0
    claim = equivalent("perplexity", "a", to="b", within=1.0)
    for _ in range(studies):
        asked = []
        for model in range(8):
            a, b = (dict(enumerate(rng.normal(x, 0.5, 5).tolist())) for x in (6.0, 5.0))
            asked.append(Question(claim, f"m{model}", Arm(a), Arm(b)))
        false += any(j.outcome != "inconclusive" for j in judge_family(asked))

    assert false / studies < 0.05 + 3 * np.sqrt(0.05 * 0.95 / studies)


def test_intervals_of_a_family_cover_together():
    alone = judge(COLA_BELOW_RANDOM, "m", arm(5.70, 0.04), arm(5.79, 0.04, rng_seed=2))
    one, *_ = judge_family(
        [question(COLA_BELOW_RANDOM, arm(5.70, 0.04), arm(5.79, 0.04, rng_seed=2))] * 4
    )

    level = guarded_level(0.05 / 4, 5, 5)
    half = stats.t.isf(level / 2, one.evidence["df"]) * one.evidence["error"]
    low, high = one.evidence["ci_simultaneous"]
    assert (high - low) / 2 == pytest.approx(half)
    assert "Bonferroni, each of 4 at 98.75 %" in one.evidence["ci_simultaneous_method"]
    assert "simultaneous over 4 tests (uncorrected [" in one.sentence
    assert "uncorrected" not in alone.sentence


def test_the_detectable_effect_has_the_interval_of_the_standard_deviation():
    judged = judge(COLA_BELOW_RANDOM, "m", arm(5.72, 0.08), arm(5.74, 0.12, rng_seed=2))

    low, high = judged.evidence["mde_ci95"]
    size = judged.evidence["mde_corrected"]
    assert low == pytest.approx(size * np.sqrt(8 / stats.chi2.ppf(0.975, 8)))
    assert high == pytest.approx(size * np.sqrt(8 / stats.chi2.ppf(0.025, 8)))


def test_paired_claims_speak_of_pairs_throughout():
    noise = np.random.default_rng(0).normal(0, 1.0, 5)
    a = Arm(dict(zip(SEEDS, (5.7 + noise).tolist(), strict=True)))
    b = Arm(dict(zip(SEEDS, (5.71 + noise + 0.01 * np.arange(5)).tolist(), strict=True)))

    judged = judge(COLA_BELOW_RANDOM, "m", a, b, by_seed=True)

    seen = judged.evidence
    assert (seen["effect_name"], seen["effect"]) == ("d_z", seen["cohens_dz"])
    assert (seen["cohens_d"], seen["hedges_g"]) == (None, None)
    differences = np.array(list(a.values.values())) - np.array(list(b.values.values()))
    assert seen["unit"] == pytest.approx(differences.std(ddof=1))
    assert "d_z = −" in judged.sentence
    assert " g = " not in judged.sentence


def test_seeds_that_only_one_arm_has_are_not_dropped_in_silence():
    judged = judge(COLA_BELOW_RANDOM, "m", arm(5.7, 0.1), arm(5.72, 0.1, n=4), by_seed=True)

    assert judged.outcome == "inconclusive"
    assert "cannot be paired: 46" in judged.sentence


def test_two_seeds_of_the_first_tour_decide_nothing_about_their_scatter():
    """The cv of 2.2 % over two seeds has the interval .97 to 70 %: it was called a violation."""
    claim = cv_below("perplexity", "random", 2.0)
    for percent in (2.2, 0.41):
        judged = judge(claim, "m", arm(5.0, 0.05 * percent, n=2))
        assert judged.outcome == "inconclusive", percent


def test_the_scatter_is_tested_in_the_family():
    claim = cv_below("perplexity", "random", 2.0)
    statistic = 4 * (0.6 / 2) ** 2
    p_value = 2 * stats.chi2.cdf(statistic, 4)
    compare = question(COLA_BELOW_RANDOM, arm(5.7, 0.1), arm(5.7, 0.1, rng_seed=2))

    judged, _ = judge_family([question(claim, arm(5.0, 0.03)), compare])

    assert judged.evidence["p_value"] == pytest.approx(p_value)
    assert judged.evidence["p_holm"] == pytest.approx(2 * p_value)
    assert judged.evidence["family_size"] == 2
