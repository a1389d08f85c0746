"""Paired tests over shared items: the same chunks or questions under two methods."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betainc


@dataclass(frozen=True)
class ItemDifference:
    """A paired difference a - b over items; None where ``reason`` says that there is no answer.

    ``error`` is the bootstrap's standard error (None for McNemar), ``p_value`` two-sided.
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


def identity(mean: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the mean itself: the metric of an accuracy."""
    return mean


def item_bootstrap(
    a: Sequence[Sequence[float]],
    b: Sequence[Sequence[float]],
    *,
    metric: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]] = identity,
    rounds: int = 4000,
    confidence: float = 0.95,
    rng_seed: int = 0,
) -> ItemDifference:
    """Bootstrap the items, the same draw for both arms and all seeds (Koehn 2004).

    ``a`` and ``b`` are [seeds, items]; an arm's value is the mean over seeds of ``metric`` of the
    mean over items (``np.exp`` makes a perplexity of per-chunk NLL). Seeds are not resampled:
    the interval speaks of other text, not of other seeds.
    """
    first, second = _rows(a), _rows(b)
    reason = _item_refusal(first, second)
    n = first.shape[1] if first.ndim == 2 else 0
    if reason:
        return ItemDifference("item_bootstrap", n, reason=reason)
    difference = float(metric(first.mean(axis=1)).mean() - metric(second.mean(axis=1)).mean())
    if np.array_equal(first, second):
        reason = "every item has the same value under both"
        return ItemDifference("item_bootstrap", n, 0.0, 0.0, 1.0, 0.0, 0.0, True, reason)
    rng = np.random.default_rng(rng_seed)
    drawn = np.empty(rounds)
    for start in range(0, rounds, 500):
        stop = min(start + 500, rounds)
        weights = rng.multinomial(n, np.full(n, 1 / n), size=stop - start) / n
        at_a, at_b = metric(weights @ first.T), metric(weights @ second.T)
        drawn[start:stop] = at_a.mean(axis=1) - at_b.mean(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    # One is added above and below: a bootstrap cannot show p = 0 (Davison and Hinkley 1997, 4.2).
    side = min(np.count_nonzero(drawn <= 0), np.count_nonzero(drawn >= 0))
    p_value = min(1.0, 2 * (side + 1) / (rounds + 1))
    error = float(drawn.std(ddof=1))
    return ItemDifference(
        "item_bootstrap", n, difference, error, p_value, float(low), float(high), True, ""
    )


def mcnemar(correct_a: Iterable[bool], correct_b: Iterable[bool]) -> ItemDifference:
    """Exact McNemar test (1947) of two methods on the same questions, from the discordant pairs.

    ``difference`` is the difference of the two accuracies; its interval is Wald's for paired
    proportions.
    """
    a, b = np.asarray(list(correct_a), bool), np.asarray(list(correct_b), bool)
    n = len(a)
    if len(a) != len(b) or n == 0:
        reason = f"{len(a)} and {len(b)} answers cannot be paired"
        return ItemDifference("mcnemar", n, reason=reason)
    only_a, only_b = int(np.count_nonzero(a & ~b)), int(np.count_nonzero(b & ~a))
    discordant = only_a + only_b
    difference = (only_a - only_b) / n
    if discordant == 0:
        reason = "both answer every question alike"
        return ItemDifference("mcnemar", n, 0.0, None, 1.0, None, None, True, reason)
    # P(X <= k) for X ~ Binomial(m, 1/2) is the incomplete beta function I_.5(m - k, k + 1).
    k = min(only_a, only_b)
    p_value = min(1.0, 2 * float(betainc(discordant - k, k + 1, 0.5)))
    half = 1.959964 * math.sqrt(max(0.0, discordant - (only_a - only_b) ** 2 / n)) / n
    return ItemDifference(
        "mcnemar", n, difference, None, p_value, difference - half, difference + half, True, ""
    )


def _rows(values: Sequence[Sequence[float]]) -> npt.NDArray[np.float64]:
    rows = [np.asarray(row, dtype=np.float64).reshape(-1) for row in values]
    if not rows or len({len(row) for row in rows}) > 1:
        return np.empty(0)
    return np.stack(rows)


def _item_refusal(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> str:
    if a.ndim != 2 or b.ndim != 2:
        return "the seeds of an arm do not hold equally many items"
    if a.shape[1] != b.shape[1]:
        return f"{a.shape[1]} and {b.shape[1]} items cannot be paired"
    if a.shape[1] < 2:
        return f"n = {a.shape[1]} items: at least 2 are needed"
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return "some items are not finite"
    return ""
