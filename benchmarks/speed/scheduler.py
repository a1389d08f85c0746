"""What the scheduler costs a cell: processor time of one worker's next item, by kinds and workers.

    python benchmarks/speed/scheduler.py

Drives the scheduler as xdist does, with workers that only note what they get, over whole runs of
five seeds a kind. No catalogued model: what a cell takes is drawn, from 1 to 60 s by model.
Bar: 8 ms a cell at 400 kinds.
"""

import datetime
import platform
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchsuite.harness.scheduling.times import model_of
from tests.harness.scheduling.clock import started

BAR_MS, SEEDS = 8.0, 5
SHAPES = ((20, 10), (40, 10), (10, 40), (100, 10))
WORKERS = (2, 8, 16)


def cost(models: int, methods: int, n_workers: int) -> list[float]:
    """Return the milliseconds of each decision, sorted, over a run of all cells."""
    cells = [
        f"b.py::t[m{i:03}-x{j}-seed{s}]"
        for i in range(models)
        for j in range(methods)
        for s in range(SEEDS)
    ]
    seconds = {f"m{i:03}": random.Random(i).uniform(1, 60) for i in range(models)}
    scheduler, workers = started(cells, n_workers)
    spent, draw = [], random.Random(0)
    while scheduler.has_pending:
        worker = draw.choice([worker for worker in workers if worker.can_run()])
        index = worker.queue.pop(0)
        took = seconds[model_of(cells[index])] * draw.uniform(0.9, 1.1)
        began = time.process_time()
        scheduler.mark_test_complete(worker, index, took)
        spent.append(1e3 * (time.process_time() - began))
    return sorted(spent)


def main() -> None:
    """Print the table."""
    print(f"{platform.machine()}, Python {platform.python_version()}, {datetime.date.today()}")
    print(
        f"{'kinds':>16}{'workers':>9}{'cells':>7}{'mean':>8}{'median':>8}{'longest':>9}  ms a cell"
    )
    for models, methods in SHAPES:
        for n_workers in WORKERS:
            spent = cost(models, methods, n_workers)
            kinds = f"{models} x {methods}"
            mean = sum(spent) / len(spent)
            print(
                f"{kinds:>16}{n_workers:9}{len(spent):7}"
                f"{mean:8.2f}{spent[len(spent) // 2]:8.2f}{spent[-1]:9.1f}",
                flush=True,
            )
    print(f"bar: {BAR_MS:.0f} ms a cell at 400 kinds")


if __name__ == "__main__":
    main()
