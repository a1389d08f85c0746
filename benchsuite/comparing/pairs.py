"""One metric's values by item, a base beside a candidate: what every comparison is judged from."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PairedItems:
    """One metric's values by item, base beside candidate.

    ``metric`` is ``nll`` (nats per token, by chunk; its difference is the log-ratio of
    perplexities), ``kl`` (nats per token by chunk, base is 0), ``accuracy:NAME`` (0 or 1 a
    question), ``f1:NAME`` and the like. ``ids`` name the items, ``base`` and ``candidate`` are
    float64 [n]; ``clusters`` (str [n] or None) names the groups of items that belong together.
    """

    metric: str
    ids: tuple[str, ...]
    base: np.ndarray
    candidate: np.ndarray
    clusters: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        n = len(self.ids)
        clusters = n if self.clusters is None else len(self.clusters)
        if self.base.shape != (n,) or self.candidate.shape != (n,) or clusters != n:
            raise ValueError(
                f"{self.metric}: {n} ids, base {self.base.shape}, candidate "
                f"{self.candidate.shape}, {clusters} clusters"
            )
