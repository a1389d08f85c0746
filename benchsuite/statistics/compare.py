"""Compare two samples of a few seeds: Welch, Student, paired t, one-sample, Holm.

Every test is two-sided and returns a ``Comparison`` of ``a`` minus ``b``. Welch is the project's
default for unrelated seeds; variances are never pre-tested (Zimmerman 2004).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from benchsuite.statistics.samples import (
    OUT_OF_RANGE,
    Sample,
    as_sample,
    is_constant,
    mean_of,
    pair_refusal,
    refusal,
    std_of,
    variance_of,
)


@dataclass(frozen=True)
class Comparison:
    """A test of ``a`` against ``b``; where ``defined`` is False, ``reason`` says why.

    ``difference`` is mean a - mean b in the metric's unit with its standard ``error`` and its
    interval ``ci_low``, ``ci_high``. ``correlation`` is that of the pairs and None for unpaired
    tests. A defined test may carry a reason too, when it is not quite the test that was asked for.
    """

    test: str
    n_a: int
    n_b: int
    difference: float | None
    error: float | None
    statistic: float | None
    df: float | None
    p_value: float | None
    ci_low: float | None
    ci_high: float | None
    correlation: float | None
    defined: bool
    reason: str


def welch(a: Iterable[float], b: Iterable[float], *, confidence: float = 0.95) -> Comparison:
    """Welch's t-test (1947): seeds unrelated, variances free to differ.

    If one arm is constant its variance is 0 and the test is the one-sample test of the other;
    ``reason`` then says so.
    """
    first, second = as_sample(a), as_sample(b)
    reason = refusal(("a", first), ("b", second))
    if reason:
        return undefined("welch", first, second, reason)
    share_a, share_b = variance_of(first) / len(first), variance_of(second) / len(second)
    total = share_a + share_b
    if is_constant(first) and is_constant(second):
        return _both_constant("welch", first, second)
    if total == 0:  # squares of less than float64 holds
        return undefined("welch", first, second, OUT_OF_RANGE)
    # The variances are divided by the larger one first: their squares may underflow.
    top = max(share_a, share_b)
    ra, rb = share_a / top, share_b / top
    df = (ra + rb) ** 2 / (ra**2 / (len(first) - 1) + rb**2 / (len(second) - 1))
    note = ""
    for name, sample in (("a", first), ("b", second)):
        if is_constant(sample):
            note = f"{name} is constant: this equals the one-sample test of the other arm"
    return _t_test("welch", first, second, math.sqrt(total), df, confidence, note=note)


def student(a: Iterable[float], b: Iterable[float], *, confidence: float = 0.95) -> Comparison:
    """Student's t-test with pooled variance, the source document's format.

    Undefined when exactly one arm is constant: there is no common variance to pool.
    """
    first, second = as_sample(a), as_sample(b)
    reason = refusal(("a", first), ("b", second))
    if reason:
        return undefined("student", first, second, reason)
    if is_constant(first) and is_constant(second):
        return _both_constant("student", first, second)
    if is_constant(first) or is_constant(second):
        name = "a" if is_constant(first) else "b"
        reason = f"{name} is constant: no common variance to pool; use the one-sample test"
        return undefined("student", first, second, reason)
    n_a, n_b = len(first), len(second)
    df = n_a + n_b - 2
    pooled = ((n_a - 1) * variance_of(first) + (n_b - 1) * variance_of(second)) / df
    error = math.sqrt(pooled * (1 / n_a + 1 / n_b))
    return _t_test("student", first, second, error, df, confidence)


def paired(a: Iterable[float], b: Iterable[float], *, confidence: float = 0.95) -> Comparison:
    """Paired t-test, for seeds that fix randomness shared by both arms; states the correlation."""
    first, second = as_sample(a), as_sample(b)
    reason = pair_refusal(first, second)
    if reason:
        return undefined("paired", first, second, reason)
    differences = first - second
    n = len(differences)
    if is_constant(differences):
        difference = float(differences[0])
        reason = f"every pair differs by exactly {difference:g}: no variation to test against"
        if difference == 0:
            reason = "every pair is equal: nothing to test"
        return undefined("paired", first, second, reason, difference)
    error = std_of(differences) / math.sqrt(n)
    correlation = _correlation(first, second)
    return _t_test("paired", first, second, error, n - 1, confidence, correlation=correlation)


def one_sample(a: Iterable[float], constant: float, *, confidence: float = 0.95) -> Comparison:
    """t-test of a seeded arm against a deterministic one, whose value carries no sampling error."""
    first, second = as_sample(a), as_sample([constant])
    reason = refusal(("a", first)) or refusal(("the constant", second), least=1)
    if reason:
        return undefined("one_sample", first, second, reason)
    if is_constant(first):
        return _both_constant("one_sample", first, second)
    error = std_of(first) / math.sqrt(len(first))
    return _t_test("one_sample", first, second, error, len(first) - 1, confidence)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return Holm's adjusted p-values (Holm 1979), in the order given, at most 1.

    None stands for a test that gave no p-value; it stays None and does not count in the family.
    Any other number outside 0 to 1, NaN among them, is a ValueError: it has no place in the order.
    """
    for p in p_values:
        if p is not None and not 0 <= p <= 1:
            raise ValueError(f"{p} is no p-value: give None for a test that gave none")
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    running = 0.0
    for rank, (p, index) in enumerate(known):
        running = max(running, min(1.0, (len(known) - rank) * p))
        adjusted[index] = running
    return adjusted


def undefined(
    test: str, a: Sample, b: Sample, reason: str, difference: float | None = None
) -> Comparison:
    """Return the answer of a test that has none, with its reason."""
    nothing = (None, None, None, None, None, None, None)
    return Comparison(test, len(a), len(b), difference, *nothing, False, reason)


def _both_constant(test: str, a: Sample, b: Sample) -> Comparison:
    difference = float(a[0] - b[0])
    reason = f"neither arm varies: they differ by exactly {difference:g}, and no test applies"
    if difference == 0:
        reason = "neither arm varies and they are equal: nothing to test"
    return undefined(test, a, b, reason, difference)


def _t_test(
    test: str,
    a: Sample,
    b: Sample,
    error: float,
    df: float,
    confidence: float,
    *,
    correlation: float | None = None,
    note: str = "",
) -> Comparison:
    difference = mean_of(a) - mean_of(b)
    if error == 0 or not (math.isfinite(error) and math.isfinite(difference / error)):
        return undefined(test, a, b, OUT_OF_RANGE, None)
    statistic = difference / error
    p_value = float(2 * stdtr(df, -abs(statistic)))
    half = float(stdtrit(df, 0.5 + confidence / 2)) * error
    return Comparison(
        test,
        len(a),
        len(b),
        difference,
        error,
        statistic,
        float(df),
        min(1.0, p_value),
        difference - half,
        difference + half,
        correlation,
        True,
        note,
    )


def _correlation(a: Sample, b: Sample) -> float | None:
    if is_constant(a) or is_constant(b):
        return None
    with np.errstate(all="ignore"):
        value = float(np.corrcoef(a, b)[0, 1])
    return max(-1.0, min(1.0, value)) if math.isfinite(value) else None
