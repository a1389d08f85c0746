"""How the KL of two models is spread: over chunks, over tokens, over the base's confidence."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.special import stdtrit

from benchsuite.comparing.measure import Tokens
from benchsuite.comparing.pairs import PairedItems
from benchsuite.statistics.paired_means import Differences, differences
from benchsuite.statistics.pairing import LEAST_WORTH

CONFIDENCE = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
"""Edges of the bins of the base's highest probability."""


@dataclass(frozen=True)
class Bin:
    """Predictions whose highest probability under the base is in [low, high): how many, how far.

    ``kl`` is their mean in nats and ``same`` the share of them that both models predict alike; None
    where there is no such prediction.
    """

    low: float
    high: float
    n: int
    kl: float | None
    same: float | None


@dataclass(frozen=True)
class Spread:
    """The KL in nats per token: its mean, with a t-interval over chunks (or clusters of them).

    ``low`` and ``high`` are None for one chunk. The quantiles and ``largest`` are over tokens.
    """

    mean: float
    low: float | None
    high: float | None
    median: float
    p90: float
    p99: float
    largest: float
    bins: tuple[Bin, ...]


def kl_spread(tokens: Tokens, items: PairedItems) -> Spread:
    """Return the spread of ``tokens``' KL; ``items`` are its chunks, in clusters or not."""
    values = tokens.kl.ravel()
    low, high = interval_of(items)
    median, p90, p99 = np.quantile(values, [0.5, 0.9, 0.99])
    return Spread(
        float(values.mean()),
        low,
        high,
        float(median),
        float(p90),
        float(p99),
        float(values.max()),
        tuple(_bins(tokens)),
    )


def differences_of(items: PairedItems) -> Differences:
    """Return the differences candidate - base, by item or summed by cluster."""
    return differences(items.candidate - items.base, items.clusters, bounded=False)


def interval_of(items: PairedItems) -> tuple[float | None, float | None]:
    """Return the 95 % t-interval of the mean difference over items; None for one item or cluster,
    or where one holds nearly all.

    None too where all differ alike: predictions that did not change here may change in other text.
    Clusters of many items weigh more, as they do in the mean: the interval of the clusters' own
    means would be another number's wherever they are not of one size.
    """
    found = differences_of(items)
    if found.freedom + 1 < LEAST_WORTH or not found.error:
        return None, None
    half = float(stdtrit(found.freedom, 0.975)) * found.error
    return found.mean - half, found.mean + half


def _bins(tokens: Tokens) -> list[Bin]:
    found = []
    place = np.digitize(tokens.top, CONFIDENCE[1:-1])
    for i, (low, high) in enumerate(pairwise(CONFIDENCE)):
        inside = place == i
        n = int(inside.sum())
        kl = float(tokens.kl[inside].mean()) if n else None
        same = float(tokens.same[inside].mean()) if n else None
        found.append(Bin(low, high, n, kl, same))
    return found
