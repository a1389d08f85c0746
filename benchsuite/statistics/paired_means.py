"""Two systems' values on the same items: is the mean difference less, or more, than an edge?

Items that come in clusters (the questions of one passage, the chunks of one document) are not
independent. The clusters then are what is counted. The standard error is the jackknife's, which
leaves out one after the other. The degrees of freedom are the clusters' effective number less one
(Kish 1965): two that hold nine tenths of the items show no more scatter than two.

The test is a paired t-test, taken twice: as it is, and corrected for the skewness of the
differences (Hall 1992). The larger p-value counts. Without the correction a KL, or a score that
only drops, is called small too often: the few large differences that make the mean are missing from
most samples, and with them their scatter. With it alone the noise of the skewness itself costs as
much where the tails are heavy on both sides. For the same reason a few items show less skewness
than there is. So what is corrected for is the skewness seen and one standard error of it, the
square root of 6 / n, to the side that makes the verdict harder. Of many items that is nothing; from
four on it keeps alpha, where Hall's own correction needs more than sixty (docs/gate.md).

Where values lie in [0, 1] and few items differ, no t-test is to be trusted: it takes the scatter of
what was seen for the scatter of all, and calls it zero where nothing differs. There every
difference is rounded to -1, 0 or 1 with its mean kept, a question lost or gained with probability
|difference|, and the exact test of paired shares is taken. Twice the mean of such p-values is one
(Rueschendorf 1982), so that the answer does not hang on one draw.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

from benchsuite.statistics.paired_shares import (
    MOST_ITEMS,
    fewest,
    items_needed,
    p_below,
    rough_items,
)
from benchsuite.statistics.pairing import LEAST_WORTH, effective_number

_Row = npt.NDArray[np.float64]
# From so many items or clusters that differ on, the t-test decides: see docs/gate.md.
FEW = 30
_DRAWS = 32


@dataclass(frozen=True)
class Differences:
    """The differences of paired items, summed by cluster; without clusters each item is one.

    ``sums`` and ``sizes`` are float64 [units]; ``bounded`` says that an item's difference lies in
    [-1, 1].
    """

    sums: _Row
    sizes: _Row
    bounded: bool

    @property
    def mean(self) -> float:
        """The mean difference over items."""
        return float(self.sums.sum() / self.sizes.sum())

    @property
    def error(self) -> float:
        """The standard error of the mean over units; 0 for one unit, which shows no scatter."""
        n = len(self.sums)
        if n < 2:
            return 0.0
        off = self._off
        return math.sqrt((n - 1) / n * float(off @ off)) / float(self.sizes.sum())

    @property
    def _off(self) -> _Row:
        """How far the units' sums are from what the others' mean makes of them: the jackknife.

        A unit that holds most items is near any mean that it is part of, and would seem to have no
        scatter. Of units of one size it is the sums around the mean.
        """
        if len(self.sums) < 2:
            return np.zeros_like(self.sums)
        left = 1 - self.sizes / self.sizes.sum()
        return np.asarray((self.sums - self.sizes * self.mean) / left)

    @property
    def freedom(self) -> float:
        """The degrees of freedom: what the units are worth by their sizes, less one."""
        return effective_number(self.sizes) - 1

    @property
    def skew(self) -> float:
        """The skewness of the units' sums around the mean over the square root of their number."""
        off = self._off
        spread = float(off @ off)
        return float((off**3).sum()) / spread**1.5 if spread else 0.0

    @property
    def differing(self) -> int:
        """How many units differ at all."""
        return int(np.count_nonzero(self.sums))

    @property
    def few(self) -> bool:
        """Whether too few units differ for a t-test of bounded values."""
        return self.bounded and self.differing < min(FEW, len(self.sums))


def differences(
    values: npt.ArrayLike, clusters: Sequence[str] | None = None, *, bounded: bool
) -> Differences:
    """Return the differences [n] of paired items as what the tests take."""
    row = np.asarray(values, dtype=np.float64)
    if clusters is None:
        return Differences(row, np.ones(len(row)), bounded)
    _, unit = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.zeros(unit.max() + 1)
    sizes = np.zeros(unit.max() + 1)
    np.add.at(sums, unit, row)
    np.add.at(sizes, unit, 1.0)
    return Differences(sums, sizes, bounded)


def mean_below(found: Differences, edge: float) -> float:
    """Return the p-value of "the mean is ``edge`` or more": small where it is clearly less.

    Identical unbounded values have no scatter to test by. Their p-value is the chance that none of
    the units would have differed if half of all do, units counted as what they are worth.
    """
    alike = 0.5 ** (found.freedom + 1)
    if found.few:
        return _rounded_below(found, edge)
    if not found.differing:
        return alike if edge > 0 else 1.0
    if found.freedom + 1 < LEAST_WORTH:
        return 1.0
    error = found.error
    if error == 0:  # the same difference everywhere: of no scatter, but of no proof either
        return alike if found.mean < edge else 1.0
    t = (found.mean - edge) / error
    return float(stdtr(found.freedom, max(t, _straightened(t, _cautious_skew(found)))))


