"""Seeds and items together: how sure is a difference if both had been others, and which matters?

The seed test holds the items fixed, the item test the seeds. Here both are drawn anew: seeds, and
items by id (clusters of them where they share a passage or a stretch of text), each item drawn once
for all seeds and both methods. One fewer is drawn than there are, without which the variance of few
seeds would come out too small (Rao and Wu 1988). For crossed seeds and items this bootstrap errs on
the safe side: it counts their interaction more than once (Owen 2007, "The pigeonhole bootstrap").
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

from benchsuite.statistics.item_tests import LEAST_ITEMS, Metric, Seeds, identity
from benchsuite.statistics.pairing import (
    LEAST_WORTH,
    ONE_CLUSTER,
    Matched,
    by_seed,
    effective_number,
    matched,
    units,
)
from benchsuite.statistics.ranking import Rankings, few_of_a_class, terms_of, weighted_areas
from benchsuite.statistics.samples import OUT_OF_RANGE

ROUNDS = 500
# More of them are put together at random, which leaves the variance of a mean what it is: its own
# estimate then errs by 1.4 %, less than the rounds do. Every unit would take 4 kB.
MOST_UNITS = 10_000
# An AUROC's weights are worked on in parts of so many numbers.
MOST_WEIGHTS = 5_000_000
# From this share of the variance on, one source is said to dominate.
DOMINANT = 2 / 3

Weights = npt.NDArray[np.float64]
# weights of the units [units, rounds] -> the value of each seed [seeds, rounds]
Values = Callable[[Weights], npt.NDArray[np.float64]]


@dataclass(frozen=True)
class TwoLevels:
    """A difference a - b over seeds and items; None where ``reason`` says why.

    ``error_seeds`` and ``error_items`` are the standard errors if only the one were drawn anew,
    ``share_seeds`` the share of seeds in the sum of the two variances, ``dominant`` is ``seeds``,
    ``items`` or ``both``. ``n_units`` counts items or clusters of them.
    """

    difference: float | None = None
    error: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    p_value: float | None = None
    df: float | None = None
    error_seeds: float | None = None
    error_items: float | None = None
    share_seeds: float | None = None
    dominant: str = ""
    n_seeds: tuple[int, int] = (0, 0)
    n_items: int = 0
    n_units: int = 0
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the answer as json-able data."""
        return {**asdict(self), "n_seeds": list(self.n_seeds)}


def means_over_both(
    a: Seeds, b: Seeds, *, metric: Metric = identity, shared_seeds: bool = False, rng_seed: int = 0
) -> TwoLevels:
    """Return the difference of the arms' ``metric`` of the mean over items, as ``item_difference``.

    ``shared_seeds`` says that a seed fixes what both arms share: a seed is then drawn for both.
    """
    pair = matched(a, b)
    if pair.reason:
        return TwoLevels(reason=pair.reason)
    numbers, counted = _drawable(pair)

    def values(seeds: Sequence[Any], places: Sequence[npt.NDArray[np.int64]]) -> Values:
        n, rows = counted.drawn, [np.asarray(items.values, np.float64) for items in seeds]
        totals = np.array([np.bincount(u, row, n) for u, row in zip(places, rows, strict=True)])
        counts = np.array([np.bincount(u, minlength=n) for u in places], np.float64)
        return lambda weights: np.asarray(metric((totals @ weights) / (counts @ weights)))

    split = len(pair.a)
    arms = values(pair.a, numbers[:split]), values(pair.b, numbers[split:])
    shared = shared_seeds and sorted(by_seed(a)) == sorted(by_seed(b))
    return _drawn(*arms, pair, counted, shared, rng_seed)


def auroc_over_both(a: Rankings, b: Rankings, *, rng_seed: int = 0) -> TwoLevels:
    """Return the difference of the arms' AUROCs; each arm maps seed to ``Ranking``."""
    pair = matched(terms_of(a, 1), terms_of(b, -1))
    reason = pair.reason or few_of_a_class([*pair.a, *pair.b])
    if reason:
        return TwoLevels(reason=reason)
    numbers, counted = _drawable(pair)

    def values(seeds: Sequence[Any], places: Sequence[npt.NDArray[np.int64]]) -> Values:
        return lambda weights: np.array(
            [_areas(term, place, weights) for term, place in zip(seeds, places, strict=True)]
        )

    split = len(pair.a)
    arms = values(pair.a, numbers[:split]), values(pair.b, numbers[split:])
    return _drawn(*arms, pair, counted, False, rng_seed)


@dataclass(frozen=True)
class _Units:
    """How many units of items are ``drawn``, how many there ``are``, and what they are ``worth``.

    The last is by their sizes (`effective_number`): two clusters with nine tenths of the items vary
    like two.
    """

    drawn: int
    are: int
    worth: float


