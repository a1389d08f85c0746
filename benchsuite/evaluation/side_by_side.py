"""Batches of a text, shared out over the devices that read it.

A GPU takes about a thousand launches ahead of what it is doing. Whoever sends one more waits until
there is room. A single thread that has filled the queue of one GPU leaves the others without work,
so every GPU is sent its batches by a thread of its own.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TypeVar

import torch

from benchsuite.models.replicas import working_on

Made = TypeVar("Made")


def shared_out(
    devices: Sequence[torch.device], n_batches: int, work: Callable[[int, int], Made]
) -> Iterator[Made]:
    """Yield ``work(place, batch)`` of every batch, in their order.

    Batch i is worked on by the device at place i modulo their number, each device's in order and
    without gradients. What the work raises is raised when it is that batch's turn, and no batch is
    begun any more.
    """
    if len(devices) > 1 and devices[0].type == "cuda":
        yield from by_threads(devices, n_batches, work)
        return
    for batch in range(n_batches):
        place = batch % len(devices)
        with working_on(devices[place]), torch.no_grad():
            made = work(place, batch)
        yield made


def by_threads(
    devices: Sequence[torch.device], n_batches: int, work: Callable[[int, int], Made]
) -> Iterator[Made]:
    """Yield what `shared_out` does, each device's batches sent by a thread of its own."""

    def run(batch: int) -> Made:
        place = batch % len(devices)
        # Both are a thread's own.
        with working_on(devices[place]), torch.no_grad():
            return work(place, batch)

    with ExitStack() as stack:
        threads = [ThreadPoolExecutor(1) for _ in devices]
        for thread in threads:
            stack.callback(thread.shutdown, cancel_futures=True)
        waiting = [threads[batch % len(devices)].submit(run, batch) for batch in range(n_batches)]
        for batch in waiting:
            yield batch.result()
