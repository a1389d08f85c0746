"""Calibration samples in lanes: what one of several devices works through by itself.

The samples are cut into a fixed number of contiguous lanes. A statistic is summed up lane by lane,
and the lanes' sums are merged pairwise in a fixed order. Which device has which lanes changes
nothing of that, so that any number of devices of one kind gives the same bits.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

LANES = {"cpu": 1, "cuda": 8}
"""Lanes by the kind of device: as many as devices can share the work."""


class Statistic(Protocol):
    """What a method accumulates over the inputs of one group of linears."""

    def update(self, inputs: Tensor) -> None:
        """Take in inputs [tokens, features] of the model's dtype."""

    def merge(self, later: Any) -> None:
        """Take in what another one was given of later tokens, from whatever device it is on."""

    def to(self, device: torch.device) -> Any:
        """Return the same statistic on another device."""


Kept = TypeVar("Kept", bound=Statistic)


def lane_sizes(n_samples: int, n_lanes: int) -> list[int]:
    """Return how many samples each lane has; of few samples there are as few lanes."""
    edges = [lane * n_samples // n_lanes for lane in range(n_lanes + 1)]
    return [end - start for start, end in pairwise(edges) if end > start]


def places_of(n_lanes: int, n_places: int) -> list[int]:
    """Return which of the devices each lane goes to: contiguous shares, as equal as they can be."""
    return [lane * n_places // n_lanes for lane in range(n_lanes)]


def alternating(places: Sequence[int]) -> list[int]:
    """Return the lanes in the order to launch them: one for each device, then the next for each."""
    turn = [places[:lane].count(place) for lane, place in enumerate(places)]
    return sorted(range(len(places)), key=lambda lane: (turn[lane], lane))


class Merging(Generic[Kept]):
    """Merges the statistics of lanes pairwise: (0, 1), (2, 3), then ((0, 1), (2, 3)), and so on.

    Lanes come in any order. What two lanes on one device have is merged when both are there, so
    that one device holds log2(lanes) + 1 statistics at most. An odd last one waits for the next
    round.
    """

    def __init__(self, n_lanes: int) -> None:
        self._n = n_lanes
        self._waiting: dict[tuple[int, int], tuple[Kept, torch.device]] = {}

    def add(self, lane: int, statistic: Kept, device: torch.device) -> None:
        """Take a lane's statistic, which is on ``device``."""
        self._settle(0, lane, (statistic, device), None)

    def merged(self, target: torch.device) -> Kept:
        """Return the statistic of all lanes, on ``target``."""
        pending = sorted(self._waiting.items(), key=lambda item: item[0])
        self._waiting.clear()
        for (level, index), held in pending:
            self._settle(level, index, held, target)
        ((statistic, device),) = self._waiting.values()
        return statistic if device == target else statistic.to(target)

    def _settle(
        self,
        level: int,
        index: int,
        held: tuple[Kept, torch.device],
        target: torch.device | None,
    ) -> None:
        while (count := -(-self._n >> level)) > 1:
            if index ^ 1 < count:
                sibling = self._waiting.get((level, index ^ 1))
                if sibling is None or (target is None and sibling[1] != held[1]):
                    self._waiting[level, index] = held
                    return
                del self._waiting[level, index ^ 1]
                held = _merge(*((sibling, held) if index % 2 else (held, sibling)), target)
            level, index = level + 1, index // 2
        self._waiting[level, 0] = held


def _merge(
    first: tuple[Kept, torch.device],
    later: tuple[Kept, torch.device],
    target: torch.device | None,
) -> tuple[Kept, torch.device]:
    """Merge two neighbours: on the target if one of them is there, else where the first one is."""
    statistic, device = first
    if device != target and later[1] == target:
        statistic, device = statistic.to(later[1]), later[1]
    statistic.merge(later[0])
    return statistic, device
