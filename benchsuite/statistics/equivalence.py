"""Two one-sided tests: whether two arms are the same within a margin set beforehand."""

from collections.abc import Iterable
from dataclasses import dataclass

from scipy.special import stdtr

from benchsuite.statistics.compare import paired, welch
from benchsuite.statistics.samples import as_sample


@dataclass(frozen=True)
class Equivalence:
    """A TOST of ``a`` against ``b``.

    ``p_value`` is the larger of the two one-sided ones, ``ci_low`` and ``ci_high`` bound the
    difference at 1 - 2 alpha; ``equivalent`` is whether that interval lies inside the margin and
    ``different`` whether it lies outside. Both are None where ``defined`` is False.
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
    p_above = float(stdtr(df, -(difference + margin) / error))
    p_below = float(stdtr(df, (difference - margin) / error))
    p_value = max(p_above, p_below)
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
    )


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
