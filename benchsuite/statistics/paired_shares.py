"""Two systems right or wrong on the same questions: exact tests of how many more one loses.

A question is *lost* if the base alone has it right and *gained* if the candidate alone has it. The
loss is the share of the lost minus the share of the gained. Both tests here are of a loss against
an *edge*, and unconditional: the chance of what was seen, or of anything further from the edge, is
summed over all tables of n questions. That chance depends on the share of questions that differ at
all, which no hypothesis names. It is taken at the worst of the shares in an interval that misses
the true one with probability ``MISSED``, and that probability is added (Berger and Boos 1994). So
the tests hold their level at any n and any share, and where no question differs they still answer:
356 such questions show that less than 1 in 100 is lost, at 5 %.

Tables are ordered by the loss minus the edge over its standard error under the null hypothesis,
where the share that differs is at least the edge: nearly Tango's score (1998). It grows with the
lost questions, so that a sum over tables is one incomplete beta function a row.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, betaincinv, gammaln, ndtri

_Row = npt.NDArray[np.float64]
MISSED = 1e-6
MOST_ITEMS = 10_000_000
# Shares tried over the interval: neighbours are a third of a standard error apart. Some more
# are tried about the worst; where a number of questions is planned, fewer.
_SHARES, _AGAIN, _PLANNED_SHARES = 30, 8, 20
# Rows less probable than this are counted as extreme, without a look at them.
_NOTHING = 1e-11
_ROUNDING = 1e-9
_MANY, _ENOUGH = 200, 1500
_WHOLE = 4
"""Whole numbers of questions looked at beyond an interval's end: further out no ties jump."""


@functools.lru_cache(maxsize=200_000)
def p_below(n: int, lost: int, gained: int, edge: float) -> float:
    """Return the p-value of "the loss is ``edge`` or more": small where it is clearly less.

    ``lost`` and ``gained`` of ``n`` questions differ; ``edge`` is a share, in (-1, 1).
    """
    low, high = _differing_interval(n, lost + gained)
    if edge > high:  # no share in the interval can hold such a loss
        return MISSED
    score = _score(n, lost, gained, edge)
    shares = _between(max(low, edge), high)
    chances = _chances(n, score, edge, shares)
    worst = int(chances.argmax())
    near = _between(shares[max(0, worst - 1)], shares[min(worst + 1, _SHARES - 1)], _AGAIN)
    found = max(float(chances.max()), float(_chances(n, score, edge, near).max()))
    return min(1.0, MISSED + found)


def p_above(n: int, lost: int, gained: int, edge: float) -> float:
    """Return the p-value of "the loss is ``edge`` or less": small where it is clearly more."""
    return p_below(n, gained, lost, -edge)


def loss_interval(n: int, lost: int, gained: int, alpha: float) -> tuple[float, float]:
    """Return the edges that neither test rejects at ``alpha``: an interval at 1 - 2 alpha.

    Its ends are found to 1e-5, so that it agrees with the tests. An edge inside may be rejected
    where one further out is not: more tables tie with what was seen where n times the edge is a
    whole number.
    """
    upper = _last(lambda edge: p_below(n, lost, gained, edge) > alpha, (lost - gained) / n, n)
    lower = -_last(lambda edge: p_below(n, gained, lost, edge) > alpha, (gained - lost) / n, n)
    return lower, upper


def power_below(n: int, edge: float, *, loss: float, differing: float, alpha: float) -> float:
    """Return the chance that n questions reject "the loss is ``edge`` or more" at ``alpha``.

    The true ``loss`` is less than the edge, ``differing`` is the true share of questions that are
    lost or gained. The test's worst share is taken over the interval of the expected count.
    """
    low, high = _differing_interval(n, round(n * differing))
    if alpha <= MISSED:
        return 0.0
    if edge > high:
        return 1.0
    shares = _between(max(low, edge), high, _PLANNED_SHARES)
    critical = _critical(n, edge, shares, alpha - MISSED)
    at = np.array([max(differing, abs(loss), 1e-12)])
    return float(_chances(n, critical, edge, at, loss=loss)[0])


def items_needed(
    edge: float, *, loss: float, differing: float, alpha: float, power: float
) -> int | None:
    """Return the fewest questions that show the loss to be less than ``edge`` at this ``power``.

    None where the true ``loss`` is not less, or where more than ``MOST_ITEMS`` are needed. To show
    a loss above an edge, give both with the other sign.
    """
    if loss >= edge:
        return None
    differing = max(differing, abs(loss))

    def found(n: int) -> float:
        return power_below(n, edge, loss=loss, differing=differing, alpha=alpha)

    n = rough_items(edge - loss, differing - loss**2, alpha, power)
    if n >= MOST_ITEMS:
        return None
    if n * differing < _MANY:
        return fewest(lambda n: found(n) >= power, n)
    if n * differing > _ENOUGH:
        return math.ceil(1.01 * n)  # what the worst share costs
    # With many that differ the power is a normal curve over the root of n, nearly.
    for _ in range(3):
        reached = min(max(found(n), 0.5), 0.9999)
        if power <= reached < power + 0.002:
            break
        n = math.ceil(n * ((_z(power + 0.001) - _z(alpha)) / (_z(reached) - _z(alpha))) ** 2)
    return n


