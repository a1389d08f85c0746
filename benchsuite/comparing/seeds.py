"""Several candidates of one recipe are seeds: a verdict on the recipe, for other seeds too.

A metric's loss is then the mean over seeds. Its variance is that over seeds, divided by their
number, and that over items of the seeds' mean, divided by theirs; degrees of freedom by
Satterthwaite (1946). A few seeds say little of others: with two there is one degree of freedom.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy.special import stdtr, stdtrit

from benchsuite.comparing.kinds import kind_of, shown_name
from benchsuite.comparing.measured import Paired
from benchsuite.comparing.pairs import PairedItems
from benchsuite.comparing.spread import differences_of
from benchsuite.comparing.verdict import measured, outcomes_of, overall
from benchsuite.errors import UsageError

SIDES = ("base", "candidate")


@dataclass(frozen=True)
class OverSeeds:
    """One metric over seeds, as it is shown: the loss (positive is worse), its interval at 95 %.

    ``seeds`` are the losses of the candidates, ``margin`` what matters, all in ``unit``.
    """

    metric: str
    unit: str
    loss: float
    low: float
    high: float
    margin: float
    seeds: tuple[float, ...]
    outcome: str


def over_seeds(
    pairs: Sequence[Paired], *, margins: Mapping[str, str], alpha: float
) -> tuple[str, list[OverSeeds]]:
    """Return the verdict over the metrics that all candidates have of the same items, and each.

    Raises ``UsageError`` where two candidates agree in every item: they are one model, and seeds
    that do not differ would make an interval of no width.
    """
    named = [{items.metric: items for items in pair.items} for pair in pairs]
    for one, other in combinations(range(len(pairs)), 2):
        if _agree(named[one], named[other]):
            raise UsageError(
                f"candidates {one + 1} and {other + 1} agree in every item, bit for bit: they are "
                "no two seeds of a recipe",
                fix="Give quantizations made with different seeds, or leave out --seeds",
            )
    metrics = [name for name in named[0] if len({_ids(each.get(name)) for each in named}) == 1]
    found, p_values = [], []
    for metric in metrics:
        items = [each[metric] for each in named]
        losses = [measured(one, margins)[0].mean for one in items]
        edge = measured(items[0], margins)[1]
        mean, error, freedom = _joined(losses, items)
        p_values.append(_p_values(mean, error, freedom, edge))
        half = float(stdtrit(freedom, 0.975)) * error
        ends = (mean - half, mean + half)
        found.append((metric, losses, mean, ends, edge))
    outcomes = outcomes_of(p_values, alpha)
    told = []
    for (metric, losses, mean, (low, high), edge), outcome in zip(found, outcomes, strict=True):
        seeds = tuple(_shown(metric, loss) for loss in losses)
        loss, below, above, margin = (_shown(metric, value) for value in (mean, low, high, edge))
        name, unit = shown_name(metric), kind_of(metric).unit
        told.append(OverSeeds(name, unit, loss, below, above, margin, seeds, outcome))
    return overall(outcomes), told


def _agree(one: Mapping[str, PairedItems], other: Mapping[str, PairedItems]) -> bool:
    return one.keys() == other.keys() and all(
        np.array_equal(items.candidate, other[name].candidate) for name, items in one.items()
    )


def _ids(items: PairedItems | None) -> tuple[str, ...] | None:
    return None if items is None else items.ids


def _joined(losses: Sequence[float], items: Sequence[PairedItems]) -> tuple[float, float, float]:
    """Return the mean loss, its standard error, and the error's degrees of freedom.

    ``items`` are those of the candidates, all of the same ids.
    """
    k = len(losses)
    base, candidate = (np.mean([getattr(one, side) for one in items], axis=0) for side in SIDES)
    over = differences_of(replace(items[0], base=base, candidate=candidate))
    n = len(over.sums)
    of_seeds = float(np.var(losses, ddof=1)) / k
    of_items = over.error**2
    both = of_seeds + of_items
    if both == 0:
        return float(np.mean(losses)), 0.0, float(k - 1)
    freedom = both**2 / (of_seeds**2 / (k - 1) + of_items**2 / max(n - 1, 1))
    return float(np.mean(losses)), math.sqrt(both), freedom


def _p_values(mean: float, error: float, freedom: float, edge: float) -> tuple[float, float]:
    """Return the p-values of "the loss is the edge or more" and of "it is the edge or less"."""
    if error == 0:
        return float(mean >= edge), float(mean <= edge)
    below = float(stdtr(freedom, (mean - edge) / error))
    return below, 1 - below


def _shown(metric: str, loss: float) -> float:
    return 100 * math.expm1(loss) if metric == "nll" else kind_of(metric).scale * loss
