"""Paired tests over shared items: the same chunks or questions under two methods."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, ndtri

from benchsuite.statistics.pairing import (
    LEAST_WORTH,
    ONE_CLUSTER,
    PerItem,
    effective_number,
    matched,
    named,
    units,
)
from benchsuite.statistics.samples import OUT_OF_RANGE
from benchsuite.statistics.skewed import interval, p_value, scale_of, skewness_of

# Below this many, an interval over items would rest on a variance that nobody can know.
LEAST_ITEMS = 10
Metric = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
Row = PerItem | Sequence[float] | npt.NDArray[np.float64]
Seeds = Mapping[int, Row] | Sequence[Row]


@dataclass(frozen=True)
class ItemDifference:
    """A paired difference a - b over items; None where ``reason`` says that there is no answer.

    ``error`` is the standard error over items, ``p_value`` two-sided, ``df`` the degrees of freedom
    of the t-distribution (None for an exact test). ``n_items`` counts distinct items, ``n_units``
    what was taken as independent (items or clusters of them), ``n_left_out`` the items that one arm
    alone holds; ``by`` says whether items were paired by ``id`` or by ``place``. ``skewness`` is
    that of the estimate, for which the interval allows.
    """

    test: str
    n_items: int
    difference: float | None = None
    error: float | None = None
    p_value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    defined: bool = False
    reason: str = ""
    df: float | None = None
    n_units: int = 0
    n_left_out: int = 0
    by: str = "id"
    skewness: float = 0.0

    def none(self, reason: str) -> "ItemDifference":
        """Return that there is no difference at all, and why that is known."""
        return replace(
            self,
            difference=0.0,
            error=0.0,
            p_value=1.0,
            ci_low=0.0,
            ci_high=0.0,
            defined=True,
            reason=reason,
        )


def identity(mean: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the mean itself: the metric of an accuracy."""
    return mean


@np.errstate(over="ignore", invalid="ignore")  # what comes of it is looked at
def item_difference(
    a: Seeds, b: Seeds, *, metric: Metric = identity, confidence: float = 0.95
) -> ItemDifference:
    """Return the difference of two arms, seed -> items, and its error were other items drawn.

    An arm's value is the mean over seeds of ``metric`` of the mean over items (``np.exp`` makes a
    perplexity of per-chunk NLL). Each distinct item is one observation, under all seeds and both
    arms, and left out once for the standard error (the jackknife, Efron and Stein 1981). Seeds are
    not redrawn: the interval speaks of other text, not of other seeds.

    Where fewer than ``LEAST_ITEMS`` items differ, the exact sign-flip test decides. Two rows of 0
    and 1 are McNemar's case. ``test`` names which it was.
    """
    pair = matched(a, b)
    undefined = ItemDifference(
        "item_t",
        pair.n_items,
        reason=pair.reason,
        n_left_out=pair.n_left_out,
        by=pair.by,
    )
    if pair.reason:
        return undefined
    if not all(np.isfinite(np.asarray(r.values, float)).all() for r in (*pair.a, *pair.b)):
        return replace(undefined, reason="some items are not finite")
    if _binary(pair.a, pair.b, metric):
        rows = _aligned(pair.a[0], pair.b[0])
        found = mcnemar(*(row > 0 for row in rows), confidence=confidence)
        scale = float(metric(np.ones(1))[0])
        found = replace(found, n_left_out=pair.n_left_out, by=pair.by)
        return _scaled(found, scale)
    numbers, n = units([*pair.a, *pair.b])
    undefined = replace(undefined, n_units=n)
    if n < LEAST_ITEMS:
        what = "items" if n == pair.n_items else "clusters of items"
        return replace(undefined, reason=f"n = {n} {what}: fewer than {LEAST_ITEMS}")
    split = len(pair.a)
    left = _Arm.of(pair.a, numbers[:split], n)
    right = _Arm.of(pair.b, numbers[split:], n)
    return _judged(undefined, left, right, metric, confidence)


