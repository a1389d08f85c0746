"""How an evaluation went on each GPU: when its weights were there, its first batch, its last."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest.mock import patch

import torch

from benchsuite.evaluation import divergence, perplexity, side_by_side
from benchsuite.models.replicas import Replica


class Moment:
    """When a device has done what it was sent so far, or the host's time where it is no GPU."""

    def __init__(self, device: torch.device) -> None:
        self.host, self.event = time.perf_counter(), None
        if device.type == "cuda":
            self.event = torch.cuda.Event(enable_timing=True)
            self.event.record(torch.cuda.current_stream(device))

    def since(self, start: "Moment") -> float:
        """Return the seconds from ``start`` on the same device; both must be over."""
        if self.event is None or start.event is None:
            return self.host - start.host
        return start.event.elapsed_time(self.event) / 1000


class Course:
    """What one evaluation does on which device and when."""

    def __init__(self, devices: Sequence[str]) -> None:
        self.devices = [torch.device(device) for device in devices]
        self._began: list[Moment] = []
        self._arrived: dict[torch.device, Moment] = {}
        self._ended: dict[int, list[Moment]] = defaultdict(list)
        self._sent: dict[int, float] = {}
        self._shared = 0.0

    def of(self, run: Callable[[], Any]) -> Any:
        """Return what one evaluation returns, watched; what it launches stays what it is."""
        self._began = [Moment(device) for device in self.devices]
        shared_out, arrive = side_by_side.shared_out, Replica.arrive

        def watched_shared_out(
            devices: Sequence[torch.device], n_batches: int, work: Callable[[int, int], Any]
        ) -> Iterator[Any]:
            def watched_work(place: int, batch: int) -> Any:
                made = work(place, batch)
                self._ended[place].append(Moment(devices[place]))
                self._sent.setdefault(place, time.perf_counter())
                return made

            self._shared = time.perf_counter()
            return shared_out(devices, n_batches, watched_work)

        def watched_arrive(replica: Replica) -> None:
            arrive(replica)
            self._arrived[replica.device] = Moment(replica.device)

        with (
            patch.object(perplexity, "shared_out", watched_shared_out),
            patch.object(divergence, "shared_out", watched_shared_out),
            patch.object(Replica, "arrive", watched_arrive),
        ):
            return run()

    def told(self, seconds: float) -> str:
        """Return a line for all and one for each device, in seconds since the beginning."""
        ends = {
            place: [moment.since(self._began[place]) for moment in moments]
            for place, moments in sorted(self._ended.items())
        }
        last = max(times[-1] for times in ends.values())
        lines = [
            f"{'':8}batches begin at {self._shared - self._began[0].host:.3f}, the last ends at "
            f"{last:.3f}, values are here at {seconds:.3f}"
        ]
        for place, times in ends.items():
            device = self.devices[place]
            arrived = self._arrived.get(device) if place else None
            there = (
                ""
                if arrived is None
                else f"weights sent by {arrived.host - self._began[0].host:.3f}, "
                f"there {arrived.since(self._began[place]):.3f}, "
            )
            further = (times[-1] - times[0]) / max(1, len(times) - 1)
            lines.append(
                f"{'':10}{device} {len(times):3} batches: {there}first sent by "
                f"{self._sent[place] - self._began[0].host:.3f}, ends {times[0]:.3f}, "
                f"a further one {further:.3f}, idle at the end {last - times[-1]:.3f}"
            )
        return "\n".join(lines)
