"""Batches of a text, shared out over the devices that read it.

A GPU takes about a thousand launches ahead of what it is doing. Whoever sends one more waits until
there is room. A single thread that has filled the queue of one GPU leaves the others without work,
so every GPU is sent its batches by a thread of its own. These threads stay for the next evaluation:
PyTorch keeps the plans of cuDNN's attention for each thread, and a new one makes all of them again.
"""

import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import TypeVar

import torch

from benchsuite.models.replicas import working_on

Made = TypeVar("Made")


def shared_out(
    devices: Sequence[torch.device], n_batches: int, work: Callable[[int, int], Made]
) -> Iterator[Made]:
    """Yield ``work(place, batch)`` of every batch, in their order.

    On several GPUs each takes the next batch when it begins with its last one, so that one that
    starts late has fewer; on a CPU they take turns. Nothing has gradients. What the work raises is
    raised when it is that batch's turn, and no batch is begun any more.
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
    waiting = deque(range(n_batches))
    made: list[Future[Made]] = [Future() for _ in waiting]

    def send(place: int) -> None:
        device = devices[place]
        last_sent: Callable[[], object] = _nothing
        for batch in _taken(waiting):
            try:
                # Both are a thread's own.
                with working_on(device), torch.no_grad():
                    value = work(place, batch)
                before, last_sent = last_sent, _end_of_what_was_sent(device)
                before()
                made[batch].set_result(value)
            except BaseException as error:
                waiting.clear()
                made[batch].set_exception(error)

    senders = [_sender(place) for place in range(len(devices))]
    sending: list[Future[None]] = []
    try:
        for place, sender in enumerate(senders):
            sending.append(sender.submit(send, place))
        for batch in made:
            yield batch.result()
    finally:
        waiting.clear()
        wait(sending)
        for place, sender in enumerate(senders):
            _IDLE[place].append(sender)


_IDLE: defaultdict[int, list[ThreadPoolExecutor]] = defaultdict(list)
"""Threads that stay, by the place of the device that they sent batches to."""
os.register_at_fork(after_in_child=_IDLE.clear)  # no thread follows into a fork


def _sender(place: int) -> ThreadPoolExecutor:
    """Return a thread that no evaluation has now: it must not wait for another's batches."""
    try:
        return _IDLE[place].pop()
    except IndexError:
        return ThreadPoolExecutor(1, f"batches of device {place}")


def _taken(waiting: deque[int]) -> Iterator[int]:
    """Yield batches from the front for as long as there are any; several threads may take them."""
    with suppress(IndexError):
        while True:
            yield waiting.popleft()


def _end_of_what_was_sent(device: torch.device) -> Callable[[], object]:
    """Return how to wait until a device has done what it was sent so far."""
    if device.type != "cuda":
        return _nothing
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(device))
    return event.synchronize


def _nothing() -> None:
    pass
