"""Judging while the items come in: clear cases end early, at the same promise.

The looks are planned before the first one: after a fifth of the items, two fifths, and so on. Each
test spends its alpha over them (Lan and DeMets 1983, O'Brien and Fleming's type: little at first),
so that a false verdict at any look has probability alpha at most. What has been decided stays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from benchsuite.comparing.kinds import shown_name
from benchsuite.comparing.loss import Loss
from benchsuite.comparing.pairs import PairedItems
from benchsuite.comparing.verdict import (
    UNDECIDED,
    Evidence,
    Verdict,
    check_levels,
    decide,
    measured,
    outcomes_of,
    overall,
)
from benchsuite.statistics.inference.sequential import nominal_levels, sequential_p

SPENDING = "obrien_fleming"
LOOKS = 5


def last_level(alpha: float) -> float:
    """Return the level of a one-sided test at the last of `LOOKS` evenly planned looks."""
    return _levels(tuple((i + 1) / LOOKS for i in range(LOOKS)), alpha)[-1]


def batches(items: PairedItems, looks: int = LOOKS) -> list[PairedItems]:
    """Return the items in as many batches, drawn at random: a first batch stands for them all.

    Items of one cluster stay together.
    """
    units = np.asarray(items.ids if items.clusters is None else items.clusters)
    names, unit = np.unique(units, return_inverse=True)
    place = np.random.default_rng(0).permutation(len(names))[unit]
    cut = [
        np.flatnonzero((place * looks) // len(names) == look)
        for look in range(min(looks, len(names)))
    ]
    return [chosen(items, rows) for rows in cut if len(rows)]


def chosen(items: PairedItems, rows: np.ndarray) -> PairedItems:
    """Return some of the items, by their places."""
    clusters = items.clusters
    return replace(
        items,
        ids=tuple(items.ids[i] for i in rows),
        base=items.base[rows],
        candidate=items.candidate[rows],
        clusters=None if clusters is None else tuple(clusters[i] for i in rows),
    )


def joined(first: PairedItems, second: PairedItems) -> PairedItems:
    """Return the items of both, which are of one metric and have no item in common.

    Raises ``ValueError`` otherwise.
    """
    twice = set(first.ids) & set(second.ids)
    if (
        first.metric != second.metric
        or twice
        or (first.clusters is None) != (second.clusters is None)
    ):
        raise ValueError(f"{first.metric} and {second.metric} with {len(twice)} items in common")
    clusters = None
    if first.clusters is not None and second.clusters is not None:
        clusters = first.clusters + second.clusters
    return PairedItems(
        first.metric,
        first.ids + second.ids,
        np.concatenate([first.base, second.base]),
        np.concatenate([first.candidate, second.candidate]),
        clusters,
    )


@dataclass
class _Course:
    """One metric so far: its items, the share of them at each look, and the p-values there."""

    items: PairedItems
    loss: Loss
    edge: float
    fractions: list[float] = field(default_factory=list)
    not_worse: list[float | None] = field(default_factory=list)
    worse: list[float | None] = field(default_factory=list)
    p_values: tuple[float, float] = (1.0, 1.0)

    def look(self) -> None:
        """Test what is here; ``p_values`` are those over the looks so far (not worse, worse)."""
        self.not_worse.append(self.loss.not_worse(self.edge))
        self.worse.append(self.loss.worse(self.edge))
        self.p_values = self._over_looks(self.not_worse), self._over_looks(self.worse)

    def _over_looks(self, p_values: list[float | None]) -> float:
        if self.fractions == [1.0] and p_values[0] is not None:
            return p_values[0]
        found = sequential_p(p_values, tuple(self.fractions), spending=SPENDING, sides=1)
        return min(p for p in found if p is not None)


class EarlyEnd:
    """A judge that is fed batches of items and says when enough is known.

    ``planned`` is the number of items of each metric, by its name, when all are in. A metric may
    come whole in its first batch, or piece by piece; a metric that is not worse already takes no
    further items, which would only cost. Over several metrics nothing else changes: the p-value
    over the looks is the least alpha at which one of them would have decided, and is corrected by
    Holm like any other.
    """

    def __init__(
        self,
        planned: Mapping[str, int],
        *,
        margins: Mapping[str, str] | None = None,
        alpha: float = 0.05,
        power: float = 0.9,
    ) -> None:
        check_levels(alpha, power)
        self.planned = dict(planned)
        self.margins = dict(margins or {})
        self.alpha, self.power = alpha, power
        self.looks = 0
        self._courses: dict[str, _Course] = {}

    def feed(self, batch: Sequence[PairedItems]) -> str:
        """Take the next items of some metrics, look once, and return the outcome so far.

        Go on while it is ``undecided`` and items are left.
        """
        open_ = self.open
        self.looks += 1
        for items in batch:
            if items.metric in open_ and items.ids:
                self._look(items)
        return self.outcome

    @property
    def outcome(self) -> str:
        """The outcome so far; a metric without items is undecided."""
        return overall(list(self._outcomes().values()))

    @property
    def items(self) -> tuple[PairedItems, ...]:
        """What has been fed, by metric."""
        return tuple(course.items for course in self._courses.values())

    @property
    def open(self) -> set[str]:
        """The metrics that more items could decide."""
        return {metric for metric, outcome in self._outcomes().items() if outcome == UNDECIDED}

    def verdict(self) -> Verdict:
        """Return the verdict on what has been fed; metrics without items are left out of it."""
        found = []
        for course in self._courses.values():
            not_worse, worse = course.p_values
            fractions = tuple(course.fractions)
            level = _levels(fractions, self.alpha)[-1]
            last = self.alpha if fractions == (1.0,) else last_level(self.alpha)
            found.append(
                Evidence(course.items, course.loss, course.edge, not_worse, worse, level, last)
            )
        decided = decide(found, alpha=self.alpha, power=self.power, looks=self.looks)
        return replace(decided, outcome=self.outcome)

    def _outcomes(self) -> dict[str, str]:
        begun = {metric: course.p_values for metric, course in self._courses.items()}
        # Holm's family is what was planned, whether it has begun or not.
        p_values = [begun.get(metric, (1.0, 1.0)) for metric in self.planned]
        return dict(zip(self.planned, outcomes_of(p_values, self.alpha), strict=True))

    def _look(self, items: PairedItems) -> None:
        before = self._courses.get(items.metric)
        whole = joined(before.items, items) if before else items
        planned = self.planned[items.metric]
        if len(whole.ids) > planned:
            raise ValueError(
                f"{shown_name(items.metric)}: {len(whole.ids)} items, planned {planned}"
            )
        loss, edge = measured(whole, self.margins)
        course = before or _Course(whole, loss, edge)
        course.items, course.loss, course.edge = whole, loss, edge
        course.fractions.append(len(whole.ids) / planned)
        course.look()
        self._courses[items.metric] = course


def _levels(fractions: tuple[float, ...], alpha: float) -> tuple[float, ...]:
    if fractions == (1.0,):
        return (alpha,)
    return nominal_levels(fractions, alpha=alpha, spending=SPENDING, sides=1)
