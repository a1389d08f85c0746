"""Describe one sample of a few seeds: mean, spread, t-interval."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from scipy.special import ndtri, stdtrit

from benchsuite.statistics.samples import as_sample, is_constant, mean_of, refusal, std_of


@dataclass(frozen=True)
class Description:
    """A described sample; a field is None where ``reason`` says that it has no answer.

    ``std`` has ddof 1, ``cv_percent`` is std / |mean| x 100, ``ci_low`` and ``ci_high`` bound the
    mean. ``defined`` is False as soon as one field has no answer.
    """

    n: int
    mean: float | None = None
    std: float | None = None
    cv_percent: float | None = None
    min: float | None = None
    max: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    confidence: float = 0.95
    constant: bool = False
    defined: bool = False
    reason: str = ""


def describe(values: Iterable[float], *, confidence: float = 0.95) -> Description:
    """Describe a sample with a t-interval for its mean.

    The interval is Student's (1908). A percentile bootstrap of three to five seeds under-covers
    (Hesterberg, "What teachers should know about the bootstrap", 2015, section 4) and is not used.
    Values equal bit for bit have a std of exactly 0 and an interval without width.
    """
    sample = as_sample(values)
    n = len(sample)
    reason = refusal(("the sample", sample), least=1)
    if reason:
        return Description(n, confidence=confidence, reason=reason)
    seen = Description(
        n,
        mean=mean_of(sample),
        min=float(sample.min()),
        max=float(sample.max()),
        confidence=confidence,
    )
    if n == 1:
        return replace(seen, reason="n = 1: no standard deviation and no interval")
    std, mean = std_of(sample), mean_of(sample)
    half = float(stdtrit(n - 1, 0.5 + confidence / 2)) * std / math.sqrt(n)
    cv, constant = _cv(std, mean), is_constant(sample)
    reason = f"all {n} values are equal: the interval has no width" if constant else ""
    return replace(
        seen,
        std=std,
        cv_percent=cv,
        ci_low=mean - half,
        ci_high=mean + half,
        constant=constant,
        defined=cv is not None,
        reason=reason if cv is not None else "the mean is 0: no coefficient of variation",
    )


def proportion_interval(successes: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval (1927) for a binomial proportion, 0 <= low <= high <= 1.

    Unlike the share +- 1.96 standard errors it has a width, and bounds, where nothing or everything
    succeeded.
    """
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"{successes} successes of {n}")
    square = float(ndtri(0.5 + confidence / 2)) ** 2
    middle = (successes + square / 2) / (n + square)
    half = math.sqrt(square * (successes * (n - successes) / n + square / 4)) / (n + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def _cv(std: float, mean: float) -> float | None:
    if mean == 0:
        return None
    cv = std / abs(mean) * 100
    return cv if math.isfinite(cv) else None
