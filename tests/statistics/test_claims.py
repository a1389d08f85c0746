"""What is judged of a claim over seeds: held, violated or open, and in which words."""

import json
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from benchsuite.statistics import judge
from benchsuite.statistics.inference import claims
from benchsuite.statistics.inference.claims import Arm, Question, judge_family
from benchsuite.statistics.power import minimum_detectable_effect
from benchsuite.statistics.unequal import guarded_level
from benchsuite.study import Metric, cv_below, equivalent, higher, identical, lower
from tests.statistics.arms import COLA_BELOW_RANDOM, SEEDS, arm, constant

MARGINS = ("0.5%", "0.0285")


def test_a_clear_difference_holds():
    judged = judge(COLA_BELOW_RANDOM, "m", arm(5.70, 0.02), arm(5.79, 0.02, rng_seed=2))

    assert judged.outcome == "held"
    assert judged.evidence["test"] == "welch"
    assert "5.700 ± 0.020 against 5.790 ± 0.020" in judged.sentence


def test_a_clear_difference_the_other_way_is_a_violation():
    judged = judge(COLA_BELOW_RANDOM, "m", arm(5.79, 0.02), arm(5.70, 0.02, rng_seed=2))

    assert judged.outcome == "violated"
    assert judged.sentence.startswith("random is the lower one")


def test_a_null_result_names_what_could_have_been_seen():
    judged = judge(COLA_BELOW_RANDOM, "m", arm(5.72, 0.08), arm(5.79, 0.12, rng_seed=2))

    assert judged.outcome == "inconclusive"
    pooled = np.sqrt((0.08**2 + 0.12**2) / 2)
    # 2.084 at the textbook's level .05; a little more where no ratio of variances may exceed it.
    level = guarded_level(0.05, 5, 5)
    expected = minimum_detectable_effect(5, paired=False, welch=True, alpha=level)
    assert 2.084 < expected < 2.13
    assert judged.evidence["mde_d"] == pytest.approx(expected)
    assert judged.evidence["mde"] == pytest.approx(expected * pooled)
    assert "a true difference of 0.22 (d = 2.12)" in judged.sentence
    assert "at level 0.05 (0.15 to 0.41 by the 95 % interval" in judged.sentence
    assert "What matters begins at 0.029 (0.5 %)" in judged.sentence
    assert "does not show that they are equal" in judged.sentence
    assert judged.evidence["student"]["p_value"] == pytest.approx(0.3094, abs=5e-5)
    assert judged.evidence["p_value"] == pytest.approx(0.3139, abs=5e-5)


def test_a_constant_arm_is_tested_against_as_a_constant():
    judged = judge(lower("perplexity", "a", than="b"), "m", arm(5.70, 0.02), constant(5.79))

    assert judged.outcome == "held"
    assert judged.evidence["test"] == "one_sample"
    assert judged.evidence["df"] == pytest.approx(4)
    assert judged.evidence["cohens_d"] == pytest.approx((5.70 - 5.79) / 0.02, rel=1e-6)


def test_the_constant_arm_may_come_first():
    judged = judge(lower("perplexity", "a", than="b"), "m", constant(5.70), arm(5.79, 0.02))

    assert judged.outcome == "held"
    assert judged.evidence["cohens_d"] == pytest.approx(-4.5, rel=1e-6)


def test_two_constants_are_compared_exactly():
    held = judge(COLA_BELOW_RANDOM, "m", constant(5.70), constant(5.79))
    equal = judge(COLA_BELOW_RANDOM, "m", constant(5.70), constant(5.70))

    assert (held.outcome, held.evidence["test"]) == ("held", "exact")
    assert equal.outcome == "inconclusive"


def test_a_relative_margin_of_a_metric_in_percent_says_of_what():
    shown = Metric("accuracy", better="higher", unit="%", margin="1%")
    claim = higher("accuracy", "a", than="b")
    (judged,) = judge_family(
        [Question(claim, "m", arm(45, 5), arm(40, 5, rng_seed=2), shown=shown)]
    )
    assert "What matters begins at 0.40 points (1 % of the other's). " in judged.sentence


def test_seeds_that_are_alike_by_chance_may_be_that():
    """Two or three seeds agree often enough where a metric has few values."""
    claim = higher("accuracy", "a", than="b")
    for n in (2, 3, 5):
        same = [Arm(dict.fromkeys(range(n), value)) for value in (0.5, 0.45)]
        judged = judge(claim, "m", *same)
        chance = 2 / math.comb(2 * n, n)  # of the ways to deal the values out, these two
        assert judged.outcome == "held"
        assert judged.sentence.endswith(
            f" This supposes that any seed of a and b gives the same number: if seeds may differ, "
            f"these have an exact p = {chance:.{4 if chance < 0.01 else 3}f}."
        )
    equal = judge(equivalent("accuracy", "a", to="b", within=0.1), "m", *same)
    assert equal.sentence.endswith(" This supposes that any seed of a and b gives the same number.")
    once = [Arm({1: value}, constant=True) for value in (0.5, 0.45)]
    assert "supposes" not in judge(claim, "m", *once).sentence