def mcnemar(
    correct_a: Iterable[bool], correct_b: Iterable[bool], *, confidence: float = 0.95
) -> ItemDifference:
    """Exact McNemar test (1947) of two methods on the same questions, from the discordant pairs.

    ``difference`` is the difference of the two accuracies; its interval is Tango's score interval
    (1998), which has a width where no pair is discordant.
    """
    a, b = np.asarray(list(correct_a), bool), np.asarray(list(correct_b), bool)
    n = len(a)
    if len(a) != len(b) or n == 0:
        reason = f"{len(a)} and {len(b)} answers cannot be paired"
        return ItemDifference("mcnemar", n, reason=reason)
    only_a, only_b = int(np.count_nonzero(a & ~b)), int(np.count_nonzero(b & ~a))
    low, high = paired_interval(only_a, only_b, n, confidence=confidence)
    # The score interval's, for Wald's error is 0 where no pair is discordant.
    error = (high - low) / (2 * float(ndtri(0.5 + confidence / 2)))
    reason = "" if only_a + only_b else "both answer every question alike"
    return ItemDifference(
        "mcnemar",
        n,
        (only_a - only_b) / n,
        error,
        sign_test(only_a, only_b),
        low,
        high,
        True,
        reason,
        n_units=n,
    )


def sign_test(ups: int, downs: int) -> float:
    """Return the exact two-sided p-value of as many rises and falls if both are as likely."""
    if ups + downs == 0:
        return 1.0
    # P(X <= k) for X ~ Binomial(m, 1/2) is the incomplete beta function I_.5(m - k, k + 1).
    k = min(ups, downs)
    return min(1.0, 2 * float(betainc(ups + downs - k, k + 1, 0.5)))


def paired_interval(
    only_a: int, only_b: int, n: int, *, confidence: float = 0.95
) -> tuple[float, float]:
    """Return Tango's score interval for the difference of two paired proportions.

    ``only_a`` and ``only_b`` of ``n`` pairs are discordant. Source: Tango, "Equivalence test and
    confidence interval for the difference in proportions for the paired-sample design", 1998.
    """
    reach = float(ndtri(0.5 + confidence / 2))

    def score(delta: float) -> float:
        linear = -only_a - only_b + (2 * n - only_a + only_b) * delta
        root = math.sqrt(max(0.0, linear**2 + 8 * n * only_b * delta * (1 - delta)))
        share = (root - linear) / (4 * n)
        variance = n * (2 * share + delta * (1 - delta))
        distance = only_a - only_b - n * delta
        return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance)

    middle = (only_a - only_b) / n
    return (
        -1.0 if middle <= -1 else _crossing(lambda d: score(d) > reach, -1.0, middle),
        1.0 if middle >= 1 else _crossing(lambda d: score(d) >= -reach, middle, 1.0),
    )


def _crossing(is_left: Callable[[float], bool], low: float, high: float) -> float:
    """Return where ``is_left`` turns from true to false between two places, by bisection."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if is_left(middle) else (low, middle)
    return (low + high) / 2


@dataclass(frozen=True)
class _Arm:
    """One arm's sums over its units: ``totals`` and ``counts`` float [seeds, units]."""

    totals: npt.NDArray[np.float64]
    counts: npt.NDArray[np.float64]

    @classmethod
    def of(cls, seeds: Sequence[Any], numbers: Sequence[npt.NDArray[np.int64]], n: int) -> "_Arm":
        rows = [np.asarray(items.values, np.float64) for items in seeds]
        totals = [np.bincount(u, row, n) for u, row in zip(numbers, rows, strict=True)]
        counts = [np.bincount(u, minlength=n) for u in numbers]
        return cls(np.array(totals), np.array(counts, np.float64))

    def value(self, metric: Metric) -> float:
        return float(np.mean(metric(self.totals.sum(1) / self.counts.sum(1))))

    def without_each(self, metric: Metric) -> npt.NDArray[np.float64]:
        """Return the arm's value without each unit, [units]."""
        counts = self.counts.sum(1, keepdims=True) - self.counts
        means = (self.totals.sum(1, keepdims=True) - self.totals) / counts
        return np.asarray(metric(means)).mean(axis=0)


