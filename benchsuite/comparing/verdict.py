"""Not worse, worse, or undecided: the verdict on each metric, and on all of them.

Each metric has two one-sided tests of its loss against its margin, at level alpha:

- *not worse*: "the loss is the margin or more" is rejected;
- *worse*: "the loss is the margin or less" is rejected;
- *undecided*: neither is; then the items are stated that would decide.

Over several metrics the candidate is *worse* if any metric is: those p-values are corrected by
Holm, so that one false alarm among them all has probability alpha at most. It is *not worse* if
every metric is not worse: an intersection-union test, which needs no correction (Berger 1982).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchsuite.comparing.kinds import edge_of, kind_of, margin_of, shown_name
from benchsuite.comparing.loss import Loss, loss_of
from benchsuite.comparing.pairs import PairedItems
from benchsuite.errors import UsageError
from benchsuite.statistics import holm, mcnemar

NOT_WORSE, WORSE, UNDECIDED = "not_worse", "worse", "undecided"
CORRECTION = (
    "worse if any metric is, corrected by Holm over the metrics; "
    "not worse if all are, which needs no correction"
)


@dataclass(frozen=True)
class MetricVerdict:
    """One metric's verdict; the numbers are as they are shown.

    ``base`` and ``candidate`` are the two values: perplexities, percents, or nats. ``loss``, its
    interval ``low`` to ``high`` at level 1 - 2 alpha, and ``margin`` are in ``unit``. ``p_worse``
    is before Holm's correction, ``p_worse_corrected`` after it. ``items_needed`` decide at the
    asked power if the true loss is the one seen, ``items_if_equal`` if there is none; None where
    no number of items does. ``lost`` and ``gained`` are the questions that the base, or the
    candidate, alone has right, ``mcnemar_p`` is that they are as many.
    """

    metric: str
    outcome: str
    test: str
    n_items: int
    n_clusters: int | None
    base: float
    candidate: float
    loss: float
    low: float
    high: float
    margin: float
    unit: str
    p_not_worse: float
    p_worse: float
    p_worse_corrected: float
    items_needed: int | None
    items_if_equal: int | None
    lost: int | None = None
    gained: int | None = None
    mcnemar_p: float | None = None


@dataclass(frozen=True)
class Verdict:
    """The verdict over all metrics; ``looks`` says how often the items were looked at."""

    outcome: str
    metrics: tuple[MetricVerdict, ...]
    alpha: float
    power: float
    looks: int = 1
    correction: str = CORRECTION

    @property
    def items_needed(self) -> int | None:
        """The items a metric that decide every open metric, if each loss is the one seen."""
        needed = [m.items_needed for m in self.metrics if m.outcome == UNDECIDED]
        return None if None in needed or not needed else max(n for n in needed if n)


@dataclass(frozen=True)
class Evidence:
    """One metric's two p-values, and what they are made of.

    ``level`` is the level of the interval, ``last_level`` that of the last look that is planned:
    both alpha where the items are looked at once.
    """

    items: PairedItems
    loss: Loss
    edge: float
    p_not_worse: float
    p_worse: float
    level: float
    last_level: float


def judge(
    items: Sequence[PairedItems],
    *,
    margins: Mapping[str, str] | None = None,
    alpha: float = 0.05,
    power: float = 0.9,
) -> Verdict:
    """Return the verdict on items that are looked at once; ``margins`` by metric or kind."""
    check_levels(alpha, power)
    found = []
    for one in items:
        loss, edge = measured(one, margins or {})
        found.append(
            Evidence(one, loss, edge, loss.not_worse(edge), loss.worse(edge), alpha, alpha)
        )
    return decide(found, alpha=alpha, power=power)


def check_levels(alpha: float, power: float) -> None:
    """Refuse levels at which there is no test."""
    if not 0.0001 <= alpha < 0.5:
        raise UsageError(f"alpha is {alpha:g}", fix="write a level from 0.0001 to 0.5: 0.05")
    if not 0.5 <= power < 1:
        raise UsageError(f"the power is {power:g}", fix="write one from 0.5 to below 1: 0.9")


def measured(items: PairedItems, margins: Mapping[str, str]) -> tuple[Loss, float]:
    """Return the loss over the items and its margin, both in the stored unit."""
    loss = loss_of(items)
    declared = margin_of(items.metric, margins)
    return loss, edge_of(items.metric, declared, float(items.base.mean()))


def decide(found: Sequence[Evidence], *, alpha: float, power: float, looks: int = 1) -> Verdict:
    """Return the verdict that the metrics' p-values give together.

    Raises ``UsageError`` without a metric.
    """
    if not found:
        raise UsageError(
            "no metric was measured under both", fix="compare results of the same task"
        )
    outcomes = outcomes_of([(f.p_not_worse, f.p_worse) for f in found], alpha)
    corrected = holm([f.p_worse for f in found])
    verdicts = tuple(
        _described(f, outcome, float(p or 0.0), power, len(found))
        for f, outcome, p in zip(found, outcomes, corrected, strict=True)
    )
    return Verdict(overall(outcomes), verdicts, alpha, power, looks)


def outcomes_of(p_values: Sequence[tuple[float, float]], alpha: float) -> list[str]:
    """Return each metric's outcome of its p-values (not worse, worse)."""
    corrected = holm([worse for _, worse in p_values])
    return [
        WORSE if p is not None and p <= alpha else NOT_WORSE if not_worse <= alpha else UNDECIDED
        for (not_worse, _), p in zip(p_values, corrected, strict=True)
    ]


