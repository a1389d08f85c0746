"""What cells of a kind take, by those that have been seen to end."""

import bisect
import functools
import re
from collections.abc import Sequence
from typing import Any

from benchsuite import catalog
from benchsuite.harness.scheduling.plan import Kind

# What a disk and a PCIe link deliver together, roughly; only ratios of load to cell time matter.
READ_BYTES_PER_SECOND = 1e9


class Times:
    """What cells take, by those seen so far."""

    def __init__(self) -> None:
        self._seen: dict[Kind, tuple[list[float], list[float]]] = {}
        self._expected: dict[Kind, float] = {}
        self._rate = 0.0

    def add(self, kind: Kind, seconds: float, usual: bool) -> None:
        """Note a finished cell; an unusual one also loaded a model or built what others share."""
        first = not self.know(kind.model)
        bisect.insort(self._seen.setdefault(kind, ([], []))[usual], seconds)
        self._rate = 0.0
        # What a new time tells most about; to guess all kinds anew would take long with hundreds.
        self._expected = {
            known: guess
            for known, guess in self._expected.items()
            if not first and kind.model != known.model and kind.method != known.method
        }

    def know(self, model: str) -> bool:
        """Say whether any cell of a model was seen."""
        return any(kind.model == model for kind in self._seen)

    def expected(self, kind: Kind) -> float:
        """Return the seconds that the next cell of a kind will take.

        The median of those seen; else what the method takes relative to another with other models;
        else the model's usual time, or what a model of its size would take.
        """
        if kind not in self._expected:
            self._expected[kind] = self._guess(kind)
        return self._expected[kind]

    def _guess(self, kind: Kind) -> float:
        if kind in self._seen:
            return self._typical(kind)
        others = [known for known in self._seen if known.model == kind.model]
        elsewhere = [known for known in self._seen if known.method == kind.method]
        related = [
            self._typical(mine) * self._typical(theirs) / self._typical(reference)
            for mine in others
            for theirs in elsewhere
            if (reference := Kind(theirs.model, mine.method)) in self._seen
        ]
        if related or others:
            return _median(related or [self._typical(mine) for mine in others])
        return _size(kind) * self._usual_rate()

    def _usual_rate(self) -> float:
        """Return the seconds for a unit of size, kept until the next cell ends."""
        if not self._rate:
            rates = [self._typical(known) / _size(known) for known in self._seen]
            self._rate = _median(rates) if rates else 1.0
        return self._rate

    def _typical(self, kind: Kind) -> float:
        unusual, usual = self._seen[kind]
        return max(usual[(len(usual) - 1) // 2] if usual else unusual[0], 1e-3)


def _median(values: Sequence[float]) -> float:
    return sorted(values)[(len(values) - 1) // 2]


def _size(kind: Kind) -> float:
    return max(weight_bytes(kind.model) / READ_BYTES_PER_SECOND, 1.0)


def model_of(nodeid: str) -> str:
    """Return the model of a cell's node id, its first axis; an ordinary test's is empty."""
    return kind_of(nodeid).model


@functools.cache
def kind_of(nodeid: str) -> Kind:
    """Return what a cell shares with those of other seeds; of an ordinary test its file."""
    match = re.search(r"([^:]*)\[([a-z0-9_]+)-(.*)seed\d+(?:-.*)?\]$", nodeid)
    return Kind(match[2], match[1] + match[3]) if match else Kind("", "")


def weight_bytes(model: str) -> int:
    """Return the bytes of a catalogued model's weights, 0 for another."""
    entry: Any = catalog.MODELS.get(model)
    return entry.weight_bytes if entry else 0
