"""What a few seeds can see: minimum detectable effect, seeds needed, equivalence margin.

Effects are in standard deviations: of one arm for independent seeds (Cohen's d), of the paired
differences for ``paired`` ones (d_z), for which the one-sample case counts too.
"""

import functools
import math

from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import gammaln, ndtr, stdtrit


def power_of(effect: float, n: int, *, paired: bool, alpha: float = 0.05) -> float:
    """Return the power of the two-sided t-test at a true ``effect`` with ``n`` seeds an arm.

    The noncentral t is integrated over the estimated standard deviation (Johnson and Welch 1940):
    scipy's own distribution gives NaN for the large noncentralities of two or three seeds.
    """
    df, scale = _design(n, paired)
    shift, bound = abs(effect) / scale, float(stdtrit(df, 1 - alpha / 2))

    def rejected(s: float) -> float:
        return float(ndtr(shift - bound * s) + ndtr(-shift - bound * s))

    return _over_std(rejected, df, math.inf)


@functools.cache
def minimum_detectable_effect(
    n: int, *, paired: bool, power: float = 0.8, alpha: float = 0.05
) -> float:
    """Return the smallest true effect found with probability ``power``; infinite for n < 2."""
    if n < 2:
        return math.inf
    return _solve(lambda d: power_of(d, n, paired=paired, alpha=alpha) - power)


def seeds_needed(
    effect: float, *, paired: bool, power: float = 0.8, alpha: float = 0.05, most: int = 100_000
) -> int | None:
    """Return the fewest seeds an arm that find ``effect``, or None if more than ``most``."""
    if effect == 0 or power_of(effect, most, paired=paired, alpha=alpha) < power:
        return None
    low, high = 1, most
    while high - low > 1:
        middle = (low + high) // 2
        enough = power_of(effect, middle, paired=paired, alpha=alpha) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


@functools.cache
def equivalence_margin(n: int, *, paired: bool, power: float = 0.8, alpha: float = 0.05) -> float:
    """Return the smallest margin, in standard deviations, that TOST confirms at no difference."""
    if n < 2:
        return math.inf
    df, scale = _design(n, paired)
    bound = float(stdtrit(df, 1 - alpha))

    def confirmed(margin: float) -> float:
        room = margin / scale
        return _over_std(lambda s: float(2 * ndtr(room - bound * s) - 1), df, room / bound)

    return _solve(lambda margin: confirmed(margin) - power)


def interval_half_width(n: int, *, confidence: float = 0.95) -> float:
    """Return half the width of one arm's t-interval in standard deviations."""
    if n < 2:
        return math.inf
    return float(stdtrit(n - 1, 0.5 + confidence / 2)) / math.sqrt(n)


def _design(n: int, paired: bool) -> tuple[int, float]:
    """Return the degrees of freedom and the standard error of the effect."""
    if n < 2:
        raise ValueError(f"n = {n}: a test needs at least 2 seeds an arm")
    return (n - 1, 1 / math.sqrt(n)) if paired else (2 * n - 2, math.sqrt(2 / n))


def _over_std(inner, df: int, most: float) -> float:  # type: ignore[no-untyped-def]
    """Return the mean of ``inner(s)`` over s = sqrt(chi2_df / df), for s up to ``most``."""
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


def _solve(excess) -> float:  # type: ignore[no-untyped-def]
    high = 1.0
    while excess(high) < 0:
        high *= 2
    return float(brentq(excess, 0.0, high, xtol=1e-10))
