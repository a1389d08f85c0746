"""Does a score rank the positives above the negatives? AUROC, its interval, and paired differences.

AUROC is the chance that a positive drawn at random has a higher score than a negative one, ties
counting half (Mann and Whitney 1947; Fawcett 2006). Items are bootstrapped. Where there is one
class only, there is no answer, and its reason is given instead of 0.5.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr
from scipy.stats import rankdata

from benchsuite.statistics.item_tests import ItemDifference

ROUNDS = 1000
Ranking = tuple[npt.ArrayLike, npt.ArrayLike]
"""Which items are positive, bool [n], and their scores, float [n]."""


@dataclass(frozen=True)
class Auroc:
    """An AUROC with its percentile-bootstrap interval; None where ``reason`` says why.

    ``rounds`` counts the bootstrap samples that had both classes.
    """

    value: float | None
    n: int
    n_positive: int
    ci_low: float | None = None
    ci_high: float | None = None
    rounds: int = 0
    reason: str = ""

    @property
    def defined(self) -> bool:
        """Whether there is a value."""
        return self.value is not None


def auroc(
    positive: npt.ArrayLike,
    scores: npt.ArrayLike,
    *,
    confidence: float = 0.95,
    rounds: int = ROUNDS,
    rng_seed: int = 0,
) -> Auroc:
    """Return the AUROC of ``positive`` bool [n] under ``scores`` [n], higher meaning positive."""
    labels, values = _arrays(positive, scores)
    reason = _refusal(labels, values)
    n, n_positive = len(labels), int(labels.sum())
    if reason:
        return Auroc(None, n, n_positive, reason=reason)
    drawn = _bootstrapped(labels, values, _resamples(n, rounds, rng_seed))
    drawn = drawn[np.isfinite(drawn)]
    tail = (1 - confidence) / 2
    low, high = (float(q) for q in np.quantile(drawn, [tail, 1 - tail]))
    return Auroc(_area(labels, values), n, n_positive, low, high, len(drawn))


def auroc_difference(
    first: Sequence[Ranking],
    second: Sequence[Ranking],
    *,
    confidence: float = 0.95,
    rounds: int = ROUNDS,
    rng_seed: int = 0,
) -> ItemDifference:
    """Return the paired difference of two AUROCs over the same items, by bootstrap.

    Each arm is one ranking per seed, its value their mean; the k-th rankings of both arms are of
    the same items in the same order, and every bootstrap sample draws the same items for both. Two
    scores of one model share their labels; two models need not. ``p_value`` is two-sided, of the
    difference over its bootstrap standard error under the normal law: a count of 1,000 samples
    could not go below .002, which no correction for several tests survives.
    """
    arms = [[_arrays(*ranking) for ranking in arm] for arm in (first, second)]
    n = sum(len(labels) for labels, _ in arms[0])
    reason = _pair_refusal(*arms)
    if reason:
        return ItemDifference("item_bootstrap", n, reason=reason)
    difference = float(np.mean([_area(*one) - _area(*two) for one, two in zip(*arms, strict=True)]))
    if all(_equal(one, two) for one, two in zip(*arms, strict=True)):
        reason = "both rank every pair of items alike"
        return ItemDifference("item_bootstrap", n, 0.0, 0.0, 1.0, 0.0, 0.0, True, reason)
    drawn = np.zeros(rounds)
    for seed, (one, two) in enumerate(zip(*arms, strict=True)):
        resamples = _resamples(len(one[0]), rounds, rng_seed + seed)
        drawn += (
            _bootstrapped(one[0], one[1], resamples) - _bootstrapped(two[0], two[1], resamples)
        ) / len(arms[0])
    drawn = drawn[np.isfinite(drawn)]
    tail = (1 - confidence) / 2
    low, high = (float(q) for q in np.quantile(drawn, [tail, 1 - tail]))
    error = float(drawn.std(ddof=1))
    p_value = float(2 * ndtr(-abs(difference) / error)) if error > 0 else float(difference == 0)
    return ItemDifference("item_bootstrap", n, difference, error, p_value, low, high, True, "")


@dataclass(frozen=True)
class Precision:
    """The area under the precision-recall curve (average precision), None where undefined.

    ``base`` is the share of positives, which a useless score gets.
    """

    value: float | None
    base: float | None
    reason: str = ""


def pr_auc(positive: npt.ArrayLike, scores: npt.ArrayLike) -> Precision:
    """Return the average precision of ``positive`` bool [n] under ``scores`` [n]."""
    labels, values = _arrays(positive, scores)
    reason = _refusal(labels, values)
    base = float(labels.mean()) if len(labels) else None
    if reason:
        return Precision(None, base, reason)
    from sklearn.metrics import average_precision_score

    return Precision(float(average_precision_score(labels, values)), base)


@dataclass(frozen=True)
class RejectionCurve:
    """Accuracy of the most certain items: ``coverage`` [k] of them kept, ``accuracy`` [k] each.

    ``area`` is the mean accuracy over all coverages 1/n ... 1.
    """

    coverage: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]
    area: float


def rejection_curve(
    positive: npt.ArrayLike, scores: npt.ArrayLike, *, points: int = 20
) -> RejectionCurve:
    """Return the accuracy when the items of the highest scores are rejected.

    ``positive`` are the wrong ones. Items of equal score are kept in the proportion of right ones
    among them, as if drawn at random, so that their order does not matter.
    """
    labels, values = _arrays(positive, scores)
    if not len(labels):
        raise ValueError("there is no item to reject")
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    right = np.bincount(group, ~labels) / sizes
    expected = np.cumsum(np.repeat(right, sizes)) / np.arange(1, len(labels) + 1)
    coverage = np.linspace(1 / points, 1, points)
    kept = np.maximum(1, np.round(coverage * len(labels)).astype(int))
    return RejectionCurve(kept / len(labels), expected[kept - 1], float(expected.mean()))


def _arrays(
    positive: npt.ArrayLike, scores: npt.ArrayLike
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    labels, values = np.asarray(positive, bool), np.asarray(scores, np.float64)
    if labels.ndim != 1 or labels.shape != values.shape:
        raise ValueError(f"labels {labels.shape} and scores {values.shape} are not of one length")
    return labels, values


def _refusal(labels: npt.NDArray[np.bool_], values: npt.NDArray[np.float64]) -> str:
    if not len(labels):
        return "there is no item"
    bad = int(np.count_nonzero(np.isnan(values)))
    if bad:
        return f"{bad} of {len(values)} scores are not numbers"
    if labels.all() or not labels.any():
        kind = "positive" if labels[0] else "negative"
        return f"all {len(labels)} items are {kind}: one class cannot be told from another"
    return ""


def _pair_refusal(
    first: Sequence[tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]],
    second: Sequence[tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]],
) -> str:
    if len(first) != len(second) or not first:
        return f"{len(first)} and {len(second)} rankings cannot be paired"
    for one, two in zip(first, second, strict=True):
        if len(one[0]) != len(two[0]):
            return f"{len(one[0])} and {len(two[0])} items cannot be paired"
        reason = _refusal(*one) or _refusal(*two)
        if reason:
            return reason
    return ""


def _area(labels: npt.NDArray[np.bool_], values: npt.NDArray[np.float64]) -> float:
    n = int(labels.sum())
    above = rankdata(values)[labels].sum() - n * (n + 1) / 2
    return float(above / (n * (len(labels) - n)))


def _equal(
    one: tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]],
    two: tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]],
) -> bool:
    same = np.array_equal(one[0], two[0])
    return same and np.array_equal(rankdata(one[1]), rankdata(two[1]))


@lru_cache(maxsize=8)
def _resamples(n: int, rounds: int, rng_seed: int) -> npt.NDArray[np.int64]:
    """Return how often each of n items was drawn, [rounds, n]; shared by all who ask."""
    rng = np.random.default_rng(rng_seed)
    return rng.multinomial(n, np.full(n, 1 / n), size=rounds)


def _bootstrapped(
    labels: npt.NDArray[np.bool_],
    values: npt.NDArray[np.float64],
    resamples: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Return the AUROC of each resample [rounds]; NaN where it lacks a class."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    drawn = resamples[:, order].astype(np.float64)
    positives = np.add.reduceat(drawn * labels[order], starts, axis=1)
    negatives = np.add.reduceat(drawn * ~labels[order], starts, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives / 2
    with np.errstate(invalid="ignore"):
        return (positives * below).sum(1) / (positives.sum(1) * negatives.sum(1))
