"""The xdist scheduler: cells one by one, each preferably to the worker that holds its model.

A worker runs one item while it holds the next, so every worker has at most two: one running, one
queued. Whenever one is finished, all cells that wait are shared out anew over the workers by what
they are expected to take (`plan`), and the worker gets one of its share. So a
model is a preference, weighed by what loading another costs, and no long cell is left for the end.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence

import pytest
from xdist.scheduler.protocol import Scheduling
from xdist.workermanage import WorkerController, parse_tx_spec_config

from benchsuite.harness.scheduling.plan import Kind, Share, Waiting, share_out
from benchsuite.harness.scheduling.times import READ_BYTES_PER_SECOND, Times, kind_of, weight_bytes

# Random weights, drawn where they are needed.
DRAWN_BYTES_PER_SECOND = 1e10
_AT_MOST_HELD = 2


class AffinityScheduling(Scheduling):
    """Hands each worker the next cell of its share: of the model that it holds first.

    Models are loaded at ``load_rate`` bytes per second. ``cached(nodeid)`` says whether a finished
    item was a cell that had not to run, so that its time tells nothing of others.
    """

    def __init__(
        self,
        config: pytest.Config,
        load_rate: float = READ_BYTES_PER_SECOND,
        cached: Callable[[str], bool] = lambda nodeid: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config, self._load_rate, self._cached, self._clock = config, load_rate, cached, clock
        self.numnodes = len(parse_tx_spec_config(config))
        self.collection: list[str] | None = None
        self._collections: dict[WorkerController, list[str]] = {}
        self._held: dict[WorkerController, list[int]] = {}
        self._model_of: dict[WorkerController, str] = {}
        self._ran: dict[WorkerController, str] = {}
        self._since: dict[WorkerController, float] = {}
        self._waiting: dict[Kind, deque[int]] = {}
        self._times = Times()
        self._tried: set[Kind] = set()
        self._begun: set[str] = set()
        self._finished: set[str] = set()

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
                self._waiting.setdefault(kind_of(nodeid), deque()).append(index)
        for node in filter(self._has_room, self.nodes):
            self._feed_one(node)  # each its first, before any gets a second
        self._feed_or_release()

    def mark_test_complete(
        self, node: WorkerController, item_index: int, duration: float = 0
    ) -> None:
        """Give the worker its next item."""
        assert self.collection is not None
        self._held[node].remove(item_index)
        self._since[node] = self._clock()
        nodeid = self.collection[item_index]
        kind = kind_of(nodeid)
        if not self._cached(nodeid):
            usual = self._ran.get(node) == kind.model and kind.method in self._finished
            self._times.add(kind, duration, usual)
            self._ran[node] = kind.model
        self._finished.add(kind.method)
        self._feed_or_release()

    def mark_test_pending(self, item: str) -> None:
        """Put an item back in front."""
        assert self.collection is not None
        self._put_back(self.collection.index(item))
        self._feed_or_release()

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
            self._put_back(index)
        self._feed_or_release()
        return self.collection[crashed]

    def remove_pending_tests_from_node(
        self, node: WorkerController, indices: Sequence[int]
    ) -> None:
        """Do nothing: this scheduler never takes items back from a worker."""

    # --- choosing

    def _any_waiting(self) -> bool:
        return any(self._waiting.values())

    def _put_back(self, index: int) -> None:
        assert self.collection is not None
        self._waiting.setdefault(kind_of(self.collection[index]), deque()).appendleft(index)

    def _feed_or_release(self) -> None:
        """Fill up every worker, or let it go: only then does it run the item that it holds.

        One choice decides which. Asked twice, it could change with the clock in between, and a
        worker that is neither given an item nor let go waits for ever.
        """
        for node in self.nodes:
            while self._has_room(node):
                if not self._feed_one(node):
                    node.shutdown()

    def _has_room(self, node: WorkerController) -> bool:
        """Whether a worker that has told what it collected can take an item."""
        ready = node in self._collections and not node.shutting_down
        return ready and len(self._held[node]) < _AT_MOST_HELD

    def _feed_one(self, node: WorkerController) -> bool:
        """Give a worker its next cell, if there is one for it; say whether there was."""
        kind = self._choose(node)
        if kind is None:
            return False
        index = self._waiting[kind].popleft()
        self._model_of[node] = kind.model
        self._tried.add(kind)
        self._begun.add(kind.method)
        if not self._held[node]:
            self._since[node] = self._clock()
        self._held[node].append(index)
        node.send_runtest_some([index])
        return True

    def _choose(self, node: WorkerController) -> Kind | None:
        """Return the kind whose next cell the worker gets, or None if it is to get none."""
        share = self._share_of(node)
        if not share:
            return None
        mine = self._model_of.get(node)
        if any(kind.model == mine for kind in share):
            model = mine
        else:
            model = max(share, key=self._times.expected).model
        kinds = [kind for kind, cells in self._waiting.items() if cells and kind.model == model]
        return min(kinds, key=lambda kind: self._rank(kind, share))

    def _share_of(self, node: WorkerController) -> Share:
        """Return what the worker is to get of all that waits, by what is known now."""
        waiting = [
            Waiting(k, len(c), self._times.expected(k)) for k, c in self._waiting.items() if c
        ]
        if not waiting:
            return {}
        free = [some for some in waiting if some.kind.model not in self._model_of.values()]
        if node not in self._model_of and free:
            return self._largest(free)
        workers = [worker for worker in self.nodes if not worker.shutting_down]
        until_free = [self._seconds_until_free(worker) for worker in workers]
        holds = [self._model_of.get(worker) for worker in workers]
        share = share_out(until_free, holds, waiting, self._load)[workers.index(node)]
        if not share and not all(self._times.know(some.kind.model) for some in waiting):
            return self._largest(waiting)  # A worker let go does not come back: not on a guess.
        return share

    def _largest(self, waiting: Sequence[Waiting]) -> Share:
        """Return what waits of the model with the most work left."""
        work: dict[str, float] = {}
        for kind, n, seconds in waiting:
            work[kind.model] = work.get(kind.model, 0.0) + n * seconds
        largest = max(work, key=lambda model: work[model])
        return {kind: n for kind, n, _ in waiting if kind.model == largest}

    def _rank(self, kind: Kind, share: Share) -> tuple[float, ...]:
        """Order the kinds of one model: what others wait for first, what is waited for last.

        The first cell of a method builds what all its cells share, while others that need it can
        only wait; so it begins early, and alone. Kinds not tried yet come next, for the plan to
        know what they take, then the longest.
        """
        if kind.method not in self._begun:
            return (0.0,)
        if kind.method not in self._finished:
            return (3.0,)
        if kind not in self._tried:
            return (1.0,)
        return 2.0, kind not in share, -self._times.expected(kind)

    def _load(self, model: str) -> float:
        return weight_bytes(model) / self._load_rate

    def _seconds_until_free(self, node: WorkerController) -> float:
        assert self.collection is not None
        held = [self._times.expected(kind_of(self.collection[i])) for i in self._held[node]]
        if not held:
            return 0.0
        running, *queued = held
        return max(0.0, running - (self._clock() - self._since[node])) + sum(queued)


def _different(worker: str, expected: Sequence[str], got: Sequence[str]) -> pytest.UsageError:
    odd = next((b for a, b in zip(expected, got, strict=False) if a != b), "its length")
    return pytest.UsageError(
        f"worker {worker} collected other cells than the first worker, from {odd!r} on. "
        "Parametrize from ordered lists, never from sets"
    )