def test_one_seed_shows_nothing():
    judged = judge(COLA_BELOW_RANDOM, "m", arm(5.7, 0.1, n=2), constant(5.79, n=1))

    assert judged.outcome == "inconclusive"
    assert "one seed cannot show it" in judged.sentence


def test_shared_seeds_are_paired_when_declared():
    noise = np.random.default_rng(0).normal(0, 1.0, 5)
    a = Arm(dict(zip(SEEDS, 5.7 + noise, strict=True)))
    b = Arm(dict(zip(SEEDS, 5.8 + noise + 0.001 * np.arange(5), strict=True)))

    assert judge(COLA_BELOW_RANDOM, "m", a, b).outcome == "inconclusive"
    paired = judge(COLA_BELOW_RANDOM, "m", a, b, by_seed=True)
    assert (paired.outcome, paired.evidence["test"]) == ("held", "paired")
    assert paired.evidence["correlation"] > 0.999


def test_missing_cells_are_named_not_guessed_around():
    part = Arm(arm(5.7, 0.02, n=4).values, missing=["m-cola_zero-seed46"])

    judged = judge(COLA_BELOW_RANDOM, "m", part, arm(5.79, 0.02))

    assert judged.outcome == "not_run"
    assert judged.evidence["missing"] == ["m-cola_zero-seed46"]
    assert "m-cola_zero-seed46" in judged.sentence


def test_an_arm_without_any_cell_is_not_run():
    assert judge(COLA_BELOW_RANDOM, "m", arm(5.7, 0.02), None).outcome == "not_run"


def test_identical():
    claim = identical("weights_sha256", "gptq_default")
    same = Arm(dict.fromkeys(SEEDS, "abc"))
    other = Arm({**same.values, 44: "abd"})

    assert judge(claim, "m", same).outcome == "held"
    assert judge(claim, "m", Arm({42: "abc"})).outcome == "inconclusive"
    assert "one seed cannot show it" in judge(claim, "m", Arm({42: "abc"})).sentence
    violated = judge(claim, "m", other)
    assert violated.outcome == "violated"
    assert "seed 44: abd" in violated.sentence


def test_two_different_seeds_decide_before_the_others_are_there():
    claim = identical("weights_sha256", "gptq_default")

    assert judge(claim, "m", Arm({1: "a", 2: "b"}, missing=["x"])).outcome == "violated"
    assert judge(claim, "m", Arm({1: "a", 2: "a"}, missing=["x"])).outcome == "not_run"


@pytest.mark.parametrize(
    ("values", "outcome", "said"),
    [
        ((math.nan, math.nan), "inconclusive", "it is nan for every seed"),
        ((math.inf, math.inf), "inconclusive", "it is inf for every seed"),
        ((1.5, math.nan), "violated", "seed 43: nan"),
        ((0.0, -0.0), "violated", "seed 43: -0.0"),
        ((1.5, 1.5), "held", "One value"),
    ],
)
def test_bits_are_compared_and_no_result_is_not_the_same_result(values, outcome, said):
    judged = judge(identical("perplexity", "a"), "m", Arm(dict(zip(SEEDS, values, strict=False))))

    assert judged.outcome == outcome
    assert said in judged.sentence
    json.dumps(judged.as_dict(), allow_nan=False)


def test_cv_is_decided_by_its_interval():
    claim = cv_below("perplexity", "random", 2.0)

    near = judge(claim, "m", arm(5.0, 0.08))
    assert near.outcome == "inconclusive"
    # chi-square interval of the std for df 4: .599 and 2.874 times the estimate
    assert near.evidence["cv_ci95"] == pytest.approx([1.6 * 0.599, 1.6 * 2.874], rel=1e-3)
    assert "neither shown below 2 % nor above" in near.sentence
    assert judge(claim, "m", arm(5.0, 0.034)).outcome == "held"
    assert judge(claim, "m", arm(5.0, 0.035)).outcome == "inconclusive"
    assert judge(claim, "m", arm(5.0, 0.17)).outcome == "violated"
    assert judge(claim, "m", constant(5.0, n=1)).outcome == "inconclusive"
    assert judge(claim, "m", constant(5.0)).outcome == "held"


def test_equivalence_needs_its_margin_shown():
    claim = equivalent("perplexity", "w8", to="fp16", within=0.05)

    assert judge(claim, "m", arm(5.48, 0.01), constant(5.47)).outcome == "held"
    assert judge(claim, "m", arm(5.58, 0.01), constant(5.47)).outcome == "violated"
    unclear = judge(claim, "m", arm(5.48, 0.08), arm(5.47, 0.08, rng_seed=2))
    assert unclear.outcome == "inconclusive"
    assert "neither shown within nor beyond" in unclear.sentence


