"""What every test does first: look at the sample and refuse it with a reason."""

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Sample = npt.NDArray[np.float64]
LARGEST = 1e150
OUT_OF_RANGE = "the values are out of the range of float64"


def as_sample(values: Iterable[float]) -> Sample:
    """Return the values as a one-dimensional float64 array."""
    return np.asarray(list(values), dtype=np.float64).reshape(-1)


def refusal(*named: tuple[str, Sample], least: int = 2) -> str:
    """Return why these samples cannot be used, or an empty string.

    A sample with a missing or infinite value is refused, not thinned: a run that lost a seed is
    another experiment.
    """
    for name, sample in named:
        values = sample.tolist()
        bad = sum(not math.isfinite(value) for value in values)
        if bad:
            return f"{bad} of {len(sample)} values of {name} are not finite"
        if values and max(map(abs, values)) > LARGEST:
            return f"some values of {name} are out of the range whose squares float64 can hold"
        if len(sample) < least:
            return f"n = {len(sample)} for {name}: at least {least} values are needed"
    return ""


def pair_refusal(a: Sample, b: Sample, least: int = 2) -> str:
    """Return why two samples cannot be used value by value, or an empty string."""
    reason = refusal(("a", a), ("b", b), least=least)
    if not reason and len(a) != len(b):
        reason = f"{len(a)} and {len(b)} values cannot be paired"
    return reason


# Samples have a handful of values, for which plain floats are ten times as fast as array calls.
def is_constant(sample: Sample) -> bool:
    """Say whether all values are equal, bit for bit."""
    values = sample.tolist()
    return bool(values) and values.count(values[0]) == len(values)


def mean_of(sample: Sample) -> float:
    """Return the mean; of a constant sample exactly its value, which a rounded sum can miss."""
    values = sample.tolist()
    if is_constant(sample):
        return values[0]
    try:
        return math.fsum(values) / len(values)
    except (OverflowError, ValueError):  # a sum beyond float64, or both infinities
        with np.errstate(invalid="ignore"):
            return float((sample / len(values)).sum())


def variance_of(sample: Sample) -> float:
    """Return the variance with ddof 1; of a constant sample exactly 0.

    Infinite where the squares leave float64: no test takes such a sample, see ``refusal``.
    """
    if is_constant(sample):
        return 0.0
    mean = mean_of(sample)
    away = [value - mean for value in sample.tolist()]
    if max(map(abs, away)) > LARGEST:
        return math.inf
    return math.fsum(value**2 for value in away) / (len(sample) - 1)


def std_of(sample: Sample) -> float:
    """Return the standard deviation with ddof 1; of a constant sample exactly 0."""
    variance = variance_of(sample)
    if (variance == 0 or math.isinf(variance)) and not is_constant(sample):
        return _of_unsquarable(sample)
    return math.sqrt(variance)


def _of_unsquarable(sample: Sample) -> float:
    """Return the standard deviation of values whose squares leave float64 at either end."""
    largest = float(np.abs(sample).max())
    if not math.isfinite(largest):
        return math.nan
    return largest * math.sqrt(variance_of(sample / largest))
