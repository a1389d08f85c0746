"""AUROC and its company, against scikit-learn and against DeLong's analytic error."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from benchsuite.statistics.ranking import (
    Ranking,
    Term,
    auroc,
    auroc_contrast,
    auroc_difference,
    weighted_areas,
)
from benchsuite.statistics.rejection import pr_auc, rejection_curve

ITEMS = st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=40)


def both_classes(items):
    labels, scores = (np.array(column) for column in zip(*items, strict=True))
    assume(labels.any() and not labels.all())
    return labels, scores.astype(float)


@given(items=ITEMS)
def test_auroc_is_scikit_learns_on_ties(items):
    labels, scores = both_classes(items)
    found = auroc(labels, scores)
    assert found.value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert (found.n, found.n_positive) == (len(labels), labels.sum())


@given(items=ITEMS)
def test_turning_the_score_round_turns_the_area_round(items):
    labels, scores = both_classes(items)
    areas = [auroc(labels, sign * scores).value for sign in (1, -1)]
    assert sum(areas) == pytest.approx(1, abs=1e-12)


@given(items=ITEMS)
def test_each_resampled_area_is_that_of_the_repeated_items(items):
    labels, scores = both_classes(items)
    resamples = np.random.default_rng(0).multinomial(
        len(labels), [1 / len(labels)] * len(labels), 5
    )
    found = weighted_areas(labels, scores, resamples.T.astype(float))
    for counts, area in zip(resamples, found, strict=True):
        again, values = np.repeat(labels, counts), np.repeat(scores, counts)
        if again.all() or not again.any():
            assert np.isnan(area)
        else:
            assert area == pytest.approx(placements(again, values)[0].mean(), abs=1e-12)


@pytest.mark.parametrize("labels", [[True] * 5, [False] * 5, []])
def test_one_class_is_undefined_with_its_reason(labels):
    found = auroc(labels, np.arange(len(labels)))
    assert (found.value, found.ci_low, found.defined) == (None, None, False)
    assert "class" in found.reason or "no item" in found.reason
    assert pr_auc(labels, np.arange(len(labels))).value is None


def test_a_score_that_is_no_number_is_refused():
    assert "1 of 3 scores" in auroc([True, False, True], [1, np.nan, 2]).reason
    with pytest.raises(ValueError, match="one length"):
        auroc([True], [1, 2])


def drawn(n=300, seed=0, shift=1.0):
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < 0.4
    first = rng.normal(size=n) + shift * labels
    return labels, first, first + rng.normal(size=n)


def placements(labels, scores):
    wins = (scores[labels][:, None] > scores[~labels][None]) + 0.5 * (
        scores[labels][:, None] == scores[~labels][None]
    )
    return wins.mean(1), wins.mean(0)


def delong_error(labels, first, second):
    """Return the standard error of the difference of two AUROCs (DeLong et al. 1988)."""
    one, two = placements(labels, first), placements(labels, second)
    parts = [(a - b).var(ddof=1) / len(a) for a, b in zip(one, two, strict=True)]
    return np.sqrt(sum(parts))


def only(*ranking):
    return {42: Ranking(*ranking)}


def test_the_error_is_delongs():
    labels, first, second = drawn()
    found = auroc_difference(only(labels, first), only(labels, second))
    expected = roc_auc_score(labels, first) - roc_auc_score(labels, second)
    assert found.difference == pytest.approx(expected)
    assert found.error == pytest.approx(delong_error(labels, first, second))
    assert found.ci_low < found.difference < found.ci_high
    assert (found.test, found.n_items) == ("delong", len(labels))


def test_the_error_is_that_of_a_bootstrap_which_draws_every_question_once_for_all_seeds():
    rng = np.random.default_rng(2)
    labels, first, second = drawn(200)
    chosen = [rng.choice(200, 120, replace=False) for _ in range(3)]
    arms = [
        {seed: Ranking(labels[c], score[c], c) for seed, c in enumerate(chosen)}
        for score in (first, second)
    ]
    found = auroc_difference(*arms)
    areas = []
    for _ in range(600):
        counts = np.bincount(rng.integers(0, 200, 200), minlength=200)
        again = [np.repeat(c, counts[c]) for c in chosen]
        areas.append(
            np.mean([placements(labels[c], first[c])[0].mean() for c in again])
            - np.mean([placements(labels[c], second[c])[0].mean() for c in again])
        )
    assert found.n_items == len(set(np.concatenate(chosen)))
    assert found.error == pytest.approx(np.std(areas), rel=0.12)


def test_questions_of_several_seeds_are_counted_once():
    labels, first, second = drawn(150)
    ids = np.arange(150)
    once = auroc_difference(only(labels, first, ids), only(labels, second, ids))
    thrice = auroc_difference(
        *({s: Ranking(labels, score, ids) for s in (1, 2, 3)} for score in (first, second))
    )
    assert thrice.n_items == 150
    assert (thrice.error, thrice.p_value) == pytest.approx((once.error, once.p_value))


def test_questions_are_paired_by_id_and_what_one_score_lacks_is_counted():
    labels, first, second = drawn(150)
    ids, order = np.array([f"q{i}" for i in range(150)]), np.random.default_rng(0).permutation(150)
    expected = auroc_difference(only(labels, first), only(labels, second))
    mixed = only(labels[order], second[order], ids[order])
    found = auroc_difference(only(labels, first, ids), mixed)
    assert found.p_value == pytest.approx(expected.p_value)
    part = auroc_difference(only(labels[:100], first[:100], ids[:100]), mixed)
    assert (part.n_items, part.n_left_out) == (100, 50)
    part_alone = auroc_difference(only(labels[:100], first[:100]), only(labels[:100], second[:100]))
    assert part.difference == pytest.approx(part_alone.difference)


@pytest.mark.parametrize("n_wrong", [1, 3, 9])
def test_few_items_of_a_class_give_a_value_and_no_claim(n_wrong):
    labels, scores = np.arange(400) < n_wrong, np.random.default_rng(0).random((2, 400))
    found = auroc(labels, scores[0])
    assert found.value == pytest.approx(roc_auc_score(labels, scores[0]))
    assert (found.ci_low, found.ci_high) == (None, None)
    assert f"{n_wrong} positive item" in found.reason
    difference = auroc_difference(*(only(labels, row) for row in scores))
    assert (difference.p_value, difference.ci_low, difference.defined) == (None, None, False)
    turned = auroc_difference(*(only(~labels, row) for row in scores))
    assert f"{n_wrong} negative item" in turned.reason


def test_perfectly_ranked_items_leave_an_interval_with_a_width():
    labels = np.arange(100) < 50
    found = auroc(labels, labels.astype(float))
    assert (found.value, found.ci_high) == (1, 1)
    assert 0.8 < found.ci_low < 0.99
    worst = auroc(labels, -labels.astype(float))
    assert (worst.value, worst.ci_low) == (0, 0)
    assert worst.ci_high == pytest.approx(1 - found.ci_low)


@pytest.mark.parametrize(("n", "n_wrong", "shift"), [(50, 10, 0), (400, 10, 1), (100, 50, 1)])
def test_the_interval_covers_as_often_as_it_says(n, n_wrong, shift):
    truth, covered = {0: 0.5, 1: 0.76025}[shift], 0  # Phi(1 / sqrt(2)): one std apart
    for seed in range(400):
        rng, labels = np.random.default_rng(seed), np.arange(n) < n_wrong
        found = auroc(labels, rng.normal(size=n) + shift * labels)
        covered += found.ci_low <= truth <= found.ci_high
    bar = 3 * np.sqrt(0.05 * 0.95 / 400)
    assert 0.93 - bar < covered / 400 < 0.98 + bar


@pytest.mark.parametrize(("n", "n_wrong"), [(50, 10), (400, 10), (100, 50)])
def test_two_noises_differ_no_more_often_than_alpha(n, n_wrong):
    labels, significant = np.arange(n) < n_wrong, 0
    for seed in range(400):
        pair = np.random.default_rng(seed).normal(size=(2, n))
        significant += auroc_difference(*(only(labels, row) for row in pair)).p_value < 0.05
    assert significant / 400 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def test_two_noises_over_seeds_that_share_questions_differ_no_more_often_than_alpha():
    significant = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        labels, scores = rng.random(120) < 0.3, rng.normal(size=(2, 120))
        asked = [rng.choice(120, 80, replace=False) for _ in range(3)]
        arms = ({s: Ranking(labels[q], row[q], q) for s, q in enumerate(asked)} for row in scores)
        significant += auroc_difference(*arms).p_value < 0.05
    assert significant / 300 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_swapping_the_arms_turns_the_difference_round():
    labels, first, second = drawn(80)
    there = auroc_difference(only(labels, first), only(labels, second))
    back = auroc_difference(only(labels, second), only(labels, first))
    assert back.difference == -there.difference
    assert back.p_value == pytest.approx(there.p_value)
    assert (back.ci_low, back.ci_high) == pytest.approx((-there.ci_high, -there.ci_low))


def test_two_models_need_not_be_wrong_on_the_same_items():
    labels, first, second = drawn(80)
    others = np.roll(labels, 7)
    found = auroc_difference(only(labels, first), only(others, second))
    expected = roc_auc_score(labels, first) - roc_auc_score(others, second)
    assert found.difference == pytest.approx(expected)


def test_what_cannot_be_paired_is_said():
    labels, first, _ = drawn(40)
    same = auroc_difference(only(labels, first), only(labels, 2 * first))
    assert (same.difference, same.p_value, same.defined) == (0, 1, True)
    short = auroc_difference(only(labels, first), only(labels[:9], first[:9]))
    assert "40 and 9 items" in short.reason
    assert "keeps no items" in auroc_difference({}, {}).reason
    single = auroc_difference(only(labels, first), only(np.ones(40, bool), first))
    assert "one class" in single.reason


def test_precision_of_a_perfect_score_and_of_none():
    labels, *_ = drawn(60)
    assert pr_auc(labels, labels).value == 1
    flat = pr_auc(labels, np.zeros(60))
    assert flat.value == pytest.approx(flat.base) == pytest.approx(labels.mean())


def test_rejection_keeps_the_certain_ones_and_ties_in_proportion():
    wrong = np.array([False, False, True, True])
    perfect = rejection_curve(wrong, [1, 2, 3, 4], points=4)
    assert perfect.coverage.tolist() == [0.25, 0.5, 0.75, 1]
    np.testing.assert_allclose(perfect.accuracy, [1, 1, 2 / 3, 1 / 2])
    np.testing.assert_allclose(rejection_curve(wrong, [7] * 4, points=4).accuracy, 0.5)
    assert perfect.area == pytest.approx((1 + 1 + 2 / 3 + 1 / 2) / 4)


@given(items=ITEMS)
def test_at_full_coverage_rejection_is_plain_accuracy(items):
    labels, scores = (np.array(column) for column in zip(*items, strict=True))
    assert rejection_curve(labels, scores).accuracy[-1] == pytest.approx(1 - labels.mean())


def test_a_contrast_counts_shared_items_together_and_others_apart():
    labels, first, second = drawn()
    arms = [(labels, first), (labels, second)]
    together, apart = (
        auroc_contrast([Term(w, *arm, sample=s * w) for w, arm in zip((1, -1), arms, strict=True)])
        for s in (0, 1)
    )
    assert together.difference == apart.difference
    assert together.error < apart.error
    own = [auroc_contrast([Term(1, *arm, sample=0)]) for arm in arms]
    assert apart.error == pytest.approx(np.hypot(own[0].error, own[1].error))
    assert (apart.n_items, together.n_items) == (600, 300)
    assert own[0].p_value is None
    assert own[0].difference == auroc(*arms[0]).value


def test_questions_about_one_passage_are_taken_as_one():
    labels, first, second = (np.repeat(column, 4) for column in drawn(80))
    passages = np.repeat(np.arange(80), 4)
    apart = auroc_difference(only(labels, first), only(labels, second))
    found = auroc_difference(*(only(labels, score, None, passages) for score in (first, second)))
    assert found.n_units == 80
    assert found.error == pytest.approx(2 * apart.error, rel=0.02)
