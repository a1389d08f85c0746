"""What a score is good for: precision of its wrong answers, accuracy of those that are kept.

Both are described, not tested; where there is one class only, the reason is given.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchsuite.statistics.ranking import arrays, one_class


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
    labels, values = arrays(positive, scores)
    reason = one_class(labels, values)
    base = float(labels.mean()) if len(labels) else None
    if reason:
        return Precision(None, base, reason)
    from sklearn.metrics import average_precision_score

    return Precision(float(average_precision_score(labels, values)), base)


@dataclass(frozen=True)
class RejectionCurve:
    """Accuracy of the most certain items: ``coverage`` [k] of them kept, ``accuracy`` [k] each.

    ``area`` is the mean accuracy over all coverages 1/n ... 1. ``ratio`` is the
    prediction-rejection ratio: how much of the way from rejecting at random, 0, to rejecting every
    wrong item first, 1, the score goes (Malinin, Mlodozeniec and Gales 2020); None where all are
    right or all wrong.
    """

    coverage: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]
    area: float
    ratio: float | None = None


def rejection_curve(
    positive: npt.ArrayLike, scores: npt.ArrayLike, *, points: int = 20
) -> RejectionCurve:
    """Return the accuracy when the items of the highest scores are rejected.

    ``positive`` bool [n] are the wrong ones, ``scores`` [n] say how unsure. Raises ``ValueError``
    where there is no item. Items of equal score are kept in the proportion of right ones
    among them, as if drawn at random, so that their order does not matter.
    """
    labels, values = arrays(positive, scores)
    if not len(labels):
        raise ValueError("there is no item to reject")
    if np.isnan(values).any():
        raise ValueError("some scores are not numbers: they have no place in the order")
    expected = _kept_accuracy(labels, values)
    coverage = np.linspace(1 / points, 1, points)
    kept = np.maximum(1, np.round(coverage * len(labels)).astype(int))
    area, random = float(expected.mean()), 1 - float(labels.mean())
    best = float(_kept_accuracy(labels, labels.astype(float)).mean())
    ratio = (area - random) / (best - random) if 0 < random < 1 else None
    return RejectionCurve(kept / len(labels), expected[kept - 1], area, ratio)


def _kept_accuracy(
    labels: npt.NDArray[np.bool_], values: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the accuracy of the 1 ... n items of the lowest scores, [n]."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    right = np.bincount(group, ~labels) / sizes
    return np.asarray(np.cumsum(np.repeat(right, sizes)) / np.arange(1, len(labels) + 1))
