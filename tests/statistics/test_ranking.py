"""AUROC and its company, against scikit-learn and against DeLong's analytic error."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from benchsuite.statistics import ranking
from benchsuite.statistics.ranking import (
    Term,
    auroc,
    auroc_contrast,
    auroc_difference,
    pr_auc,
    rejection_curve,
)

ITEMS = st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=40)


def both_classes(items):
    labels, scores = (np.array(column) for column in zip(*items, strict=True))
    assume(labels.any() and not labels.all())
    return labels, scores.astype(float)


@given(items=ITEMS)
def test_auroc_is_scikit_learns_on_ties(items):
    labels, scores = both_classes(items)
    found = auroc(labels, scores, rounds=50)
    assert found.value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert (found.n, found.n_positive) == (len(labels), labels.sum())


@given(items=ITEMS)
def test_turning_the_score_round_turns_the_area_round(items):
    labels, scores = both_classes(items)
    areas = [auroc(labels, sign * scores, rounds=10).value for sign in (1, -1)]
    assert sum(areas) == pytest.approx(1, abs=1e-12)


@given(items=ITEMS)
def test_each_bootstrapped_area_is_that_of_the_repeated_items(items):
    labels, scores = both_classes(items)
    resamples = np.random.default_rng(0).multinomial(
        len(labels), [1 / len(labels)] * len(labels), 5
    )
    found = ranking._bootstrapped(labels, scores, resamples.T.astype(float))
    for counts, area in zip(resamples, found, strict=True):
        again, values = np.repeat(labels, counts), np.repeat(scores, counts)
        if again.all() or not again.any():
            assert np.isnan(area)
        else:
            assert area == pytest.approx(roc_auc_score(again, values), abs=1e-12)


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


def test_the_paired_bootstrap_agrees_with_delong():
    labels, first, second = drawn()
    found = auroc_difference([(labels, first)], [(labels, second)], rounds=4000)
    expected = roc_auc_score(labels, first) - roc_auc_score(labels, second)
    assert found.difference == pytest.approx(expected)
    assert found.error == pytest.approx(delong_error(labels, first, second), rel=0.06)
    assert found.ci_low < found.difference < found.ci_high
    assert found.n_items == len(labels)


def test_the_interval_covers_as_often_as_it_says():
    truth = 0.76025  # Phi(1 / sqrt(2)): two normals one standard deviation apart
    covered = 0
    for seed in range(200):
        labels, first, _ = drawn(200, seed)
        found = auroc(labels, first, rounds=300)
        covered += found.ci_low <= truth <= found.ci_high
    assert 180 <= covered <= 199


def test_false_positives_of_the_paired_bootstrap_stay_at_alpha():
    significant = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        labels = rng.random(150) < 0.5
        shared = rng.normal(size=150) + labels
        pair = [(labels, shared + rng.normal(size=150)) for _ in range(2)]
        significant += auroc_difference(pair[:1], pair[1:], rounds=300).p_value < 0.05
    assert significant <= 300 * 0.05 + 3 * np.sqrt(300 * 0.05 * 0.95)


def test_swapping_the_arms_turns_the_difference_round():
    labels, first, second = drawn(80)
    there = auroc_difference([(labels, first)], [(labels, second)])
    back = auroc_difference([(labels, second)], [(labels, first)])
    assert back.difference == -there.difference
    assert back.p_value == pytest.approx(there.p_value)
    assert (back.ci_low, back.ci_high) == pytest.approx((-there.ci_high, -there.ci_low))


def test_two_models_need_not_be_wrong_on_the_same_items():
    labels, first, second = drawn(80)
    others = np.roll(labels, 7)
    found = auroc_difference([(labels, first)], [(others, second)])
    expected = roc_auc_score(labels, first) - roc_auc_score(others, second)
    assert found.difference == pytest.approx(expected)


def test_what_cannot_be_paired_is_said():
    labels, first, _ = drawn(20)
    same = auroc_difference([(labels, first)], [(labels, 2 * first)])
    assert (same.difference, same.p_value, same.defined) == (0, 1, True)
    short = auroc_difference([(labels, first)], [(labels[:9], first[:9])])
    assert "20 and 9 items" in short.reason
    assert "rankings" in auroc_difference([], []).reason
    single = auroc_difference([(labels, first)], [(np.ones(20, bool), first)])
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


def test_a_contrast_resamples_shared_items_together_and_others_apart():
    labels, first, second = drawn()
    arms = [(labels, first), (labels, second)]
    together = auroc_contrast(
        [Term(w, *arm, sample="s") for w, arm in zip((1, -1), arms, strict=True)], rounds=2000
    )
    apart = auroc_contrast(
        [Term(w, *arm, sample=w) for w, arm in zip((1, -1), arms, strict=True)], rounds=2000
    )
    assert together.difference == apart.difference
    assert together.error < apart.error
    own = [auroc_contrast([Term(1, *arm, sample=0)], rounds=2000) for arm in arms]
    assert apart.error == pytest.approx(np.hypot(own[0].error, own[1].error), rel=0.08)
    assert own[0].p_value is None
    assert own[0].difference == auroc(*arms[0]).value
