"""Does a score rank the positives above the negatives? AUROC, its interval, and paired differences.

AUROC is the chance that a positive drawn at random has a higher score than a negative one, ties
counting half (Mann and Whitney 1947; Fawcett 2006). Items are bootstrapped. Where there is one
class only, there is no answer, and its reason is given instead of 0.5.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

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


@dataclass(frozen=True)
class Term:
    """One AUROC of a contrast: its weight, which items are positive [n], and their scores [n].

    Terms of one ``sample`` are of the same items in the same order and are resampled together.
    """

    weight: float
    positive: npt.ArrayLike
    scores: npt.ArrayLike
    sample: Hashable


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
    the same items in the same order. Two scores of one model share their labels; two models need
    not. ``p_value`` as in ``auroc_contrast``.
    """
    n = len(first)
    if n != len(second) or not n:
        reason = f"{n} and {len(second)} rankings cannot be paired"
        return ItemDifference("item_bootstrap", 0, reason=reason)
    terms = [
        Term(sign / n, *ranking, sample=seed)
        for sign, arm in ((1, first), (-1, second))
        for seed, ranking in enumerate(arm)
    ]
    return auroc_contrast(terms, confidence=confidence, rounds=rounds, rng_seed=rng_seed)


def auroc_contrast(
    terms: Sequence[Term],
    *,
    confidence: float = 0.95,
    rounds: int = ROUNDS,
    rng_seed: int = 0,
) -> ItemDifference:
    """Return the weighted sum of AUROCs with its interval, by bootstrap over each sample's items.

    With weights that sum to zero it is a difference, and ``p_value`` its two-sided test: the
    difference over its bootstrap standard error under the normal law. A count of 1,000 resamples
    could not go below .002, which no correction for several tests survives.
    """
    arrays = [_arrays(term.positive, term.scores) for term in terms]
    sizes: dict[Hashable, int] = {}
    for term, (labels, values) in zip(terms, arrays, strict=True):
        n = sizes.setdefault(term.sample, len(labels))
        reason = f"{n} and {len(labels)} items cannot be paired" if n != len(labels) else ""
        reason = reason or _refusal(labels, values)
        if reason:
            return ItemDifference("item_bootstrap", n, reason=reason)
    n_items = sum(sizes.values())
    weights = np.array([term.weight for term in terms])
    value = float(weights @ [_area(*pair) for pair in arrays])
    if _cancel(terms, arrays):
        reason = "both rank every pair of items alike"
        return ItemDifference("item_bootstrap", n_items, 0.0, 0.0, 1.0, 0.0, 0.0, True, reason)
    places = {sample: place for place, sample in enumerate(sizes)}
    drawn = np.zeros(rounds)
    for term, (labels, values) in zip(terms, arrays, strict=True):
        resamples = _resamples(len(labels), rounds, rng_seed + places[term.sample])
        drawn += term.weight * _bootstrapped(labels, values, resamples)
    drawn = drawn[np.isfinite(drawn)]
    tail = (1 - confidence) / 2
    low, high = (float(q) for q in np.quantile(drawn, [tail, 1 - tail]))
    error = float(drawn.std(ddof=1))
    p_value = None
    if abs(weights.sum()) < 1e-9:
        p_value = float(2 * ndtr(-abs(value) / error)) if error > 0 else float(value == 0)
    return ItemDifference("item_bootstrap", n_items, value, error, p_value, low, high, True, "")


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


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the ranks from 1 on, ties sharing their mean; scipy.stats has it, and costs 0.4 s."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[place])


def _area(labels: npt.NDArray[np.bool_], values: npt.NDArray[np.float64]) -> float:
    n = int(labels.sum())
    above = _ranks(values)[labels].sum() - n * (n + 1) / 2
    return float(above / (n * (len(labels) - n)))


def _cancel(
    terms: Sequence[Term],
    arrays: Sequence[tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]],
) -> bool:
    """Say whether every ranking occurs with weights that sum to zero: an exact null."""
    sums: dict[Hashable, float] = {}
    for term, (labels, values) in zip(terms, arrays, strict=True):
        key = (term.sample, labels.tobytes(), _ranks(values).tobytes())
        sums[key] = sums.get(key, 0.0) + term.weight
    return all(abs(total) < 1e-12 for total in sums.values())


@lru_cache(maxsize=16)
def _resamples(n: int, rounds: int, rng_seed: int) -> npt.NDArray[np.float64]:
    """Return how often each of n items was drawn, [n, rounds]; shared by all who ask."""
    rng = np.random.default_rng(rng_seed)
    return np.ascontiguousarray(rng.multinomial(n, np.full(n, 1 / n), size=rounds).T, np.float64)


def _bootstrapped(
    labels: npt.NDArray[np.bool_],
    values: npt.NDArray[np.float64],
    resamples: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Return the AUROC of each resample [rounds]; NaN where it lacks a class."""
    order = np.argsort(values, kind="stable")
    ordered, wrong = values[order], labels[order]
    groups = np.cumsum(np.r_[False, ordered[1:] != ordered[:-1]])  # equal scores share one
    above, below = np.zeros((2, groups[-1] + 1, resamples.shape[1]))
    np.add.at(above, groups[wrong], resamples[order[wrong]])
    np.add.at(below, groups[~wrong], resamples[order[~wrong]])
    beaten = np.cumsum(below, axis=0) - below / 2
    with np.errstate(invalid="ignore"):
        return np.einsum("gr,gr->r", above, beaten) / (above.sum(0) * below.sum(0))
