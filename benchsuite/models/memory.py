"""Device memory: what is there, how much of it the pool may keep, what a cell took at its peak."""

import resource
from pathlib import Path
from types import TracebackType

import psutil
import torch

from benchsuite.models import resident

_CGROUP = Path("/sys/fs/cgroup")


def total_bytes(device: str | torch.device) -> int:
    """Return the memory of a CUDA device, or of this machine (its container's limit, if lower)."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return min(psutil.virtual_memory().total, _cgroup_limit())


def available_bytes(device: str | torch.device) -> int:
    """Return the bytes that can still be allocated on the device."""
    device = torch.device(device)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + cached
    used = _read_int(_CGROUP / "memory.current") - _page_cache()
    return min(psutil.virtual_memory().available, _cgroup_limit() - max(used, 0))


def default_budget(device: str | torch.device, *, sharers: int = 1) -> int:
    """Return the bytes that a pool may keep: 0.6 of the memory, shared by ``sharers`` processes.

    Of the device's whole memory on CUDA, of what is available now on the CPU.
    """
    device = torch.device(device)
    whole = total_bytes(device) if device.type == "cuda" else available_bytes(device)
    return int(0.6 * whole / max(sharers, 1))


class PeakMemory:
    """Measures the highest memory use inside a ``with`` block; ``bytes`` holds it afterwards.

    On CUDA the bytes of tensors on the device; on the CPU the process's resident set (the kernel's
    high-water mark, reset on entry where the kernel allows that, else of the whole process).
    """

    def __init__(self, device: str | torch.device) -> None:
        self._device = torch.device(device)
        self.bytes = 0

    def __enter__(self) -> "PeakMemory":
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            # A kernel that refuses leaves the mark of the whole process.
            resident.lower_mark()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self._device)
        else:
            whole = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            self.bytes = resident.peak_bytes() or whole


def _cgroup_limit() -> int:
    return _read_int(_CGROUP / "memory.max", default=1 << 62)


def _page_cache() -> int:
    """Return the container's file pages: counted as used by its cgroup, given up on demand."""
    try:
        lines = (_CGROUP / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("file ")), 0)


def _read_int(file: Path, default: int = 0) -> int:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return default
