"""What a few seeds can see: minimum detectable effect, seeds needed, equivalence margin.

Effects are in standard deviations: of one arm for independent seeds (Cohen's d), of the paired
differences for ``paired`` ones (d_z), for which the one-sample case counts too. Independent seeds
are tested by Student's t, the textbook case, or with ``welch`` by the test that decides here: it
estimates its degrees of freedom, which costs power at three or four seeds.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, ndtr, roots_jacobi, stdtrit

_NODES = 24
_Row = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Design:
    """A t-test of two equal arms: ``error`` is the standard error of the effect at std 1.

    The estimated variance has ``df`` degrees of freedom; critical values are taken at each of
    ``dfs`` with the probability ``weights``.
    """

    df: int
    error: float
    dfs: _Row
    weights: _Row


def power_of(
    effect: float, n: int, *, paired: bool, welch: bool = False, alpha: float = 0.05
) -> float:
    """Return the power of the two-sided t-test at a true ``effect`` with ``n`` seeds an arm.

    The noncentral t is integrated over the estimated standard deviation (Johnson and Welch 1940):
    scipy's own distribution gives NaN for the large noncentralities of two or three seeds.
    """
    design = _design(n, paired, welch)
    shift, bounds = abs(effect) / design.error, stdtrit(design.dfs, 1 - alpha / 2)

    def rejected(s: float) -> float:
        return float(design.weights @ (ndtr(shift - bounds * s) + ndtr(-shift - bounds * s)))

    return _over_std(rejected, design.df, math.inf)


@functools.cache
def minimum_detectable_effect(
    n: int, *, paired: bool, welch: bool = False, power: float = 0.8, alpha: float = 0.05
) -> float:
    """Return the smallest true effect found with probability ``power``; infinite for n < 2."""
    if n < 2:
        return math.inf
    return _solve(lambda d: power_of(d, n, paired=paired, welch=welch, alpha=alpha) - power)


def seeds_needed(
    effect: float,
    *,
    paired: bool,
    welch: bool = False,
    power: float = 0.8,
    alpha: float = 0.05,
    most: int = 100_000,
) -> int | None:
    """Return the fewest seeds an arm that find ``effect``, or None if more than ``most``."""

    def enough(n: int) -> bool:
        return power_of(effect, n, paired=paired, welch=welch, alpha=alpha) >= power

    return None if effect == 0 else fewest_seeds(enough, most)


def fewest_seeds(enough: Callable[[int], bool], most: int) -> int | None:
    """Return the fewest seeds, two at least, that are ``enough``; None if more than ``most``."""
    if not enough(most):
        return None
    low, high = 1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


@functools.cache
def equivalence_margin(
    n: int, *, paired: bool, welch: bool = False, power: float = 0.8, alpha: float = 0.05
) -> float:
    """Return the smallest margin, in standard deviations, that TOST confirms at no difference."""
    if n < 2:
        return math.inf
    design = _design(n, paired, welch)
    bounds = stdtrit(design.dfs, 1 - alpha)

    def confirmed(margin: float) -> float:
        room = margin / design.error

        def at(bound: float) -> float:
            inside = functools.partial(_inside, room, bound)
            return _over_std(inside, design.df, room / bound)

        return float(design.weights @ [at(float(bound)) for bound in bounds])

    return _solve(lambda margin: confirmed(margin) - power)


def interval_half_width(n: int, *, confidence: float = 0.95) -> float:
    """Return half the width of one arm's t-interval in standard deviations."""
    if n < 2:
        return math.inf
    return float(stdtrit(n - 1, 0.5 + confidence / 2)) / math.sqrt(n)


def _inside(room: float, bound: float, s: float) -> float:
    return float(2 * ndtr(room - bound * s) - 1)


def _design(n: int, paired: bool, welch: bool) -> _Design:
    if n < 2:
        raise ValueError(f"n = {n}: a test needs at least 2 seeds an arm")
    if paired:
        return _Design(n - 1, 1 / math.sqrt(n), np.array([n - 1.0]), np.ones(1))
    dfs, weights = _welch_dfs(n) if welch else (np.array([2 * n - 2.0]), np.ones(1))
    return _Design(2 * n - 2, math.sqrt(2 / n), dfs, weights)


def _welch_dfs(n: int) -> tuple[_Row, _Row]:
    """Return Welch's degrees of freedom for arms of one true variance, with their probabilities.

    The share of one arm in the two estimated variances is Beta((n - 1) / 2, (n - 1) / 2) and
    independent of their sum, so that Gauss and Jacobi's nodes integrate over it.
    """
    shape = (n - 1) / 2 - 1
    nodes, weights = roots_jacobi(_NODES, shape, shape)
    # Either arm may have the larger share: half of the nodes says it all.
    share, weights = (1 + nodes[_NODES // 2 :]) / 2, weights[_NODES // 2 :]
    return (n - 1) / (share**2 + (1 - share) ** 2), weights / weights.sum()


def _over_std(inner, df: int, most: float) -> float:
    """Return the mean of ``inner(s)`` over s = sqrt(chi2_df / df), for s up to ``most``."""
    from scipy.integrate import quad

    constant = math.log(2) + df / 2 * math.log(df / 2) - float(gammaln(df / 2))

    def weighted(s: float) -> float:
        if s <= 0:
            return 0.0 if df > 1 else inner(0.0) * math.exp(constant)
        return inner(s) * math.exp(constant + (df - 1) * math.log(s) - df * s * s / 2)

    # Twelve standard deviations of s around 1 hold everything that float64 can see.
    top = min(most, 1 + 12 / math.sqrt(2 * df) + 2 / df)
    bottom = max(0.0, 1 - 12 / math.sqrt(2 * df))
    if top <= bottom:
        return 0.0
    return float(quad(weighted, bottom, top, limit=200, epsabs=1e-12, epsrel=1e-10)[0])


def _solve(excess) -> float:
    from scipy.optimize import brentq

    high = 1.0
    while excess(high) < 0:
        high *= 2
    return float(brentq(excess, 0.0, high, xtol=1e-10))
