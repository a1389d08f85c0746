"""Seconds by stage, on CPU and CUDA."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class StageClock:
    """Seconds by stage; on CUDA from events, so that measuring does not make the host wait.

    Devices that work side by side are timed each by itself, and a stage's time is that of the
    device that spent most on it.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seconds: dict[torch.device, dict[str, float]] = {}
        self._events: list[tuple[str, torch.device, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def measure(self, stage: str, device: torch.device | None = None) -> Iterator[None]:
        """Add the time spent inside the ``with`` block to ``stage``; ``device`` if not its own."""
        device = device or self._device
        if device.type == "cuda":
            with torch.cuda.device(device):
                start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                # Asked for by device: to find the current one PyTorch counts all GPUs, .2 ms.
                start.record(torch.cuda.current_stream(device))
                yield
                end.record(torch.cuda.current_stream(device))
            self._events.append((stage, device, start, end))
        else:
            began = time.perf_counter()
            yield
            self._add(stage, device, time.perf_counter() - began)

    def _add(self, stage: str, device: torch.device, seconds: float) -> None:
        of_device = self._seconds.setdefault(device, {})
        of_device[stage] = of_device.get(stage, 0.0) + seconds

    def by_device(self) -> list[dict[str, float]]:
        """Return every device's seconds by stage so far (waits for the devices)."""
        for device in {device for _, device, _, _ in self._events}:
            torch.cuda.synchronize(device)
        for stage, device, start, end in self._events:
            self._add(stage, device, start.elapsed_time(end) / 1000)
        self._events.clear()
        return [dict(of_device) for of_device in self._seconds.values()]

    def seconds(self) -> dict[str, float]:
        """Return the seconds of every stage so far (waits for the devices)."""
        return longest(self.by_device())


def longest(by_device: list[dict[str, float]]) -> dict[str, float]:
    """Return every stage's time on the device that spent most on it."""
    stages = dict.fromkeys(stage for of_device in by_device for stage in of_device)
    return {stage: max(of.get(stage, 0.0) for of in by_device) for stage in stages}
