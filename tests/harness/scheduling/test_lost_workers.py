"""The scheduler against workers that are lost and replaced while the clock goes on."""

import random

import pytest

from benchsuite.harness.scheduling.affinity import AffinityScheduling
from tests.harness.scheduling.clock import Worker, config_of

MOST_LOST = 6


class Session:
    """What xdist does with a scheduler, in a random order of events."""

    def __init__(self, seed):
        self.draw = random.Random(seed)
        self.now, self.look = 0.0, self.draw.choice([0.0, 0.001, 0.02, 0.2])
        self.cells = [
            f"b.py::t[{model}-{method}-seed{number}]"
            for model in "abcd"[: self.draw.randint(1, 4)]
            for method in "xyz"[: self.draw.randint(1, 3)]
            for number in range(self.draw.randint(1, 6))
        ]
        self.scheduler = AffinityScheduling(config_of(self.draw.randint(1, 5)), clock=self.clock)
        self.workers = [self.worker() for _ in range(self.scheduler.numnodes)]
        self.starting, self.collecting = [], []
        self.ran, self.lost = [], []
        for worker in self.workers:
            self.scheduler.add_node(worker)
        for worker in self.workers:
            self.scheduler.add_node_collection(worker, self.cells)
        self.scheduler.schedule()

    def clock(self):
        self.now += self.look * self.draw.random()
        return self.now

    def worker(self):
        return Worker("gw")

    def run(self):
        while self.scheduler.has_pending:
            self.replace()
            for worker in [w for w in self.workers if w.shutting_down and not w.queue]:
                self.workers.remove(worker)
                self.scheduler.remove_node(worker)
            able = [worker for worker in self.workers if worker.can_run()]
            coming = self.starting or self.collecting
            assert able or coming or not self.scheduler.has_pending, "nobody can run what is left"
            if able:
                self.run_one(self.draw.choice(able))

    def replace(self):
        """Let a replacement go on: from its start to its collection, or die before that."""
        if self.collecting and self.draw.random() < 0.4:
            worker = self.collecting.pop()
            if worker.shutting_down or self.draw.random() < 0.1:
                assert self.scheduler.remove_node(worker) is None
                if not worker.shutting_down:
                    self.starting.append(self.worker())
            else:
                self.scheduler.add_node_collection(worker, self.cells)
                self.scheduler.schedule()
                self.workers.append(worker)
        if self.starting and self.draw.random() < 0.4:
            self.collecting.append(self.starting.pop())
            self.scheduler.add_node(self.collecting[-1])

    def run_one(self, worker):
        """Let a worker finish its item, or die on it."""
        self.now += self.draw.uniform(0.5, 2)
        nodeid = self.cells[worker.queue[0]]
        if len(self.lost) < MOST_LOST and self.draw.random() < 0.08:
            self.workers.remove(worker)
            assert self.scheduler.remove_node(worker) == nodeid
            self.lost.append(nodeid)
            self.starting.append(self.worker())
        else:
            self.ran.append(nodeid)
            index = worker.queue.pop(0)
            self.scheduler.mark_test_complete(worker, index, self.draw.uniform(0.5, 2))


@pytest.mark.parametrize("seed", range(100))
def test_every_cell_runs_once_or_is_lost_with_its_worker(seed):
    session = Session(seed)
    session.run()
    assert sorted(session.ran + session.lost) == sorted(session.cells)
