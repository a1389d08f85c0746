"""Effect sizes: how large a difference is in standard deviations."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from scipy.special import gammaln

from benchsuite.statistics.samples import (
    Sample,
    as_sample,
    mean_of,
    pair_refusal,
    refusal,
    std_of,
    variance_of,
)


@dataclass(frozen=True)
class EffectSize:
    """A standardised difference; ``value`` is None where ``reason`` says why there is none."""

    kind: str
    value: float | None
    defined: bool
    reason: str


def small_sample_correction(df: float) -> float:
    """Return Hedges' J for ``df`` degrees of freedom, exactly (Hedges 1981, equation 6e).

    J = gamma(df/2) / (sqrt(df/2) gamma((df-1)/2)); for one degree of freedom it is 0.
    """
    if df <= 1:
        return 0.0
    return math.exp(float(gammaln(df / 2) - gammaln((df - 1) / 2))) / math.sqrt(df / 2)


def cohens_d(a: Iterable[float], b: Iterable[float]) -> EffectSize:
    """Return (mean a - mean b) / pooled std (Cohen 1988): the source document's ``cohens_d``."""
    return _independent("cohens_d", as_sample(a), as_sample(b), corrected=False)


def hedges_g(a: Iterable[float], b: Iterable[float]) -> EffectSize:
    """Return Cohen's d times Hedges' J for n_a + n_b - 2 degrees of freedom."""
    return _independent("hedges_g", as_sample(a), as_sample(b), corrected=True)


def cohens_dz(a: Iterable[float], b: Iterable[float], *, corrected: bool = True) -> EffectSize:
    """Return the mean of the paired differences over their std, J-corrected unless told not to."""
    first, second = as_sample(a), as_sample(b)
    reason = pair_refusal(first, second)
    if reason:
        return EffectSize("cohens_dz", None, False, reason)
    return _over_std("cohens_dz", first - second, 0.0, corrected)


def one_sample_d(a: Iterable[float], constant: float, *, corrected: bool = False) -> EffectSize:
    """Return (mean a - constant) / std of a: the effect against a deterministic arm."""
    sample = as_sample(a)
    reason = refusal(("a", sample), ("the constant", as_sample([constant])), least=1)
    reason = reason or refusal(("a", sample))
    if reason:
        return EffectSize("one_sample_d", None, False, reason)
    return _over_std("one_sample_d", sample, constant, corrected)


def _independent(kind: str, a: Sample, b: Sample, *, corrected: bool) -> EffectSize:
    reason = refusal(("a", a), ("b", b))
    if reason:
        return EffectSize(kind, None, False, reason)
    df = len(a) + len(b) - 2
    pooled = math.sqrt(((len(a) - 1) * variance_of(a) + (len(b) - 1) * variance_of(b)) / df)
    factor = small_sample_correction(df) if corrected else 1.0
    return _ratio(kind, mean_of(a) - mean_of(b), pooled, factor)


def _over_std(kind: str, sample: Sample, constant: float, corrected: bool) -> EffectSize:
    factor = small_sample_correction(len(sample) - 1) if corrected else 1.0
    return _ratio(kind, mean_of(sample) - constant, std_of(sample), factor)


def _ratio(kind: str, difference: float, std: float, factor: float) -> EffectSize:
    if difference == 0 and std == 0:
        return EffectSize(kind, 0.0, True, "no difference and no variation")
    if std == 0:
        return EffectSize(kind, None, False, "no variation: the effect has no unit")
    if factor == 0:
        return EffectSize(kind, None, False, "one degree of freedom leaves nothing after Hedges' J")
    value = difference / std * factor
    if not math.isfinite(value):
        return EffectSize(kind, None, False, "the values are out of the range of float64")
    return EffectSize(kind, value, True, "")
