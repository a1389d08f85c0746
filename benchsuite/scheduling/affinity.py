"""The xdist scheduler: cells one by one, each preferably to the worker that holds its model.

A worker runs one item while it holds the next, so every worker has at most two: one running, one
queued. Which model a worker takes is a preference weighed by what loading another costs, not a
rule: nobody waits idle while there is work that is cheap to begin.
"""

import re
from collections import deque
from collections.abc import Sequence
from typing import Any

import pytest
from xdist.scheduler.protocol import Scheduling
from xdist.workermanage import WorkerController, parse_tx_spec_config

from benchsuite import catalog

# What a disk and a PCIe link deliver together, roughly; only ratios of load to cell time matter.
_LOAD_BYTES_PER_SECOND = 1e9
_AT_MOST_HELD = 2


class AffinityScheduling(Scheduling):
    """Hands each worker the next cell of the model it holds, or else of the best other model."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.numnodes = len(parse_tx_spec_config(config))
        self.collection: list[str] | None = None
        self._collections: dict[WorkerController, list[str]] = {}
        self._held: dict[WorkerController, list[int]] = {}
        self._model_of: dict[WorkerController, str] = {}
        self._waiting: dict[str, deque[int]] = {}
        self._seconds: dict[str, list[float]] = {}

    # --- what xdist asks

    @property
    def nodes(self) -> list[WorkerController]:
        """The workers in the game."""
        return list(self._held)

    @property
    def collection_is_completed(self) -> bool:
        """Whether every initial worker has told what it collected."""
        return self.collection is not None or len(self._collections) >= self.numnodes

    @property
    def tests_finished(self) -> bool:
        """Whether nothing waits and no worker needs a further item to run the one it holds."""
        if self.collection is None:
            return False
        return not self._any_waiting() and all(len(held) < 2 for held in self._held.values())

    @property
    def has_pending(self) -> bool:
        """Whether any item is not finished."""
        return self._any_waiting() or any(self._held.values())

    def add_node(self, node: WorkerController) -> None:
        """Take a worker in: at the start, or instead of one that crashed."""
        self._held[node] = []

    def add_node_collection(self, node: WorkerController, collection: Sequence[str]) -> None:
        """Note what a worker collected; all must have collected the same."""
        if self.collection is not None and list(collection) != self.collection:
            raise _different(node.gateway.id, self.collection, collection)
        self._collections[node] = list(collection)

    def schedule(self) -> None:
        """Begin, or let a replacement worker begin."""
        if self.collection is None:
            first, *others = self._collections.items()
            for node, collected in others:
                if collected != first[1]:
                    raise _different(node.gateway.id, first[1], collected)
            self.collection = first[1]
            for index, nodeid in enumerate(self.collection):
                self._waiting.setdefault(model_of(nodeid), deque()).append(index)
        for _ in range(_AT_MOST_HELD):
            for node in self.nodes:
                self._feed_one(node)
        self._flush()

    def mark_test_complete(
        self, node: WorkerController, item_index: int, duration: float = 0
    ) -> None:
        """Give the worker its next item."""
        assert self.collection is not None
        self._held[node].remove(item_index)
        self._seconds.setdefault(model_of(self.collection[item_index]), []).append(duration)
        self._feed_one(node)
        self._flush()

    def mark_test_pending(self, item: str) -> None:
        """Put an item back in front."""
        assert self.collection is not None
        self._waiting.setdefault(model_of(item), deque()).appendleft(self.collection.index(item))
        for node in self.nodes:
            self._feed_one(node)
        self._flush()

    def remove_node(self, node: WorkerController) -> str | None:
        """Forget a worker; return the item it died on, which is not tried again."""
        held = self._held.pop(node)
        self._model_of.pop(node, None)
        self._collections.pop(node, None)
        if not held:
            return None
        assert self.collection is not None
        crashed, *queued = held
        for index in queued:
            self._waiting.setdefault(model_of(self.collection[index]), deque()).appendleft(index)
        for other in self.nodes:
            self._feed_one(other)
        return self.collection[crashed]

    def remove_pending_tests_from_node(
        self, node: WorkerController, indices: Sequence[int]
    ) -> None:
        """Do nothing: this scheduler never takes items back from a worker."""

    # --- choosing

    def _any_waiting(self) -> bool:
        return any(self._waiting.values())

    def _feed_one(self, node: WorkerController) -> None:
        if node.shutting_down or len(self._held[node]) >= _AT_MOST_HELD:
            return
        model = self._choose(node)
        if model is None:
            return
        index = self._waiting[model].popleft()
        self._model_of[node] = model
        self._held[node].append(index)
        node.send_runtest_some([index])

    def _choose(self, node: WorkerController) -> str | None:
        """Return the model whose next cell the worker gets, or None if it is to get none."""
        mine = self._model_of.get(node)
        if mine is not None and self._waiting.get(mine):
            return mine
        waiting = [model for model, cells in self._waiting.items() if cells]
        holders = [m for other, m in self._model_of.items() if other is not node]
        free = [model for model in waiting if model not in holders]
        if free:
            return max(free, key=self._work_left)
        worth = [m for m in waiting if self._work_left(m) / (holders.count(m) + 1) > _load_cost(m)]
        return max(worth, key=self._work_left, default=None)

    def _work_left(self, model: str) -> float:
        """Return the seconds that a model's waiting cells will take, by those seen so far."""
        seen = self._seconds.get(model)
        per_cell = sum(seen) / len(seen) if seen else max(_load_cost(model), 1.0)
        return len(self._waiting[model]) * per_cell

    def _flush(self) -> None:
        """Release workers that will get nothing more: only then do they run the item they hold."""
        for node in self.nodes:
            idle = len(self._held[node]) < _AT_MOST_HELD
            if idle and not node.shutting_down and self._choose(node) is None:
                node.shutdown()


def model_of(nodeid: str) -> str:
    """Return the model of a cell's node id, its first axis; an ordinary test's is empty."""
    match = re.search(r"\[([a-z0-9_]+)-.*seed\d+\]$", nodeid)
    return match[1] if match else ""


def _load_cost(model: str) -> float:
    entry: Any = catalog.MODELS.get(model)
    return entry.weight_bytes / _LOAD_BYTES_PER_SECOND if entry else 0.0


def _different(worker: str, expected: Sequence[str], got: Sequence[str]) -> pytest.UsageError:
    odd = next((b for a, b in zip(expected, got, strict=False) if a != b), "its length")
    return pytest.UsageError(
        f"worker {worker} collected other cells than the first worker, from {odd!r} on. "
        "Parametrize from ordered lists, never from sets"
    )
