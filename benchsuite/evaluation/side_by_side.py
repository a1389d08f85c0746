"""Batches of a text, shared out over the devices that read it.

A GPU takes about a thousand launches ahead of what it is doing. Whoever sends one more waits until
there is room. A single thread that has filled the queue of one GPU leaves the others without work,
so every GPU is sent its batches by a thread of its own. Which GPU reads a batch changes no value,
so each takes the next one when it has nothing else to do: one that comes late reads fewer.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import TypeVar

import torch

from benchsuite.models.replicas import working_on

Made = TypeVar("Made")


def shared_out(
    devices: Sequence[torch.device], n_batches: int, work: Callable[[int, int], Made]
) -> Iterator[Made]:
    """Yield ``work(place, batch)`` of every batch, in their order.

    Each batch is worked on, without gradients, by the device at ``place`` among ``devices``. What
    the work raises is raised when it is that batch's turn, and no batch is begun any more.
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
    """Yield what `shared_out` does: each device has a thread, which takes batch after batch."""
    made = [Future[Made]() for _ in range(n_batches)]
    left, taking = iter(range(n_batches)), threading.Lock()

    def take() -> int | None:
        with taking:
            return next(left, None)

    def stop() -> None:
        nonlocal left
        with taking:
            left = iter(range(0))

    def serve(place: int) -> None:
        ahead = _Ahead(devices[place])
        # Both are a thread's own.
        with working_on(devices[place]), torch.no_grad():
            while (batch := take()) is not None:
                try:
                    made[batch].set_result(work(place, batch))
                except BaseException as error:  # its reader's, whatever it is
                    stop()
                    made[batch].set_exception(error)
                else:
                    # Of the last ones each device takes one when it is free: none has two to do
                    # while another has nothing.
                    ahead.wait(0 if n_batches - batch <= 2 * len(devices) else 1)

    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(len(devices)))
        stack.callback(stop)
        serving = [threads.submit(serve, place) for place in range(len(devices))]
        for batch in made:
            yield batch.result()
        for thread in serving:
            thread.result()


class _Ahead:
    """How many batches a device has been sent that it has not done."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sent: deque[torch.cuda.Event] = deque()

    def wait(self, most: int) -> None:
        """Count one more as sent, and wait until the device has no more than ``most`` to do."""
        if self._device.type == "cuda":
            self._sent.append(torch.cuda.current_stream(self._device).record_event())
            while len(self._sent) > most:
                self._sent.popleft().synchronize()
