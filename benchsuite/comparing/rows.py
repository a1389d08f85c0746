"""A comparison as the rows of one table, each number beside its floor and its margin."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchsuite.comparing.kinds import kind_of, margin_of
from benchsuite.comparing.loss import loss_of
from benchsuite.comparing.measured import Paired
from benchsuite.comparing.pairs import PairedItems
from benchsuite.comparing.spread import interval_of
from benchsuite.comparing.verdict import MetricVerdict

SHARES = {
    "same_top": "same top token",
    "next_token": "next token right",
}
"""What is shown without a margin -> its name."""


@dataclass(frozen=True)
class Row:
    """One metric: values as they are shown, ``difference`` = candidate - base in ``unit``.

    ``low`` and ``high`` bound it at 95 %, None where that has no answer, as where nothing scatters.
    ``floor`` is a difference of the base from itself, in the same unit: the KL, the share of
    changed predictions or answers, or the farther end of the 95 % interval of the perplexities'
    difference.
    ``margin`` is as declared, empty for a metric that is not judged; ``verdict`` is then None.
    """

    label: str
    unit: str
    base: float
    candidate: float
    difference: float
    low: float | None
    high: float | None
    floor: float | None
    margin: str
    n_items: int
    verdict: MetricVerdict | None


def rows_of(pair: Paired, margins: dict[str, str]) -> list[Row]:
    """Return a candidate's rows: those that are judged, and beside them the shares that are not."""
    judged = [
        _judged(items, verdict, pair.floor.get(items.metric), margins)
        for items, verdict in zip(pair.items, pair.verdict.metrics, strict=True)
    ]
    text = [row for row in judged if row.label in ("perplexity", "kl")]
    asked = [row for row in judged if row.label not in ("perplexity", "kl")]
    return [*text, *(_share(items, pair.floor.get(items.metric)) for items in pair.shares), *asked]


def _judged(
    items: PairedItems,
    verdict: MetricVerdict,
    floor: PairedItems | None,
    margins: dict[str, str],
) -> Row:
    kind = kind_of(items.metric)
    shown = _in_percent if items.metric == "nll" else _times(kind.scale)
    loss = loss_of(items)
    low, high = loss.interval(0.025)
    sign = 1
    if not kind.lower:  # a loss of 1 point is a difference of -1
        low, high, sign = -high, -low, -1
    margin = margin_of(items.metric, margins)
    unit = "point" if (margin, kind.unit) == ("1", "points") else kind.unit
    return Row(
        verdict.metric,
        kind.unit,
        verdict.base,
        verdict.candidate,
        shown(sign * loss.mean),
        shown(low),
        shown(high),
        None if floor is None else _floor(floor),
        margin if margin.endswith("%") else f"{margin} {unit}",
        len(items.ids),
        verdict,
    )


def _share(items: PairedItems, floor: PairedItems | None) -> Row:
    low, high = interval_of(items)
    scale = _times(100)
    return Row(
        SHARES[items.metric],
        "points",
        scale(float(items.base.mean())),
        scale(float(items.candidate.mean())),
        scale(float((items.candidate - items.base).mean())),
        # Of two shares: t may reach beyond what a difference of them can be.
        None if low is None else scale(max(low, -1.0)),
        None if high is None else scale(min(high, 1.0)),
        None if floor is None else _floor(floor),
        "",
        len(items.ids),
        None,
    )


def _floor(items: PairedItems) -> float:
    """Return how far the base is from itself, as ``Row.floor`` says."""
    off = items.candidate - items.base
    if items.metric == "kl":
        return float(off.mean())
    if items.metric == "same_top" or items.metric.partition(":")[0] in ("accuracy", "f1"):
        return 100 * float(np.abs(off).mean())
    ends = [abs(end) for end in (*interval_of(items), float(off.mean())) if end is not None]
    return 100 * math.expm1(max(ends)) if items.metric == "nll" else 100 * max(ends)


def _in_percent(nats: float) -> float:
    return 100 * math.expm1(nats)


def _times(scale: float) -> Callable[[float], float]:
    return lambda value: scale * value
