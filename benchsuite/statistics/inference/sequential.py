"""Looking more than once: group-sequential tests whose looks spend alpha piece by piece.

Seeds may be added until a comparison is decided only if every look is paid for. A spending function
says how much of alpha may be used up by the time a fraction of the planned seeds is in (Lan and
DeMets 1983). For *joint* looks the critical values follow from the joint normal distribution of the
statistics, by the recursion of Armitage, McPherson and Rowe (1969) as in Jennison and Turnbull
(2000), chapter 19. A t-test is compared with the normal statistic's *nominal level* (ibid., 4.4).
Welch's test keeps alpha so from three seeds on. The paired and one-sample tests do not: with
looks at 3, 6, 9 and 12 seeds they reject 5.6 % instead of 5 %. They spend by the union bound, each
look what the function gives it, which holds for any test.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

_Row = npt.NDArray[np.float64]
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(160)
# Beyond this a normal variable is not met in float64; alpha that small is as good as none.
_FAR, _NEGLIGIBLE = 8.0, 1e-14
_ALPHAS = tuple(np.logspace(-9, math.log10(0.999), 80))


def pocock(fraction: float, alpha: float) -> float:
    """Return what a side spends of its alpha by an information fraction: early and evenly."""
    return alpha * math.log(1 + (math.e - 1) * min(fraction, 1.0))


def obrien_fleming(fraction: float, alpha: float) -> float:
    """Return what a side spends of its alpha by an information fraction: mostly at the end."""
    return float(2 * ndtr(ndtri(alpha / 2) / math.sqrt(min(fraction, 1.0))))


SPENDING: dict[str, Callable[[float, float], float]] = {
    "pocock": pocock,
    "obrien_fleming": obrien_fleming,
}


@dataclass(frozen=True)
class Plan:
    """When to look, fixed before the first one: after ``looks[i]`` seeds an arm, in this order.

    ``seeds`` are all that may be run; the last look has them all.
    """

    seeds: tuple[int, ...]
    looks: tuple[int, ...]
    spending: str = "pocock"

    @property
    def fractions(self) -> tuple[float, ...]:
        """The information fraction of each look."""
        return tuple(look / self.looks[-1] for look in self.looks)


def planned(seeds: Sequence[int], most: int, spending: str = "pocock") -> Plan:
    """Return the plan that begins with the declared ``seeds`` and adds as many at each look.

    The further seeds are the integers after the largest; ``most`` is the last look. Raises
    ``ValueError`` where that leaves no look.
    """
    step = len(seeds)
    if step < 2 or most < step:
        raise ValueError(f"{step} declared seeds and at most {most} make no plan")
    looks = (*range(step, most, step), most)
    further = range(max(seeds) + 1, max(seeds) + 1 + most - step)
    return Plan((*seeds, *further), looks, spending)


@functools.cache
def nominal_levels(
    fractions: tuple[float, ...],
    *,
    alpha: float = 0.05,
    spending: str = "pocock",
    sides: int = 2,
    joint: bool = True,
) -> tuple[float, ...]:
    """Return the p-value that rejects at each look, so that all looks together spend ``alpha``.

    ``sides`` is 1 for the one-sided tests of an equivalence claim. Without ``joint`` the looks
    are not assumed to be correlated in any way.
    """

    def spent(fraction: float) -> float:
        # A two-sided design spends on each side its half, as the published tables do.
        return sides * SPENDING[spending](fraction, alpha / sides)

    if not joint:
        totals = [0.0, *map(spent, fractions)]
        return tuple(now - before for before, now in itertools.pairwise(totals))
    points: _Row | None = None
    density: _Row = np.empty(0)
    levels, before, last = [], 0.0, 0.0
    for fraction in fractions:
        budget = max(0.0, spent(fraction) - before)
        step = math.sqrt(fraction - last)
        bound = _bound(points, density, step, budget, math.sqrt(fraction), sides)
        levels.append(float(sides * ndtr(-bound / math.sqrt(fraction))))
        grid = _grid(bound, math.sqrt(fraction), sides)
        density = _carried(points, density, grid[0], step) * grid[1]
        points, before, last = grid[0], spent(fraction), fraction
    return tuple(levels)


def sequential_p(
    p_values: Sequence[float | None],
    fractions: tuple[float, ...],
    *,
    spending: str = "pocock",
    sides: int = 2,
    joint: bool = True,
) -> list[float | None]:
    """Return for each look so far the least alpha at which the design would have rejected there.

    Their minimum is a p-value however many of the planned looks were taken, and may be corrected
    by Holm beside others. None stays None: that look gave no test.
    """
    table = _table(fractions, spending, sides, joint)
    found: list[float | None] = []
    for look, p in enumerate(p_values):
        if p is None:
            found.append(None)
        else:
            # Below the table's end the smallest alpha is the answer; at most 1 above it.
            logs = np.interp(math.log(max(p, 1e-300)), table[look], np.log(_ALPHAS))
            found.append(1.0 if p > math.exp(table[look][-1]) else max(p, float(np.exp(logs))))
    return found


@functools.cache
def _table(fractions: tuple[float, ...], spending: str, sides: int, joint: bool) -> list[_Row]:
    """Return per look the logarithms of the nominal levels that belong to ``_ALPHAS``."""
    levels = np.array(
        [
            nominal_levels(fractions, alpha=alpha, spending=spending, sides=sides, joint=joint)
            for alpha in _ALPHAS
        ]
    )
    return list(np.log(np.maximum(np.maximum.accumulate(levels, axis=0), 1e-300)).T)


def _grid(bound: float, scale: float, sides: int) -> tuple[_Row, _Row]:
    """Return nodes and weights over what goes on: between the bounds, or below the upper one."""
    low, high = (-bound if sides == 2 else -_FAR * scale), bound
    half = (high - low) / 2
    return low + half * (1 + _NODES), half * _WEIGHTS


def _carried(points: _Row | None, mass: _Row, to: _Row, step: float) -> _Row:
    """Return the density at the next look of what has not stopped before."""
    if points is None:
        return np.exp(-0.5 * (to / step) ** 2) / (step * math.sqrt(2 * math.pi))
    away = (to[:, None] - points[None, :]) / step
    return np.exp(-0.5 * away**2) @ mass / (step * math.sqrt(2 * math.pi))


def _bound(
    points: _Row | None, mass: _Row, step: float, budget: float, scale: float, sides: int
) -> float:
    """Return the bound of the score beyond which the look stops with probability ``budget``."""
    from scipy.optimize import brentq

    at, weight = (np.zeros(1), np.ones(1)) if points is None else (points, mass)

    def stopped(bound: float) -> float:
        beyond = ndtr((at - bound) / step)
        if sides == 2:
            beyond = beyond + ndtr((-bound - at) / step)
        return float(weight @ beyond)

    far = _FAR * scale
    if budget < max(_NEGLIGIBLE, stopped(far)):
        return far
    low = 0.0 if sides == 2 else -far
    if stopped(low) <= budget:
        return low
    return float(brentq(lambda bound: stopped(bound) - budget, low, far, xtol=1e-12))


def looks_taken(plan: Plan, present: set[int]) -> int:
    """Return how many of the planned looks the seeds that are present complete."""
    complete = itertools.takewhile(lambda n: set(plan.seeds[:n]) <= present, plan.looks)
    return sum(1 for _ in complete)
