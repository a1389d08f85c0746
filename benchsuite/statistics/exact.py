"""Exact tests that assume no distribution: every arrangement of the seeds is counted."""

import itertools
import math
from collections.abc import Iterable, Iterator

import numpy as np

from benchsuite.statistics.compare import Comparison, undefined
from benchsuite.statistics.samples import Sample, as_sample, mean_of, pair_refusal, refusal

MOST_ARRANGEMENTS = 200_000  # 10 against 10 seeds are 184,756
# Sums in another order differ in the last bits; such near ties count as ties.
TIE = 1e-12


def permutation(a: Iterable[float], b: Iterable[float]) -> Comparison:
    """Exact unpaired permutation test of the difference of means (Fisher 1935, Pitman 1937).

    The p-value is the share of all reassignments whose absolute difference is at least the
    observed one; with 3, 4, 5 seeds an arm it is at least .10, .029, .0079.
    """
    first, second = as_sample(a), as_sample(b)
    reason = refusal(("a", first), ("b", second), least=1)
    n_a, n_b = len(first), len(second)
    count = math.comb(n_a + n_b, n_a)
    if not reason and count > MOST_ARRANGEMENTS:
        reason = f"{count} arrangements are too many to count; use a t-test"
    if reason:
        return undefined("permutation", first, second, reason)
    pooled = np.concatenate([first, second])
    # A shift changes no difference of means and keeps the sums small.
    pooled = pooled - pooled.mean()
    total = float(pooled.sum())
    extreme = 0
    observed = abs(_mean_difference(float(pooled[:n_a].sum()), total, n_a, n_b))
    bound = observed - TIE * float(np.abs(pooled).max())
    for block in _blocks(itertools.combinations(range(n_a + n_b), n_a)):
        sums = pooled[block].sum(axis=1)
        extreme += int(np.count_nonzero(np.abs(sums / n_a - (total - sums) / n_b) >= bound))
    return _counted("permutation", first, second, extreme / count)


def sign_flip(a: Iterable[float], b: Iterable[float]) -> Comparison:
    """Exact paired test: the sign of each pair's difference is exchangeable under the null.

    With five pairs the smallest two-sided p-value is .0625: it can never reach .05.
    """
    first, second = as_sample(a), as_sample(b)
    reason = pair_refusal(first, second, least=1)
    if not reason and 2 ** len(first) > MOST_ARRANGEMENTS:
        reason = f"2^{len(first)} arrangements are too many to count; use a t-test"
    if reason:
        return undefined("sign_flip", first, second, reason)
    differences = first - second
    bound = abs(float(differences.sum())) - TIE * float(np.abs(differences).sum())
    signs = ((np.arange(2 ** len(first))[:, None] >> np.arange(len(first))) & 1) * 2 - 1
    extreme = int(np.count_nonzero(np.abs(signs @ differences) >= bound))
    return _counted("sign_flip", first, second, extreme / len(signs))


def smallest_p(n: int, *, paired: bool) -> float:
    """Return the smallest two-sided p-value that ``n`` seeds an arm can give in an exact test."""
    return 2 / 2**n if paired else 2 / math.comb(2 * n, n)


def _counted(test: str, a: Sample, b: Sample, p_value: float) -> Comparison:
    difference = mean_of(a) - mean_of(b)
    return Comparison(
        test,
        len(a),
        len(b),
        difference,
        None,
        difference,
        None,
        p_value,
        None,
        None,
        None,
        True,
        "",
    )


def _mean_difference(sum_a: float, total: float, n_a: int, n_b: int) -> float:
    return sum_a / n_a - (total - sum_a) / n_b


def _blocks(rows: Iterator[tuple[int, ...]], size: int = 8192) -> Iterator[np.ndarray]:
    while block := list(itertools.islice(rows, size)):
        yield np.asarray(block)
