"""How much worse the candidate is over the items, and the tests of that against a margin."""

from dataclasses import dataclass

import numpy as np

from benchsuite.comparing.kinds import kind_of, shown_name
from benchsuite.comparing.pairs import PairedItems
from benchsuite.errors import BenchsuiteError
from benchsuite.statistics import paired_means as means
from benchsuite.statistics import paired_shares as shares


@dataclass(frozen=True)
class Loss:
    """The loss over paired items, in the stored unit: nats or a share, more is worse.

    Right and wrong answers that are independent are counted: ``counts`` are the questions, those
    that the base alone has right and those that the candidate alone has. All else is ``means``.
    """

    mean: float
    counts: tuple[int, int, int] | None
    means: means.Differences

    @property
    def test(self) -> str:
        """The name of the test that decides."""
        if self.counts:
            return "exact paired proportions"
        if self.means.few:
            return "exact, differences rounded"
        return "paired t"

    def not_worse(self, edge: float) -> float:
        """Return the p-value of "the loss is the edge or more"."""
        if self.counts:
            return shares.p_below(*self.counts, edge)
        return means.mean_below(self.means, edge)

    def worse(self, edge: float) -> float:
        """Return the p-value of "the loss is the edge or less"."""
        if self.counts:
            return shares.p_above(*self.counts, edge)
        return means.mean_above(self.means, edge)

    def interval(self, alpha: float) -> tuple[float, float]:
        """Return the edges that neither test rejects at ``alpha``."""
        if self.counts:
            return shares.loss_interval(*self.counts, alpha)
        return means.mean_interval(self.means, alpha)

    def needed(self, edge: float, assumed: float, alpha: float, power: float) -> int | None:
        """Return the items that decide, if the true loss is ``assumed``; None if none do.

        The share that differs, or the scatter, is taken from the items that are here.
        """
        sign = 1 if assumed < edge else -1
        if self.counts:
            n, lost, gained = self.counts
            return shares.items_needed(
                sign * edge,
                loss=sign * assumed,
                # Half a question more: that none has differed does not say that none will.
                differing=(lost + gained + 0.5) / (n + 1),
                alpha=alpha,
                power=power,
            )
        found = self.means
        if sign < 0:
            found = means.Differences(-found.sums, found.sizes, found.bounded)
        return means.mean_items_needed(
            found, sign * edge, mean=sign * assumed, alpha=alpha, power=power
        )


def loss_of(items: PairedItems) -> Loss:
    """Return the loss of one metric's paired items.

    Raises ``BenchsuiteError`` where there are no items, and for values that are not finite or no
    shares.
    """
    kind, name = kind_of(items.metric), shown_name(items.metric)
    both = np.concatenate([items.base, items.candidate])
    if not len(items.ids):
        raise BenchsuiteError(
            f"{name}: no item was measured under both",
            fix="compare results of the same questions: their ids have to be equal",
        )
    if not np.isfinite(both).all():
        bad = [
            i
            for i, a, b in zip(items.ids, items.base, items.candidate, strict=True)
            if not np.isfinite(a + b)
        ]
        raise BenchsuiteError(
            f"{name}: {len(bad)} of {len(items.ids)} items are not finite, the first is {bad[0]}",
            fix="leave them out on both sides, or find out why they are",
        )
    if kind.bounded and not ((both >= 0) & (both <= 1)).all():
        raise BenchsuiteError(
            f"{name}: values from {both.min():g} to {both.max():g} are no shares",
            fix="give right answers as 1 and wrong ones as 0, and scores from 0 to 1",
        )
    off = items.candidate - items.base if kind.lower else items.base - items.candidate
    binary = kind.bounded and bool(np.isin(both, (0.0, 1.0)).all())
    counts = None
    if binary and items.clusters is None:
        counts = len(off), int((off > 0).sum()), int((off < 0).sum())
    return Loss(
        float(off.mean()), counts, means.differences(off, items.clusters, bounded=kind.bounded)
    )
