"""What a power cut leaves of a folder: what was flushed to the disk, and nothing else.

A plugin of the session that is to be cut, ``-p tests.harness.power``. It keeps an image of the disk
in the folder ``POWER_IMAGE``: the content of each file, and the names in each folder, when
``os.fsync`` was last called for it. After ``POWER_CUT`` calls all processes of the group die.
"""

import fcntl
import json
import os
import signal
import stat
from pathlib import Path

from benchsuite.records.record import Record
from benchsuite.records.store import Store

IMAGE, CUT = "POWER_IMAGE", "POWER_CUT"


def pytest_configure() -> None:
    """Watch what this process flushes, and which records it was told are kept."""
    image, cut = Path(os.environ[IMAGE]), int(os.environ.get(CUT, 0))
    flush, write = os.fsync, Store.write

    def fsync(handle: int) -> None:
        with open(image / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            flush(handle)
            _keep(image, handle)
            with open(image / "flushes", "ab") as flushes:
                flushes.write(b".")
                done = flushes.tell()
            if done == cut:
                os.killpg(0, signal.SIGKILL)

    def returned(store: Store, record: Record, *rest: object, **named: object) -> Record:
        stored = write(store, record, *rest, **named)  # type: ignore[arg-type]
        with open(image / "returned", "a") as names:
            names.write(f"{stored.fingerprint.value}.json\n")
        return stored

    os.fsync, Store.write = fsync, returned  # type: ignore[method-assign]


def _keep(image: Path, handle: int) -> None:
    status = os.fstat(handle)
    if stat.S_ISDIR(status.st_mode):
        with os.scandir(handle) as entries:
            names = {entry.name: _key(entry.stat(follow_symlinks=False)) for entry in entries}
        (image / _key(status)).write_text(json.dumps(names))
    else:
        (image / _key(status)).write_bytes(Path(f"/proc/self/fd/{handle}").read_bytes())


def _key(status: os.stat_result) -> str:
    """Return the name of a file's or folder's state in the image; a file's inode is used again."""
    if stat.S_ISDIR(status.st_mode):
        return f"folder-{status.st_ino}"
    return f"file-{status.st_ino}-{status.st_mtime_ns}"


def flushes(image: Path) -> int:
    """Return how often something was flushed."""
    return (image / "flushes").stat().st_size


def returned(image: Path) -> set[str]:
    """Return the file names of the records that were said to be kept."""
    path = image / "returned"
    return set(path.read_text().split()) if path.exists() else set()


def restore(image: Path, folder: Path, target: Path) -> None:
    """Make what the disk holds of ``folder`` as ``target``; what was not flushed is empty."""
    _restore(image, _key(folder.stat()), target)


def _restore(image: Path, key: str, target: Path) -> None:
    kept = image / key
    if key.startswith("file-"):
        target.write_bytes(kept.read_bytes() if kept.exists() else b"")
        return
    target.mkdir()
    names = json.loads(kept.read_text()) if kept.exists() else {}
    for name, inner in names.items():
        _restore(image, inner, target / name)
