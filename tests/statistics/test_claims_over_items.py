"""Claims over items: rankings, and methods that run once."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from benchsuite.statistics import judge, skewed
from benchsuite.statistics.inference.claims import Arm, Question, judge_family
from benchsuite.statistics.item_tests import item_difference
from benchsuite.statistics.pairing import PerItem
from benchsuite.statistics.ranking import Ranking, auroc
from benchsuite.study import Metric, equivalent, higher, identical, lower, ranks_better
from tests.statistics.arms import arm

RANKS = ranks_better("auroc", "g_nll", than="shuffled", control=True)


def ranked(shift, seed=0, n=200):
    """Return an arm whose score separates the wrong items by ``shift`` standard deviations."""
    wrong = np.arange(n) % 3 == 0
    scores = np.random.default_rng(seed).normal(size=n) + shift * wrong
    return Arm({42: auroc(wrong, scores).value}, rankings={42: (wrong, scores)})


def test_one_seed_is_enough_where_the_items_decide():
    judged = judge(RANKS, "m", ranked(1.5), ranked(0, seed=1))
    assert judged.outcome == "held"
    assert judged.evidence["test"] == "delong"
    assert "DeLong's test over items, n = 200, p < 0.0001" in judged.sentence
    assert judge(RANKS, "m", ranked(0, seed=1), ranked(1.5)).outcome == "violated"
    json.dumps(judged.as_dict())


def test_a_null_over_items_names_what_the_items_could_have_shown():
    judged = judge(RANKS, "m", ranked(0.1), ranked(0, seed=1))
    assert judged.outcome == "inconclusive"
    quantiles = stats.t.ppf([0.975, 0.8], judged.evidence["df"])
    expected = quantiles.sum() * judged.evidence["error"]
    assert judged.evidence["mde"] == pytest.approx(expected, rel=1e-5)
    assert "With these 200 items only a true difference of" in judged.sentence
    assert "The control did not come out" in judged.sentence


def test_one_class_is_undefined_with_its_reason_and_waits_for_nothing():
    alone = Arm({}, rankings={42: (np.ones(9, bool), np.arange(9.0))})
    judged = judge(RANKS, "m", alone, alone)
    assert judged.outcome == "inconclusive"
    assert "all 9 items are positive" in judged.sentence
    waiting = judge(RANKS, "m", Arm({}, missing=["m-g_nll-seed42"]), ranked(1))
    assert waiting.outcome == "not_run"


def deterministic(values, ids=None):
    """Return an arm that runs once, its perplexity made of its chunks."""
    return Arm(
        {42: float(np.exp(np.mean(values)))},
        {42: PerItem(values, ids)},
        item_metric=np.exp,
        constant=True,
    )


def test_two_deterministic_arms_are_compared_over_their_items():
    rng, claim = np.random.default_rng(0), lower("perplexity", "hqq_w4", than="rtn_w4")
    chunks = rng.normal(2, 0.5, size=60)
    better = chunks - 0.02 + rng.normal(0, 0.02, size=60)

    judged = judge(claim, "m", deterministic(better), deterministic(chunks))
    assert judged.outcome == "held"
    assert judged.evidence["test"] == "item_t"
    assert (judged.evidence["n_items"], judged.evidence["paired_by"]) == (60, "place")
    assert "paired t-test over items, n = 60, p < 0.0001" in judged.sentence
    assert judged.evidence["ci_simultaneous"] == pytest.approx(judged.evidence["ci95"])
    assert judge(claim, "m", deterministic(chunks), deterministic(better)).outcome == "violated"
    same = judge(claim, "m", deterministic(chunks + rng.normal(0, 0.02, 60)), deterministic(chunks))
    assert same.outcome == "inconclusive"
    assert "With these 60 items" in same.sentence
    json.dumps(judged.as_dict())


@pytest.mark.parametrize(
    "ids", [[None, range(60)], [range(60), range(100, 160)], [range(9), range(9)]]
)
def test_two_numbers_over_items_too_few_or_not_to_be_paired_decide_nothing(ids):
    chunks = np.random.default_rng(0).normal(2, 0.5, size=len(ids[1]))
    arms = [deterministic(chunks + i, None if ids[i] is None else list(ids[i])) for i in (0, 1)]
    for claim in (
        lower("perplexity", "a", than="b"),
        equivalent("perplexity", "a", to="b", within=99),
    ):
        judged, beside = judge_family(
            [
                Question(claim, "m", *arms),
                Question(claim, "m", arm(5.7, 0.1), arm(5.7, 0.1, rng_seed=9)),
            ]
        )
        assert judged.outcome == "inconclusive"
        assert re.search("no id is shared|others do not|fewer than 10", judged.sentence)
        assert beside.evidence["family_size"] == 2  # it counts, as one that is not significant
        json.dumps(judged.as_dict())


def test_two_numbers_whose_items_no_record_holds_say_so():
    claim = higher("accuracy", "a", than="b")
    arms = [Arm({1: value, 2: value}, lacking="rihgt") for value in (97.5, 95.0)]
    for judged in (
        judge(claim, "m", *arms),
        judge(equivalent("accuracy", "a", to="b", within=5), "m", *arms),
    ):
        assert judged.outcome == "held"
        assert "No record holds the items 'rihgt', which would say whether" in judged.sentence
    seeded = [replace(arm(mean, 0.1), lacking="rihgt") for mean in (5.6, 5.7)]
    assert "rihgt" not in judge(claim, "m", *seeded).sentence


def test_items_that_make_another_number_are_named():
    arms = [replace(arm(mean, 0.1), unlike="percents") for mean in (5.6, 5.7)]
    told = judge(higher("accuracy", "a", than="b"), "m", *arms).sentence
    assert "The items 'percents' make quite another number, and were left out." in told


def test_a_ranking_whose_columns_no_record_holds_is_open_and_names_them():
    alone = Arm({1: 0.8, 2: 0.9}, lacking="unsuer")
    judged = judge(RANKS, "m", alone, alone)
    assert judged.outcome == "inconclusive"
    assert "an arm keeps no items" in judged.sentence
    assert "No record holds the items 'unsuer'" in judged.sentence


def test_claims_over_items_are_corrected_with_the_others():
    rng = np.random.default_rng(1)
    chunks = rng.normal(2, 0.5, size=60)
    arms = deterministic(chunks - 0.02 + rng.normal(0, 0.02, 60)), deterministic(chunks)
    claim = lower("perplexity", "hqq_w4", than="rtn_w4")
    seeded = Question(claim, "m", arm(5.7, 0.1), arm(5.7, 0.1, rng_seed=9))
    over_items, beside = judge_family([Question(claim, "m", *arms), seeded])
    assert over_items.evidence["family_size"] == beside.evidence["family_size"] == 2


def test_equivalence_of_methods_that_run_once_is_judged_over_their_items():
    rng = np.random.default_rng(7)
    chunks = rng.normal(2, 0.5, size=150)
    near = chunks + rng.normal(0.0005, 0.004, 150)  # in perplexity some .004 off
    claim = equivalent("perplexity", "a", to="b", within=0.05)
    held = judge(claim, "m", deterministic(near), deterministic(chunks))
    assert (held.outcome, held.verdict) == ("held", "equivalent")
    assert "over 150 shared items, paired, margin \u00b10.05" in held.sentence
    # By hand: one two-sided test of the nearer edge of the margin.
    found = item_difference([near], [chunks], metric=np.exp)
    edge = math.copysign(0.05, found.difference)
    turned = skewed.p_value(found.difference - edge, found.error, found.df, found.skewness)
    assert held.evidence["p_equivalence"] == pytest.approx(turned)
    far = judge(claim, "m", deterministic(near + 0.05), deterministic(chunks))
    assert (far.outcome, far.verdict) == ("violated", "different")
    wide = deterministic(chunks + rng.normal(0.004, 0.04, 150))
    open_ = judge(claim, "m", wide, deterministic(chunks))
    assert open_.outcome == "inconclusive"
    assert "with these items a margin of at least" in open_.sentence
    assert open_.evidence["smallest_margin"] > 0.05
    same = judge(claim, "m", deterministic(chunks), deterministic(chunks))
    assert same.outcome == "held"
    # Without items there is nothing to be sure of.
    alone = [Arm({42: value}, constant=True) for value in (5.7, 5.71)]
    assert judge(claim, "m", *alone).outcome == "inconclusive"


def test_equivalence_of_two_accuracies_takes_the_law_of_shares():
    def answers(n_wrong, n=400):
        correct = np.arange(n) >= n_wrong
        return Arm(
            {42: float(correct.mean())},
            items={42: correct.astype(float)},
            constant=True,
        )

    claim = equivalent("accuracy", "a", to="b", within=0.05)
    assert judge(claim, "m", answers(40), answers(43)).outcome == "held"
    assert judge(claim, "m", answers(40), answers(80)).outcome == "violated"
    assert judge(claim, "m", answers(40), answers(58)).outcome == "inconclusive"


@pytest.mark.stress
@pytest.mark.parametrize("n", [40, 150])
def test_at_the_margin_s_edge_equivalence_over_items_errs_as_seldom_as_it_says(n):
    """The true difference is the margin itself, so either verdict is false."""
    claim, false = equivalent("perplexity", "a", to="b", within=0.05), 0
    rng = np.random.default_rng(n)
    for _ in range(1000):
        chunks = rng.gamma(16, 1 / 8, n)
        # mean perplexity exp(2 + ...): the difference in nats that is .05 of the drawn text.
        noise = rng.normal(0, 0.03, n)
        other = chunks + noise - noise.mean() + rng.normal(0, 0.03 / math.sqrt(n))
        shift = math.log1p(0.05 / math.exp(chunks.mean()))
        outcome = judge(claim, "m", deterministic(other + shift), deterministic(chunks)).outcome
        false += outcome != "inconclusive"
    assert false / 1000 < 0.065  # 5 % and three standard errors


def test_two_deterministic_arms_without_items_are_compared_exactly():
    claim = lower("perplexity", "a", than="b")
    one, two = (Arm({42: value}, constant=True) for value in (5.7, 5.8))
    judged = judge(claim, "m", one, two)
    assert (judged.outcome, judged.evidence["test"]) == ("held", "exact")
    assert judge(claim, "m", two, one).outcome == "violated"
    # One seed of an arm that has randomness shows nothing.
    assert judge(claim, "m", Arm({42: 5.7}), Arm({42: 5.8})).outcome == "inconclusive"


def test_seeds_whose_questions_overlap_count_each_distinct_one():
    rng = np.random.default_rng(0)
    wrong, scores = np.arange(800) % 4 == 0, rng.normal(size=(2, 800))
    asked = {seed: rng.choice(800, 400, replace=False) for seed in (42, 43, 44)}
    arms = [
        Arm(
            {s: auroc(wrong[q], row[q]).value for s, q in asked.items()},
            rankings={s: Ranking(wrong[q], row[q], q) for s, q in asked.items()},
        )
        for row in scores
    ]
    judged = judge(RANKS, "m", *arms)
    assert judged.evidence["n_items"] == len(set(np.concatenate(list(asked.values()))))
    assert judged.evidence["paired_by"] == "id"


def test_an_auroc_of_few_wrong_answers_is_no_claim():
    wrong = np.arange(400) < 3
    arms = [
        Arm({42: 0.9}, rankings={42: (wrong, row)})
        for row in np.random.default_rng(0).random((2, 400))
    ]
    judged = judge(RANKS, "m", *arms)
    assert judged.outcome == "inconclusive"
    assert "3 positive items: fewer than 10" in judged.sentence


def test_the_sentence_shows_the_metrics_numbers_in_its_unit():
    shown = Metric("accuracy", better="higher", unit="%", scale=100, format=".1f")
    near = {42: 0.41, 43: 0.42, 44: 0.40}, {42: 0.40, 43: 0.43, 44: 0.41}
    arms = [Arm(values) for values in near]
    open_, equal, same = (
        judge_family([Question(claim, "m", *arms[: 2 if claim.other else 1], shown=shown)])[0]
        for claim in (
            higher("accuracy", "a", than="b"),
            equivalent("accuracy", "a", to="b", within=0.05),
            identical("accuracy", "a"),
        )
    )
    assert "41.0 ± 1.0 % against 41.3 ± 1.5 %, difference −0.3 [" in open_.sentence
    assert re.search(r"difference −0\.3 \[−?[\d.]+, [\d.]+\] points \(Welch", open_.sentence)
    assert re.search(r"a true difference of [\d.]+ points \(d = ", open_.sentence)
    assert "] points (95 %), margin ±5 points" in equal.sentence
    assert "seed 42: 41.0 %" in same.sentence
    assert open_.evidence["mean"] == pytest.approx(0.41)


def test_two_equal_rankings_are_not_told_a_detectable_difference_of_nothing():
    judged = judge(ranks_better("auroc", "a", than="b"), "m", ranked(1.0), ranked(1.0))

    assert judged.outcome == "inconclusive"
    assert judged.verdict == "equivalent"
    assert "true difference of 0" not in judged.sentence
