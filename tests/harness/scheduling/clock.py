"""The scheduler against a clock: workers that take time, and wait for what another builds."""

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

from benchsuite.harness.scheduling.affinity import AffinityScheduling
from benchsuite.harness.scheduling.times import model_of


def config_of(n_workers: int) -> SimpleNamespace:
    """Return what the scheduler asks of pytest's configuration."""
    tx = [f"{n_workers}*popen"]
    return SimpleNamespace(option=SimpleNamespace(tx=tx), getvalue=lambda name: tx)


@dataclass(eq=False)
class Worker:
    """A worker as xdist's are: it runs an item only while it holds the next, or is let go."""

    name: str
    queue: list[int] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)
    waited: float = 0.0
    free_at: float = 0.0
    model: str = ""
    busy: bool = False
    shutting_down: bool = False

    @property
    def gateway(self):
        return SimpleNamespace(id=self.name)

    def send_runtest_some(self, indices):
        assert not self.shutting_down, "an item was sent to a worker that is shutting down"
        self.queue += indices

    def shutdown(self):
        self.shutting_down = True

    def can_run(self):
        released = len(self.queue) >= 2 or (self.queue and self.shutting_down)
        return not self.busy and released


def started(
    collection: Sequence[str], n_workers: int, **options
) -> tuple[AffinityScheduling, list[Worker]]:
    """Return a scheduler whose workers have collected, their first items sent, and the workers."""
    scheduler = AffinityScheduling(config_of(n_workers), **options)
    workers = [Worker(f"gw{i}") for i in range(n_workers)]
    for worker in workers:
        scheduler.add_node(worker)
    for worker in workers:
        scheduler.add_node_collection(worker, collection)
    scheduler.schedule()
    return scheduler, workers


def simulate(
    collection: Sequence[str],
    n_workers: int,
    seconds: Callable[[str], float],
    *,
    load: Callable[[str], float] = lambda model: 0.0,
    needs: Callable[[str], Iterable[tuple[str, float]]] = lambda nodeid: (),
    start_up: float = 0.0,
    look: float = 0.0,
    **options,
) -> list[Worker]:
    """Return the workers after all cells ran.

    ``seconds(nodeid)`` is a cell's own time; ``load(model)`` what a worker pays that comes to a
    model, ``start_up`` before its first cell. ``needs(nodeid)`` names what several cells share and
    what building it takes: the first cell that comes to it builds it, others wait. ``look`` is what
    the scheduler's clock goes on by while it is read.
    """
    now = looked = 0.0

    def clock() -> float:
        nonlocal looked
        looked += look
        return now + looked

    scheduler, workers = started(collection, n_workers, clock=clock, **options)
    built: dict[str, float] = {}
    ends: list[tuple[float, int, float]] = []

    def begin(number: int, worker: Worker) -> None:
        nodeid, at = collection[worker.queue[0]], now
        if not worker.ran:
            at += start_up
        if worker.model != model_of(nodeid):
            worker.model = model_of(nodeid)
            at += load(worker.model)
        for name, cost in needs(nodeid):
            worker.waited += max(0.0, built.get(name, at) - at)
            at = built[name] = max(at, built.get(name, at + cost))
        worker.busy = True
        heapq.heappush(ends, (at + seconds(nodeid), number, now))

    while scheduler.has_pending:
        for number, worker in enumerate(workers):
            if worker.can_run():
                begin(number, worker)
        assert ends, "work is left and nobody can run"
        now, number, began = heapq.heappop(ends)
        worker = workers[number]
        index = worker.queue.pop(0)
        worker.ran.append(collection[index])
        worker.busy, worker.free_at = False, now
        scheduler.mark_test_complete(worker, index, now - began)
    return workers
