"""Interval and test of an estimate with a skewed error: the wider of Student's and Hall's.

Student's t-interval of few skewed values misses too often on one side, and a percentile bootstrap
is worse. Hall's transformation (1992, "On the removal of skewness by transformation") corrects for
the skewness, and is itself too short for heavy tails. The wider of both covers in either case.
"""

import math

import numpy as np
from scipy.special import stdtr, stdtrit


def interval(
    value: float, error: float, df: float, skewness: float, confidence: float
) -> tuple[float, float]:
    """Return the ends for an estimate, its standard error, and the skewness of that estimate."""
    reach = float(stdtrit(df, 0.5 + confidence / 2))
    below = max(reach, _untransformed(reach, skewness))
    above = max(reach, -_untransformed(-reach, skewness))
    return value - error * below, value + error * above


def p_value(value: float, error: float, df: float, skewness: float) -> float:
    """Return the two-sided p-value of the true value being 0: the larger of both tests'."""
    if error == 0:
        return float(value == 0)
    t = value / error
    turned = t + skewness * t**2 / 3 + skewness**2 * t**3 / 27 + skewness / 6
    return float(2 * stdtr(df, -min(abs(t), abs(turned))))


def skewness_of(influence: np.ndarray) -> float:
    """Return the skewness of a sum of independent parts [n] from these parts."""
    n, centred = len(influence), influence - influence.mean()
    centred = centred / scale_of(centred)
    spread = float(centred @ centred)
    if n < 3 or spread == 0:
        return 0.0
    unbiased = math.sqrt(n * (n - 1)) / (n - 2)
    return unbiased * float((centred**3).sum()) / spread**1.5


def scale_of(values: np.ndarray) -> float:
    """Return a power of two near the largest value: divided by it, third powers stay in float64."""
    largest = float(np.abs(values).max(initial=0.0))
    return math.ldexp(1.0, math.frexp(largest)[1]) if 0 < largest < 2.0**1000 else 1.0


def _untransformed(reach: float, skewness: float) -> float:
    if abs(skewness) < 1e-9:
        return reach
    return 3 * (float(np.cbrt(1 + skewness * (reach - skewness / 6))) - 1) / skewness