def _judged(
    undefined: ItemDifference, a: _Arm, b: _Arm, metric: Metric, confidence: float
) -> ItemDifference:
    n, difference = undefined.n_units, a.value(metric) - b.value(metric)
    apart = a.totals.mean(0) - b.totals.mean(0)
    moved = apart[np.abs(apart) > 1e-12 * np.abs(a.totals).max()]
    if not len(moved) and abs(difference) <= 1e-12 * abs(a.value(metric)):
        reason = "every item has the same value under both"
        return undefined.none(reason)
    if any(np.any(arm.counts.sum(1, keepdims=True) == arm.counts) for arm in (a, b)):
        return replace(undefined, reason="a seed holds one item alone")
    # Units that hold most of the items show less scatter than their number says.
    worth = min(effective_number(arm.counts.sum(0)) for arm in (a, b))
    if worth < LEAST_WORTH:
        return replace(undefined, difference=difference, reason=ONE_CLUSTER)
    influence = -(n - 1) / n * (a.without_each(metric) - b.without_each(metric))
    influence = influence - influence.mean()
    scale = scale_of(influence)
    parts = influence / scale
    error = scale * math.sqrt(n / (n - 1) * float(parts @ parts))
    if not (math.isfinite(difference) and math.isfinite(error)):
        return replace(undefined, reason=OUT_OF_RANGE)
    found = replace(undefined, difference=difference, error=error, defined=True)
    if len(moved) < LEAST_ITEMS:
        # What carries the difference is these few; the interval has their degrees of freedom.
        df = max(1.0, len(moved) - 1.0)
        low, high = interval(difference, error, df, 0.0, confidence)
        exact: dict[str, Any] = {"test": "sign_flip_items", "p_value": _flipped(moved)}
        return replace(found, **exact, ci_low=low, ci_high=high, df=df)
    skewness, df = skewness_of(influence), worth - 1
    low, high = interval(difference, error, df, skewness, confidence)
    p = p_value(difference, error, df, skewness)
    return replace(found, p_value=p, ci_low=low, ci_high=high, df=df, skewness=skewness)


def _flipped(moved: npt.NDArray[np.float64]) -> float:
    """Return the share of sign patterns of the differences that are as far from 0 or farther."""
    patterns = (np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved))) & 1
    sums = np.abs((2 * patterns - 1) @ moved)
    return float(np.mean(sums >= abs(moved.sum()) - 1e-12 * np.abs(moved).sum()))


def _binary(a: Sequence[Any], b: Sequence[Any], metric: Metric) -> bool:
    """Say whether this is McNemar's case: one row of 0 and 1 an arm, of which shares are taken."""
    if len(a) != 1 or len(b) != 1 or any(map(_shares, (*a, *b))):
        return False
    if any(not np.isin(np.asarray(items.values, float), (0, 1)).all() for items in (*a, *b)):
        return False
    ends = metric(np.array([0.0, 0.5, 1.0]))
    return bool(ends[0] == 0 and math.isclose(2 * ends[1], ends[2]))


def _shares(items: Any) -> bool:
    """Say whether some items share a cluster."""
    clusters = items.clusters
    return clusters is not None and len(set(named(clusters))) < len(items)


def _aligned(a: Any, b: Any) -> list[npt.NDArray[np.float64]]:
    """Return the values of two matched rows in one order of items."""
    (first, second), n = units([a, b])
    rows = np.zeros((2, n))
    rows[0, first], rows[1, second] = a.values, b.values
    return list(rows)


def _scaled(found: ItemDifference, scale: float) -> ItemDifference:
    """Return a difference of shares in the metric's unit (percent, say)."""
    if found.difference is None or found.error is None:
        return found
    low, high = (None if end is None else scale * end for end in (found.ci_low, found.ci_high))
    difference, error = scale * found.difference, scale * found.error
    return replace(found, difference=difference, error=error, ci_low=low, ci_high=high)
