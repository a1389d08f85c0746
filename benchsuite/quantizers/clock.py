"""Seconds by stage, on CPU and CUDA."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class StageClock:
    """Seconds by stage; on CUDA from events, so that measuring does not make the host wait."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._seconds: dict[str, float] = {}
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time spent inside the ``with`` block to ``stage``."""
        if self._cuda:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            yield
            end.record()
            self._events.append((stage, start, end))
        else:
            began = time.perf_counter()
            yield
            self._add(stage, time.perf_counter() - began)

    def _add(self, stage: str, seconds: float) -> None:
        self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds

    def seconds(self) -> dict[str, float]:
        """Return the seconds of every stage so far (waits for the device)."""
        if self._events:
            torch.cuda.synchronize()
        for stage, start, end in self._events:
            self._add(stage, start.elapsed_time(end) / 1000)
        self._events.clear()
        return dict(self._seconds)