def overall(outcomes: Sequence[str]) -> str:
    """Return the outcome over all metrics."""
    if WORSE in outcomes:
        return WORSE
    return NOT_WORSE if set(outcomes) == {NOT_WORSE} else UNDECIDED


def _described(
    found: Evidence, outcome: str, corrected: float, power: float, family: int
) -> MetricVerdict:
    items, loss, edge = found.items, found.loss, found.edge
    needed = if_equal = None
    if outcome == UNDECIDED:
        # Holm leaves the smallest p-value of "worse" alpha over the number of metrics.
        level = found.last_level / (1 if loss.mean < edge else family)
        needed = loss.needed(edge, loss.mean, level, power) if loss.mean != edge else None
        needed = max(needed, len(items.ids) + 1) if needed else None
        if_equal = loss.needed(edge, 0.0, found.last_level, power)
    low, high = loss.interval(found.level)
    lost, gained, p = _mcnemar(items, loss)
    return MetricVerdict(
        metric=shown_name(items.metric),
        outcome=outcome,
        test=loss.test,
        n_items=len(items.ids),
        n_clusters=None if items.clusters is None else len(loss.means.sums),
        base=_value(items.metric, items.base),
        candidate=_value(items.metric, items.candidate),
        loss=_shown(items.metric, loss.mean),
        low=_shown(items.metric, low),
        high=_shown(items.metric, high),
        margin=_shown(items.metric, edge),
        unit=kind_of(items.metric).unit,
        p_not_worse=found.p_not_worse,
        p_worse=found.p_worse,
        p_worse_corrected=corrected,
        items_needed=needed,
        items_if_equal=if_equal,
        lost=lost,
        gained=gained,
        mcnemar_p=p,
    )


def _mcnemar(items: PairedItems, loss: Loss) -> tuple[int | None, int | None, float | None]:
    if not loss.counts:
        return None, None, None
    return loss.counts[1], loss.counts[2], mcnemar(items.base == 1, items.candidate == 1).p_value


def _value(metric: str, values: np.ndarray) -> float:
    """Return the value over items as it is shown: a perplexity of nats, a percent of a share."""
    mean = float(values.mean())
    kind = kind_of(metric)
    return float(np.exp(mean)) if kind.label == "perplexity" else mean * kind.scale


def _shown(metric: str, loss: float) -> float:
    """Return a loss in its unit: nats per token become a percentage of the perplexity."""
    kind = kind_of(metric)
    return kind.scale * (float(np.expm1(loss)) if kind.label == "perplexity" else loss)