def test_a_scatter_that_has_not_run_counts_in_its_family():
    """As a comparison does: else the first seeds of the rest are judged in a smaller one."""
    waiting = Question(cv_below("perplexity", "a", 2.0), "m", Arm({}, missing=["m-a-seed1"]))
    still = Question(cv_below("perplexity", "b", 2.0), "m", constant(5.0))
    ready = Question(COLA_BELOW_RANDOM, "m", arm(5.70, 0.02), arm(5.79, 0.02, rng_seed=2))

    judged = judge_family([ready, waiting, still])

    assert judged[0].evidence["family_size"] == 2
    assert [j.outcome for j in judged[1:]] == ["not_run", "held"]


def test_holm_covers_all_comparisons_of_the_family():
    claim = lower("perplexity", "a", than="b")
    asked = [
        Question(claim, f"m{i}", arm(5.70, 0.04), arm(5.79, 0.04, rng_seed=i + 2)) for i in range(4)
    ]
    alone = judge(claim, "m0", asked[0].arm, asked[0].other)

    judged = judge_family([*asked, Question(identical("w", "a"), "m0", constant("x"))])

    assert judged[0].evidence["family_size"] == 4
    assert judged[0].evidence["p_holm"] >= alone.evidence["p_value"]
    assert judged[0].evidence["mde_d_corrected"] > judged[0].evidence["mde_d"]
    assert len({j.evidence["p_holm"] for j in judged[:4]}) <= 4


def test_a_control_that_does_not_come_out_blinds_the_study():
    claim = lower("perplexity", "random", than="noise_tokens", control=True)

    blind = judge(claim, "tiny", arm(5.72, 0.08), arm(5.73, 0.08, rng_seed=2))
    sees = judge(claim, "tiny", arm(5.72, 0.08), arm(9.0, 0.5, rng_seed=2))

    assert "cannot see a difference on tiny" in blind.sentence
    assert sees.outcome == "held"
    assert "control" not in sees.sentence


def test_the_item_test_stands_beside():
    rng = np.random.default_rng(0)
    text = rng.normal(2.0, 0.5, 100)
    a = {s: text - 0.01 + rng.normal(0, 0.005, 100) for s in SEEDS}
    b = {s: text + rng.normal(0, 0.005, 100) for s in SEEDS}

    def filled(items):
        return Arm({s: float(np.exp(v.mean())) for s, v in items.items()}, items, (), np.exp)

    judged = judge(COLA_BELOW_RANDOM, "m", filled(a), filled(b))

    items = judged.evidence["items"]
    assert items["n_items"] == 100
    assert items["ci_high"] < 0
    assert "Over the 100 shared items" in judged.sentence


@given(st.integers(0, 1000), st.floats(0.001, 0.3), st.floats(-0.2, 0.2), st.sampled_from(MARGINS))
# The interval ends between 0.5% of the one arm and 0.5% of the other.
@example(rng_seed=0, std=0.001953125, shift=0.02560169998169398, margin="0.5%")
@example(rng_seed=0, std=0.001953125, shift=0.02560169998169398, margin="0.0285")
def test_judgements_are_json_and_opposites_never_both_hold(rng_seed, std, shift, margin):
    a, b = arm(5.7, std, rng_seed=rng_seed), arm(5.7 + shift, std, rng_seed=rng_seed + 1)
    shown = Metric("p", margin=margin)

    (there,) = judge_family([Question(lower("p", "a", than="b"), "m", a, b, shown=shown)])
    (back,) = judge_family([Question(lower("p", "b", than="a"), "m", b, a, shown=shown)])

    assert json.loads(json.dumps(there.as_dict(), allow_nan=False))["outcome"] == there.outcome
    opposite = {"held": "violated", "violated": "held", "inconclusive": "inconclusive"}
    assert back.outcome != there.outcome or there.outcome == "inconclusive"
    # A share is one of the other arm, so that it differs where the two change places.
    margins = sorted((there.evidence["margin"], back.evidence["margin"]))
    assert margins[0] == margins[1] or margin.endswith("%")
    farthest = max(map(abs, there.evidence["ci_simultaneous"]))
    if not margins[0] <= farthest <= margins[1]:
        assert back.outcome == opposite[there.outcome]


def test_an_unknown_kind_is_an_error():
    from benchsuite.study import Claim

    with pytest.raises(ValueError, match="unknown kind"):
        claims.judge(Claim("?", "sideways", "p", "a", "b"), "m", arm(5, 0.1), arm(5, 0.1))


def test_higher_is_lower_with_the_sign_turned():
    better, worse = {1: 0.91, 2: 0.92, 3: 0.915}, {1: 0.81, 2: 0.80, 3: 0.82}
    claim = higher("accuracy", "kava", than="no_cot")

    assert judge(claim, "m", Arm(better), Arm(worse)).outcome == "held"
    turned = judge(claim, "m", Arm(worse), Arm(better))
    assert turned.outcome == "violated"
    assert "no_cot is the higher one" in turned.sentence
    constant = judge(claim, "m", Arm({1: 0.9, 2: 0.9}), Arm({1: 0.8, 2: 0.8}))
    assert constant.outcome == "held"