def _drawable(pair: Matched) -> tuple[list[npt.NDArray[np.int64]], _Units]:
    """Return the number of each item's unit by sample, and the units."""
    numbers, n = units([*pair.a, *pair.b])
    sizes = sum(np.bincount(one, minlength=n) for one in numbers)
    found = _Units(min(n, MOST_UNITS), n, effective_number(sizes))
    if n > MOST_UNITS:
        group = np.random.default_rng(n).permutation(n) % MOST_UNITS
        numbers = [group[one] for one in numbers]
    return numbers, found


def _areas(term: Any, place: npt.NDArray[np.int64], weights: Weights) -> npt.NDArray[np.float64]:
    step = max(1, MOST_WEIGHTS // max(1, len(place)))
    parts = [weights[:, at : at + step] for at in range(0, weights.shape[1], step)]
    found = [weighted_areas(term.positive, term.scores, part[place]) for part in parts]
    return np.concatenate(found)


@np.errstate(over="ignore", invalid="ignore")  # what comes of it is looked at
def _drawn(
    a: Values, b: Values, pair: Matched, counted: _Units, shared: bool, rng_seed: int
) -> TwoLevels:
    n = counted.drawn
    if n < LEAST_ITEMS:
        what = "items" if n == pair.n_items else "clusters of items"
        return TwoLevels(reason=f"n = {n} {what}: fewer than {LEAST_ITEMS}")
    if counted.worth < LEAST_WORTH:
        return TwoLevels(reason=ONE_CLUSTER)
    whole = np.ones((n, 1))
    once = [arm(whole)[:, 0] for arm in (a, b)]
    if not all(np.isfinite(values).all() for values in once):
        return TwoLevels(reason="some values are not finite")
    seeds, df_seeds = _variance_of_seeds(once[0], once[1], shared)
    if seeds is None:
        return TwoLevels(reason="one seed of each arm: other seeds cannot be told of")
    rng, weights = np.random.default_rng([rng_seed, 1]), _resamples(n, rng_seed)
    both = [arm(weights) for arm in (a, b)]
    items = _variance(both[0].mean(0) - both[1].mean(0))
    chosen = [_chosen(rng, len(values)) for values in once]
    if shared:
        chosen[1] = chosen[0]
    drawn = [(w * values).sum(0) for w, values in zip(chosen, both, strict=True)]
    error = float(np.sqrt(_variance(drawn[0] - drawn[1])))
    difference = float(once[0].mean() - once[1].mean())
    total = seeds + items
    if total == 0 or error == 0:
        return TwoLevels(reason="neither other seeds nor other items would change it")
    if not np.isfinite([difference, total, error]).all():
        return TwoLevels(reason=OUT_OF_RANGE)
    share = seeds / total  # whose squares float64 holds whatever the unit
    df = 1 / (share**2 / df_seeds + (1 - share) ** 2 / (counted.worth - 1))
    half = float(stdtrit(df, 0.975)) * error
    return TwoLevels(
        difference,
        error,
        difference - half,
        difference + half,
        float(2 * stdtr(df, -abs(difference) / error)),
        df,
        float(np.sqrt(seeds)),
        float(np.sqrt(items)),
        share,
        "seeds" if share >= DOMINANT else "items" if share <= 1 - DOMINANT else "both",
        (len(once[0]), len(once[1])),
        pair.n_items,
        counted.are,
    )


def _variance_of_seeds(
    a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], shared: bool
) -> tuple[float | None, float]:
    """Return the variance of the difference over seeds and its degrees of freedom."""
    if shared and len(a) > 1:
        return float((a - b).var(ddof=1)) / len(a), len(a) - 1.0
    parts = [(float(arm.var(ddof=1)) / len(arm), len(arm) - 1) for arm in (a, b) if len(arm) > 1]
    if not parts:
        return None, 0.0
    total = sum(v for v, _ in parts)
    if not 0 < total < np.inf:
        return total, float(min(df for _, df in parts))
    return total, 1 / sum((v / total) ** 2 / df for v, df in parts)


@lru_cache(maxsize=8)
def _resamples(n: int, rng_seed: int) -> Weights:
    """Return how often each of n units is drawn, [n, rounds]; shared by all who ask."""
    rng = np.random.default_rng([rng_seed, 0])
    drawn = rng.multinomial(n - 1, np.full(n, 1 / n), size=ROUNDS)
    return np.ascontiguousarray(drawn.T, np.float64)


def _chosen(rng: np.random.Generator, n: int) -> Weights:
    """Return how much each of n seeds weighs in each round, [n, rounds]."""
    if n == 1:
        return np.ones((1, ROUNDS))
    return rng.multinomial(n - 1, np.full(n, 1 / n), size=ROUNDS).T / (n - 1)


def _variance(drawn: npt.NDArray[np.float64]) -> float:
    known = drawn[np.isfinite(drawn)]
    return float(known.var(ddof=1)) if len(known) > 1 else 0.0
