"""Two one-sided tests: whether two arms are the same within a margin set beforehand."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from scipy.special import ndtr, stdtr

from benchsuite.statistics import skewed
from benchsuite.statistics.compare import paired, welch
from benchsuite.statistics.item_tests import ItemDifference
from benchsuite.statistics.samples import as_sample


@dataclass(frozen=True)
class Equivalence:
    """A TOST of ``a`` against ``b``.

    ``p_value`` is the larger of the two one-sided ones: that the difference is within the margin.
    ``p_different`` is one-sided too: that it is beyond. ``ci_low`` and ``ci_high`` bound the
    difference at 1 - 2 alpha; ``equivalent`` is whether that interval lies inside the margin and
    ``different`` whether it lies outside. Both are None where ``defined`` is False.

    At the edge of the margin both p-values may err. ``p_either`` pays for that: it is twice the
    smaller, a two-sided p-value of the edge, and says "within" or "beyond" at its level together.
    """

    test: str
    margin: float
    difference: float | None = None
    p_value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    equivalent: bool | None = None
    different: bool | None = None
    defined: bool = False
    reason: str = ""
    p_different: float | None = None

    @property
    def p_either(self) -> float | None:
        """The p-value of a verdict of either kind."""
        return p_either(self.p_value, self.p_different)


def p_either(p_within: float | None, p_beyond: float | None) -> float | None:
    """Return the two-sided p-value of the edge: of one verdict or the other; None without them."""
    if p_within is None or p_beyond is None:
        return None
    return min(1.0, 2 * p_within, 2 * p_beyond)


def tost(
    a: Iterable[float],
    b: Iterable[float],
    margin: float,
    *,
    by_seed: bool = False,
    alpha: float = 0.05,
) -> Equivalence:
    """Schuirmann's two one-sided tests (1987) on Welch's error, or on the pairs if ``by_seed``.

    ``margin`` is in the metric's unit and must be set before looking. A constant arm makes it a
    one-sample test; two constant arms are compared exactly.
    """
    if not margin > 0:
        reason = f"the margin {margin:g} is not positive"
        return Equivalence("tost", margin, reason=reason)
    first, second = as_sample(a), as_sample(b)
    test = paired if by_seed else welch
    result = test(first, second, confidence=1 - 2 * alpha)
    if result.difference is not None and not result.defined:
        return _exact(result.difference, margin)
    low, high = result.ci_low, result.ci_high
    difference, error, df = result.difference, result.error, result.df
    if difference is None or error is None or df is None or low is None or high is None:
        return Equivalence("tost", margin, reason=result.reason)
    p_value, p_different = one_sided(difference, error, df, margin)
    return Equivalence(
        f"tost_{result.test}",
        margin,
        difference,
        p_value,
        low,
        high,
        p_value < alpha,
        low > margin or high < -margin,
        True,
        result.reason,
        p_different,
    )


def one_sided(difference: float, error: float, df: float, margin: float) -> tuple[float, float]:
    """Return the p-values that a difference is within the margin, and that it is beyond it."""
    p_above = float(stdtr(df, -(difference + margin) / error))
    p_below = float(stdtr(df, (difference - margin) / error))
    p_different = float(stdtr(df, (margin - abs(difference)) / error))
    return max(p_above, p_below), p_different


def tost_over_items(found: ItemDifference, margin: float, *, alpha: float = 0.05) -> Equivalence:
    """Return the same of a paired difference over items, which may be all that two arms have.

    By the law of the difference's own interval: Student's with the skewness of the estimate, or the
    normal one of two shares. Items that are all alike under both are an exact difference of 0.
    Undefined where ``found`` is.
    """
    if not margin > 0:
        return Equivalence("tost", margin, reason=f"the margin {margin:g} is not positive")
    difference, error, ends = found.difference, found.error, (found.ci_low, found.ci_high)
    if difference is None or error is None or None in ends:
        return Equivalence("tost_items", margin, reason=found.reason)
    if error == 0:
        return _exact(difference, margin)
    nearest = max(_p_at(found, edge) for edge in (-margin, margin))
    inside = abs(difference) < margin
    within, beyond = (nearest / 2, 1 - nearest / 2)[:: 1 if inside else -1]
    low, high = _ends(found, 1 - 2 * alpha)
    return Equivalence(
        "tost_items",
        margin,
        difference,
        within,
        low,
        high,
        within < alpha,
        low > margin or high < -margin,
        True,
        found.reason,
        beyond,
    )


def _p_at(found: ItemDifference, edge: float) -> float:
    """Return the two-sided p-value of the true difference being ``edge``."""
    assert found.difference is not None
    assert found.error is not None
    away = found.difference - edge
    if found.df is None:
        return float(2 * ndtr(-abs(away) / found.error))
    return skewed.p_value(away, found.error, found.df, found.skewness)


def _ends(found: ItemDifference, confidence: float) -> tuple[float, float]:
    assert found.difference is not None
    assert found.error is not None
    df = math.inf if found.df is None else found.df
    return skewed.interval(found.difference, found.error, df, found.skewness, confidence)


def _exact(difference: float, margin: float) -> Equivalence:
    inside = abs(difference) < margin
    reason = f"no variation: the difference {difference:g} is exact and is compared as it is"
    return Equivalence(
        "tost_exact",
        margin,
        difference,
        None,
        difference,
        difference,
        inside,
        not inside,
        True,
        reason,
    )
