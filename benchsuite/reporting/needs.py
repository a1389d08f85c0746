"""How many seeds a comparison needs: from its margin and the scatter of the seeds seen so far."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.special import chdtri

from benchsuite.records.record import Record
from benchsuite.statistics.inference.sequential import Plan, nominal_levels
from benchsuite.statistics.margins import absolute
from benchsuite.statistics.power import (
    equivalence_margin,
    fewest_seeds,
    minimum_detectable_effect,
    seeds_needed,
)
from benchsuite.statistics.rounding import of_difference, short
from benchsuite.statistics.samples import as_sample, variance_of
from benchsuite.study import Claim, Metric, Study

MOST = 1000
"""Seeds beyond which no number is told."""


@dataclass(frozen=True)
class Scatter:
    """The standard deviation of a comparison's seeds: the estimate and its 95 % interval.

    ``values`` counts the numbers it comes from, ``level`` is the second arm's mean, ``paired`` says
    that it is of differences or of one arm against a constant, and not of either arm.
    """

    std: float
    low: float
    high: float
    values: int
    level: float
    paired: bool


@dataclass(frozen=True)
class Need:
    """The seeds an arm that a claim needs, ``None`` where that cannot be told, and why.

    ``low`` and ``high`` belong to the ends of the standard deviation's interval.
    """

    because: str
    seeds: int | None = None
    low: int | None = None
    high: int | None = None


def need(
    study: Study,
    claim: Claim,
    scatter: Scatter | None,
    looks: Plan,
    *,
    alpha: float,
    family: int,
    power: float,
) -> Need:
    """Return how many seeds a comparison needs beside the others of its ``family``.

    It is to find a difference of its margin (or to confirm that there is none, for an equivalence)
    with ``power``, at alpha over ``family``: the level that Holm leaves to the first test.
    ``looks`` are the seeds of the plan.
    """
    if claim.over_items:
        return Need("the items decide, not the seeds")
    metric, n = study.metric(claim.metric), looks.looks[-1]
    paired = scatter.paired if scatter is not None else _one_scatter(study, claim)
    equal = claim.kind == "equivalent"
    level = _last_level(looks, alpha / family, equal, joint=not paired)
    smallest = equivalence_margin if equal else minimum_detectable_effect

    def reach(seeds: int) -> float:
        return smallest(seeds, paired=paired, welch=not paired, power=power, alpha=level)

    margin = _margin(claim, metric, scatter)
    if scatter is None or margin is None:
        return _without_scatter(claim, metric, margin, n, reach(n))

    def of(std: float) -> int | None:
        if equal:
            return fewest_seeds(lambda seeds: reach(seeds) * std <= margin, MOST)
        return seeds_needed(
            margin / std, paired=paired, welch=not paired, power=power, alpha=level, most=MOST
        )

    size, told = shown(metric, scatter.std), _margin_told(claim, metric)
    known = f"margin {told}, standard deviation {size} of {scatter.values} values"
    if scatter.std == 0:
        return Need(f"{known}, which did not vary: no number can be told")
    low, seeds, high = of(scatter.low), of(scatter.std), of(scatter.high)
    ends = " to ".join(shown(metric, end) for end in (scatter.low, scatter.high))
    text = f"{known} (95 % interval {ends})"
    if seeds is None:
        text += f": more than {MOST} seeds"
    return Need(text, seeds, low, high)


def _without_scatter(
    claim: Claim, metric: Metric, margin: float | None, planned: int, found: float
) -> Need:
    """Return what the planned seeds can do where no standard deviation is known.

    ``found`` is the margin or difference that they reach, in standard deviations.
    """
    verb = "confirm a margin" if claim.kind == "equivalent" else "find a difference"
    share = f"1/{short(found)} of the margin"
    most = share if margin is None else shown(metric, margin / found)
    return Need(
        f"margin {_margin_told(claim, metric)}, and no standard deviation is known or assumed: the "
        f"{planned} planned seeds {verb} of {short(found)} of their standard deviations, enough if "
        f"that is at most {most}"
    )


def _last_level(looks: Plan, alpha: float, one_sided: bool, *, joint: bool) -> float:
    """Return the level of the last look alone; what earlier looks find comes on top."""
    if len(looks.looks) == 1:
        return alpha
    sides = 1 if one_sided else 2
    levels = nominal_levels(
        looks.fractions, alpha=alpha, spending=looks.spending, sides=sides, joint=joint
    )
    return levels[-1]


def shown(metric: Metric, size: float) -> str:
    """Return a size of a metric, as stored, in the unit that is shown."""
    return of_difference(metric, short(size * metric.scale))


def _margin_told(claim: Claim, metric: Metric) -> str:
    """Return the margin in words: the claim's own, or the metric's."""
    if claim.kind == "equivalent":
        return shown(metric, claim.limit or 0.0)
    if metric.margin.endswith("%"):  # else it would look like points of a metric in percent
        return f"{metric.margin.removesuffix('%').strip()} % of {claim.other}'s"
    return of_difference(metric, metric.margin)


def _margin(claim: Claim, metric: Metric, scatter: Scatter | None) -> float | None:
    """Return the margin of the metric as stored; None of a relative one before there is a mean."""
    if claim.kind == "equivalent":
        return claim.limit
    if scatter is None and metric.margin.endswith("%"):
        return None
    return absolute(metric.margin, scatter.level if scatter is not None else 1.0, metric.scale)


def _one_scatter(study: Study, claim: Claim) -> bool:
    """Say whether one standard deviation decides: of differences, or of one arm of the two."""
    once = {claim.method, claim.other} & set(study.once)
    return claim.by_seed or len(once) == 1


def scatter_of(
    study: Study, claim: Claim, arms: Mapping[str, Mapping[int, Record]]
) -> Scatter | None:
    """Return the scatter of a claim's seeds on one model; None of too few.

    ``arms`` maps method to seed -> record. Independent arms are pooled.
    """
    first, second = (_values(arms.get(m or "", {}), claim.metric) for m in _methods(claim))
    if not first or not second:
        return None
    level = sum(second.values()) / len(second)
    if claim.by_seed and not {claim.method, claim.other} & set(study.once):
        both = sorted(set(first) & set(second))
        return _scatter([[first[s] - second[s] for s in both]], level, paired=True)
    samples = [list(values.values()) for values in (first, second)]
    still = [len(s) < 2 or len(set(s)) == 1 for s in samples]
    if any(still) and not all(still):
        return _scatter([s for s, k in zip(samples, still, strict=True) if not k], level, True)
    return _scatter(samples, level, paired=_one_scatter(study, claim))


def _methods(claim: Claim) -> Sequence[str | None]:
    return claim.method, claim.other


def _values(records: Mapping[int, Record], metric: str) -> dict[int, float]:
    found: dict[int, Any] = {seed: r.value(metric) for seed, r in records.items()}
    numbers = {s: float(v) for s, v in found.items() if isinstance(v, int | float)}
    return {seed: value for seed, value in numbers.items() if math.isfinite(value)}


def _scatter(samples: Sequence[Sequence[float]], level: float, paired: bool) -> Scatter | None:
    df = sum(len(sample) - 1 for sample in samples)
    if df < 1:
        return None
    arms = [as_sample(sample) for sample in samples if len(sample) > 1]
    squares = sum((len(arm) - 1) * variance_of(arm) for arm in arms)
    low, high = (math.sqrt(squares / chdtri(df, tail)) for tail in (0.025, 0.975))
    values = sum(map(len, samples))
    return Scatter(math.sqrt(squares / df), low, high, values, level, paired)
