"""How large a difference is, beside whether there is one: intervals, margins, what could be seen.

Every comparison has a smallest effect that matters, its *margin*. The simultaneous interval, which
covers all comparisons of a family together, is held against it.
"""

import math
from collections.abc import Mapping
from typing import Any

from scipy.special import chdtri, ndtri, stdtrit

from benchsuite.statistics import skewed
from benchsuite.statistics.margins import absolute
from benchsuite.statistics.power import equivalence_margin, minimum_detectable_effect

POWER = 0.8
BETTER, WORSE, DIFFERENT = "better", "worse", "different"
EQUIVALENT, TRIVIAL, INCONCLUSIVE = "equivalent", "trivially different", "inconclusive"

Evidence = Mapping[str, Any]
Interval = tuple[float, float]


def direction(difference: float, better: str) -> str:
    """Say whether a difference is better or worse, where ``better`` is lower, higher or empty."""
    if not better:
        return DIFFERENT
    return BETTER if (difference < 0) == (better == "lower") else WORSE


def margin_of(metric: Any, evidence: Evidence) -> float | None:
    """Return the smallest difference that matters, in the stored unit; None without two means.

    A relative margin is of the other arm's mean, of the first one's where that is 0.
    """
    mean, other = evidence["mean"], evidence["mean_other"]
    if mean is None or other is None:
        return None
    return absolute(metric.margin, other or mean, metric.scale) or None


def interval(evidence: Evidence, level: float) -> Interval | None:
    """Return the interval of the difference that misses it with the probability ``level``.

    By Student's t with the test's own degrees of freedom, by the normal law where it has none;
    over items, and over many skewed seeds, with the skewness that they have.
    """
    difference, error, df = evidence["difference"], evidence["error"], evidence["df"]
    if difference is None or error is None:
        return None
    if evidence.get("skewness"):
        return skewed.interval(difference, error, df, evidence["skewness"], 1 - level)
    # The lower tail keeps its digits where 1 - level / 2 would round to 1.
    half = -float(ndtri(level / 2) if df is None else stdtrit(df, level / 2)) * error
    return difference - half, difference + half


def within(bounds: Interval | None, margin: float | None) -> bool:
    """Say whether an interval lies inside the margin on both sides."""
    return bounds is not None and margin is not None and max(map(abs, bounds)) < margin


def least(bounds: Interval) -> float:
    """Return the smallest size in an interval: 0 where it reaches to both sides of it.

    That of a difference that Holm's correction finds may, for it is as wide as Bonferroni's.
    """
    return 0.0 if bounds[0] < 0 < bounds[1] else min(map(abs, bounds))


def std_interval(df: float, level: float = 0.05) -> Interval:
    """Return the bounds of a true standard deviation over its estimate (chi-square)."""
    low, high = (float(chdtri(df, q)) for q in (level / 2, 1 - level / 2))
    return math.sqrt(df / low), math.sqrt(df / high)


def detectable(evidence: Evidence, alone: float, corrected: float) -> dict[str, Any]:
    """Return the effect found with ``POWER`` at the level ``alone`` and at the ``corrected`` one.

    ``mde`` takes the standard deviation of the seeds for the true one, which few seeds estimate
    badly; ``mde_ci95`` is its interval for that reason.
    """
    unit, n, design = evidence["unit"], evidence["effective_n"], _design(evidence)
    effects = [
        minimum_detectable_effect(n, **design, power=POWER, alpha=level)
        for level in (alone, corrected)
    ]
    return {
        "mde_d": effects[0],
        "mde": effects[0] * unit,
        "mde_d_corrected": effects[1],
        "mde_corrected": effects[1] * unit,
        "mde_ci95": _uncertain(effects[1] * unit, evidence),
        "power": POWER,
    }


def detectable_over_items(evidence: Evidence, alone: float, corrected: float) -> dict[str, Any]:
    """Return the difference that these items would show with ``POWER``, by the test's own law."""
    df = evidence["df"]

    def quantile(p: float) -> float:
        return float(ndtri(p) if df is None else stdtrit(df, p))

    reach = [quantile(POWER) - quantile(level / 2) for level in (alone, corrected)]
    first, second = (r * evidence["error"] for r in reach)
    return {"mde": first, "mde_corrected": second, "power": POWER}


def confirmable_over_items(evidence: Evidence, corrected: float) -> dict[str, Any]:
    """Return the margin that these items would confirm with ``POWER`` at no difference."""
    df = evidence["df"]
    reach = sum(
        -float(ndtri(p) if df is None else stdtrit(df, p))
        for p in (corrected / 2, (1 - POWER) / 2)  # both sides must be told from their edges
    )
    return {"smallest_margin": reach * evidence["error"], "power": POWER}


def confirmable(evidence: Evidence, corrected: float) -> dict[str, Any]:
    """Return the margin that these seeds would confirm with ``POWER`` at no difference."""
    n, unit, design = evidence["effective_n"], evidence["unit"], _design(evidence)
    margin = equivalence_margin(n, **design, power=POWER, alpha=corrected / 2) * unit
    return {
        "smallest_margin": margin,
        "smallest_margin_ci95": _uncertain(margin, evidence),
        "power": POWER,
    }


def _uncertain(size: float, evidence: Evidence) -> list[float]:
    return [size * bound for bound in std_interval(evidence["unit_df"])]


def _design(evidence: Evidence) -> dict[str, bool]:
    return {
        "paired": evidence["test"] in ("paired", "one_sample"),
        "welch": evidence["test"] == "welch",
    }
