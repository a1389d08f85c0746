"""Which GPUs a process uses, taken by lock, so that a replacement gets those that were freed.

The locks are this user's on this machine, not a session's or a reports folder's: two sessions at
once do not take one GPU while another is free. Nobody waits for a lock: of more processes than
GPUs the surplus share, each those with the fewest users, and their timings are marked as
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
class _Slot:
    """One process' place on a GPU: ``rank`` is 0 for the first process on it."""

    gpu: Device
    rank: int
    lock: filelock.FileLock

    def shared(self, folder: Path) -> bool:
        """Say whether other processes have taken the same GPU."""
        if self.rank:
            return True
        for rank in itertools.count(1):
            if not _file(folder, self.gpu, rank).exists():
                return False
            lock = _try_lock(folder, self.gpu, rank)
            if lock is None:
                return True
            lock.release()
        raise AssertionError("unreachable")


@dataclass
class TakenGpus:
    """The GPUs that this process uses until `release`; CUDA sees no others.

    ``of`` is the number of processes that can have as many for themselves.
    """

    of: int
    _slots: tuple[_Slot, ...]
    _folder: Path
    _visible_before: str | None

    @property
    def gpus(self) -> tuple[Device, ...]:
        """The GPUs in the order in which CUDA numbers them here."""
        return tuple(slot.gpu for slot in self._slots)

    def shared(self) -> bool:
        """Say whether other processes have taken one of the GPUs."""
        return any(slot.shared(self._folder) for slot in self._slots)

    def release(self) -> None:
        """Leave the GPUs to others and the environment as it was."""
        for slot in self._slots:
            slot.lock.release()
        if self._visible_before is None:
            os.environ.pop(_VISIBLE, None)
        else:
            os.environ[_VISIBLE] = self._visible_before


def lock_folder() -> Path:
    """Return where the locks of this machine's GPUs are."""
    return Path(tempfile.gettempdir()) / f"benchsuite-{os.getuid()}" / "gpus"


def take_gpus(count: int = 1) -> TakenGpus | None:
    """Take the ``count`` visible GPUs with the fewest users and hide the others from CUDA.

    Several are of one model. Returns None where there are not as many. Must come before CUDA starts
    in this process.
    """
    gpus = environment.gpus_for(count)
    if len(gpus) < count:
        return None
    folder = lock_folder()
    folder.mkdir(parents=True, exist_ok=True)
    taken: dict[Device, _Slot] = {}
    for rank in itertools.count():
        for gpu in gpus:
            lock = None if gpu in taken else _try_lock(folder, gpu, rank)
            if lock is None:
                continue
            taken[gpu] = _Slot(gpu, rank, lock)
            if len(taken) == count:
                before = os.environ.get(_VISIBLE)
                os.environ[_VISIBLE] = ",".join(gpu.uuid for gpu in taken)
                slots = tuple(taken.values())
                return TakenGpus(len(gpus) // count, slots, folder, before)
    raise AssertionError("unreachable")


def _file(folder: Path, gpu: Device, rank: int) -> Path:
    return folder / f"{gpu.uuid}.{rank}.lock"


def _try_lock(folder: Path, gpu: Device, rank: int) -> filelock.FileLock | None:
    lock = filelock.FileLock(_file(folder, gpu, rank))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return None
    return lock