def margin_confirmed(n: int, *, differing: float, alpha: float, power: float) -> float:
    """Return the smallest edge that n questions exclude at this ``power`` if nothing is lost."""
    low, high = 0.0, 1.0
    while high - low > 1e-5:
        middle = (low + high) / 2
        found = power_below(n, middle, loss=0.0, differing=differing, alpha=alpha)
        low, high = (low, middle) if found >= power else (middle, high)
    return high


def rough_items(room: float, variance: float, alpha: float, power: float) -> int:
    """Return the textbook's n for a mean's distance ``room`` from its edge: where to begin."""
    n = (_z(power) - _z(alpha)) ** 2 * max(variance, 0.0) / room**2
    return max(2, min(MOST_ITEMS, math.ceil(n)))


def fewest(enough: Callable[[int], bool], start: int) -> int | None:
    """Return the least n up to ``MOST_ITEMS`` with ``enough(n)``, to 1 %, searched from a guess.

    The power of an exact test climbs in small steps back and forth; 1 % is within them.
    """
    low, high = 1, start
    while not enough(high):
        if high >= MOST_ITEMS:
            return None
        low, high = high, min(MOST_ITEMS, math.ceil(high * 1.1) + 1)
    if low == 1:
        low = max(1, int(high / 1.5))
        if enough(low):
            low = 1
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _differing_interval(n: int, differing: int) -> tuple[float, float]:
    """Return the interval of the share that differs, missed with probability ``MISSED``."""
    tail = MISSED / 2
    low = float(betaincinv(differing, n - differing + 1, tail)) if differing else 0.0
    high = float(betaincinv(differing + 1, n - differing, 1 - tail)) if differing < n else 1.0
    return low, high


def _between(low: float, high: float, n: int = _SHARES) -> _Row:
    """Return n shares from low to high, evenly by their standard error."""
    return np.maximum(np.linspace(math.sqrt(low), math.sqrt(high), n) ** 2, 1e-12)


def _score(n: int, lost: int, gained: int, edge: float) -> float:
    return (lost - gained - n * edge) / float(_error(n, np.array([lost + gained]), edge)[0])


def _error(n: int, differing: npt.NDArray[Any], edge: float) -> _Row:
    """Return the standard error of n times the loss, if it is the edge."""
    return np.sqrt(np.maximum(np.maximum(differing, n * abs(edge)) - n * edge**2, 1e-12))


def _chances(n: int, score: float, edge: float, shares: _Row, loss: float | None = None) -> _Row:
    """Return for each share that differs the chance of a score of at most ``score``.

    The loss is the edge, or the nearest to it that the share can hold; or ``loss`` where given.
    """
    middle, spread = n * shares, np.sqrt(n * shares * (1 - shares))
    first = max(0, int((middle - 8 * spread).min()) - 8)
    last = min(n, int((middle + 8 * spread).max()) + 24)
    rows = np.arange(first, last + 1, dtype=np.float64)
    log_rows = gammaln(n + 1) - gammaln(rows + 1) - gammaln(n - rows + 1)
    at = shares[:, None]
    with np.errstate(divide="ignore"):
        rest = np.where(rows == n, 0.0, (n - rows) * np.log1p(-np.minimum(at, 1 - 1e-16)))
    weights = np.exp(log_rows + rows * np.log(at) + rest)
    # In the row of m that differ, a score of at most `score` is a count of lost up to `most`.
    most = np.floor((rows + n * edge + score * _error(n, rows, edge)) / 2 + _ROUNDING)
    true = np.maximum(edge, -shares) if loss is None else np.full(len(shares), loss)
    gained = (1 - np.clip(true / shares, -1, 1)) / 2
    below = np.where(most >= rows, 1.0, 0.0)[None, :].repeat(len(shares), 0)
    open_ = (weights > _NOTHING) & ((most >= 0) & (most < rows))[None, :]
    share, row = np.nonzero(open_)
    below[share, row] = betainc(rows[row] - most[row], most[row] + 1, gained[share])
    kept = np.where(weights > _NOTHING, weights, 0.0)
    return np.minimum((kept * below).sum(1) + np.maximum(1 - kept.sum(1), 0.0), 1.0)


def _z(probability: float) -> float:
    return float(ndtri(probability))


def _critical(n: int, edge: float, shares: _Row, alpha: float) -> float:
    """Return the largest score that is rejected at ``alpha``, to 1e-3."""
    low, high = min(-6.0, 2 * _z(alpha)), 0.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        fits = float(_chances(n, middle, edge, shares).max()) <= alpha
        low, high = (middle, high) if fits else (low, middle)
    return low


def _last(kept: Callable[[float], bool], start: float, n: int) -> float:
    """Return the largest edge up to 1 that is kept, searched from one that is."""
    last = _next_change(kept, start)
    for whole in range(math.floor(last * n) + 1, min(math.floor(last * n) + 1 + _WHOLE, n)):
        if whole / n > last and kept(whole / n):
            last = _next_change(kept, whole / n)
    return last


def _next_change(kept: Callable[[float], bool], low: float) -> float:
    """Return to 1e-5 where edges from ``low``, which is kept, stop being kept."""
    high = 1.0
    while high - low > 1e-5:
        middle = (low + high) / 2
        low, high = (middle, high) if kept(middle) else (low, middle)
    return low
