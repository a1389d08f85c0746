"""Which GPU a process uses: one each, taken by lock, so that a replacement gets the freed one.

The locks are this user's on this machine, not a session's or a reports folder's: two sessions at
once do not take one GPU while another is free. Nobody waits for a lock: of more processes than
GPUs the surplus share, each the GPU with the fewest users, and their timings are marked as
contended. The kernel frees a lock when its process dies, however it dies.
"""

import itertools
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import filelock

from benchsuite.records import environment
from benchsuite.records.environment import Device

_VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass
class TakenGpu:
    """The GPU that this process uses until `release`; CUDA sees no other.

    ``rank`` is 0 for the first process on it, ``of`` the number of GPUs that there were to take.
    """

    gpu: Device
    rank: int
    of: int
    _folder: Path
    _lock: filelock.FileLock
    _visible_before: str | None

    def shared(self) -> bool:
        """Say whether other processes have taken the same GPU."""
        if self.rank:
            return True
        for rank in itertools.count(1):
            if not _slot(self._folder, self.gpu, rank).exists():
                return False
            lock = _try_lock(self._folder, self.gpu, rank)
            if lock is None:
                return True
            lock.release()
        raise AssertionError("unreachable")

    def release(self) -> None:
        """Leave the GPU to others and the environment as it was."""
        self._lock.release()
        if self._visible_before is None:
            os.environ.pop(_VISIBLE, None)
        else:
            os.environ[_VISIBLE] = self._visible_before


def lock_folder() -> Path:
    """Return where the locks of this machine's GPUs are."""
    return Path(tempfile.gettempdir()) / f"benchsuite-{os.getuid()}" / "gpus"


def take_gpu(folder: Path | None = None) -> TakenGpu | None:
    """Take the visible GPU with the fewest users for this process and hide the others from CUDA.

    Returns None where there is no GPU. Must come before CUDA starts in this process.
    """
    gpus = environment.gpus()
    if not gpus:
        return None
    folder = folder or lock_folder()
    folder.mkdir(parents=True, exist_ok=True)
    for rank in itertools.count():
        for gpu in gpus:
            lock = _try_lock(folder, gpu, rank)
            if lock is not None:
                before = os.environ.get(_VISIBLE)
                os.environ[_VISIBLE] = gpu.uuid
                return TakenGpu(gpu, rank, len(gpus), folder, lock, before)
    raise AssertionError("unreachable")


def _slot(folder: Path, gpu: Device, rank: int) -> Path:
    return folder / f"{gpu.uuid}.{rank}.lock"


def _try_lock(folder: Path, gpu: Device, rank: int) -> filelock.FileLock | None:
    lock = filelock.FileLock(_slot(folder, gpu, rank))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return None
    return lock