def mean_above(found: Differences, edge: float) -> float:
    """Return the p-value of "the mean is ``edge`` or less": small where it is clearly more."""
    return mean_below(Differences(-found.sums, found.sizes, found.bounded), -edge)


def mean_interval(found: Differences, alpha: float) -> tuple[float, float]:
    """Return the edges that neither test rejects at ``alpha``: an interval at 1 - 2 alpha."""
    if found.few:
        above = Differences(-found.sums, found.sizes, True)
        return -_edge(above, alpha), _edge(found, alpha)
    if found.freedom + 1 < LEAST_WORTH:
        return -math.inf, math.inf
    mirrored = Differences(-found.sums, found.sizes, found.bounded)
    return -_upper(mirrored, alpha), _upper(found, alpha)


def mean_items_needed(
    found: Differences, edge: float, *, mean: float, alpha: float, power: float
) -> int | None:
    """Return the items that show a true ``mean`` to be less than ``edge``, by the scatter seen.

    None where it is not less, beyond ``MOST_ITEMS``, or where one unit holds nearly all. Without
    any scatter it is told by the number of units alone, as in `mean_below`. For a mean above an
    edge give both, and the differences, with the other sign.
    """
    scatter = found.error * math.sqrt(len(found.sums))
    worth = effective_number(found.sizes) / len(found.sizes)
    if mean >= edge or not (found.few or found.freedom + 1 >= LEAST_WORTH):
        return None
    if found.few and not found.differing:
        seldom = 0.5 / (len(found.sums) + 1)  # that none has differed does not say that none will
        units = items_needed(edge, loss=mean, differing=seldom, alpha=alpha, power=power)
        return None if units is None else math.ceil(units * float(found.sizes.mean()))
    if scatter == 0:
        return math.ceil(math.ceil(-math.log2(alpha)) / worth * float(found.sizes.mean()))

    def enough(n: int) -> bool:
        freedom = worth * n - 1
        if freedom <= 0:
            return False
        bound = float(stdtrit(freedom, 1 - alpha))
        # Johnson and Welch's normal approximation to the noncentral t.
        reach = (edge - mean) / scatter * math.sqrt(n) - bound
        return float(stdtr(math.inf, reach / math.sqrt(1 + bound**2 / (2 * freedom)))) >= power

    start = rough_items(edge - mean, scatter**2, alpha, power)
    units = fewest(enough, start) if start < MOST_ITEMS else None
    return None if units is None else math.ceil(units * float(found.sizes.mean()))


def _upper(found: Differences, alpha: float) -> float:
    """Return the edge above the mean at which either statistic is as far out as the bound."""
    bound = float(stdtrit(found.freedom, 1 - alpha))
    return found.mean - min(-bound, _bent(-bound, _cautious_skew(found))) * found.error


def _cautious_skew(found: Differences) -> float:
    """Return the skewness, in the scale of ``skew``, that one standard error more would be."""
    return found.skew + math.sqrt(6) / len(found.sums)


def _straightened(t: float, skew: float) -> float:
    """Return a t statistic without its skewness: Hall's cubic, which is monotone."""
    if abs(skew) < 1e-9:
        return t
    return ((1 + skew * t / 3) ** 3 - 1) / skew + skew / 6


def _bent(t: float, skew: float) -> float:
    """Return the statistic that `_straightened` takes to ``t``."""
    if abs(skew) < 1e-9:
        return t
    return float(np.cbrt(1 + skew * (t - skew / 6)) - 1) * 3 / skew


def _rounded_below(found: Differences, edge: float) -> float:
    """Return the p-value of few differences, each rounded to -1, 0 or 1 with its mean kept."""
    n, largest = len(found.sums), float(found.sizes.max())
    # A cluster counts by its size: its sum over the largest size lies in [-1, 1].
    shares = found.sums[found.sums != 0] / largest
    scaled = edge * float(found.sizes.sum()) / (n * largest)
    rng = np.random.default_rng(0)
    whole = bool((np.abs(shares) == 1).all())
    p_values = []
    for _ in range(1 if whole else _DRAWS):
        kept = shares[rng.random(len(shares)) < np.abs(shares)]
        p_values.append(p_below(n, int((kept > 0).sum()), int((kept < 0).sum()), scaled))
    return min(1.0, float(np.mean(p_values)) * (1 if whole else 2))


def _edge(found: Differences, alpha: float) -> float:
    low, high = found.mean, 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if mean_below(found, middle) > alpha else (low, middle)
    return low
