"""Files that are whole or not there, and who is still writing: what the store stands on."""

import contextlib
import errno
import functools
import hashlib
import os
import re
import socket
import stat
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchsuite.errors import CorruptRecord
from benchsuite.records.fingerprint import digest
from benchsuite.records.limits import LARGEST_FILE

OLD = 7 * 24 * 3600.0
"""Seconds after which what another host left is nobody's: longer than any cell runs."""

# What the system says where a file system has no hard links, and where it flushes no folder.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)
_NO_FLUSH = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF)

_LONGEST = 200
"""Bytes of a file's name: file systems take 255, endings and drafts need some of them."""


def fitting_name(name: str) -> str:
    """Return a name that file systems take: the end of a long one gives way to its digest."""
    encoded = name.encode()
    if len(encoded) <= _LONGEST:
        return name
    kept = encoded[: _LONGEST - 18].decode(errors="ignore")
    return f"{kept}__{hashlib.sha256(encoded).hexdigest()[:16]}"


@dataclass(frozen=True)
class Owner:
    """The process that writes a file: its host, the host's boot, its pid and when it started."""

    host: str
    boot: str
    pid: int
    started: int

    @classmethod
    def me(cls) -> "Owner":
        """Return this process."""
        return cls(host(), _boot(), os.getpid(), _started(os.getpid()))

    @classmethod
    def of(cls, text: str) -> "Owner | None":
        """Return the owner that a text names, or None."""
        found = re.fullmatch(r"([0-9a-f]{12})-([0-9a-f]{12})-(\d{1,10})-(\d{1,20})", text)
        return None if found is None else cls(found[1], found[2], int(found[3]), int(found[4]))

    def __str__(self) -> str:
        return f"{self.host}-{self.boot}-{self.pid}-{self.started}"

    @property
    def is_here(self) -> bool:
        """Whether it is of this host and its present boot."""
        return (self.host, self.boot) == (host(), _boot())

    def is_gone(self, age: float) -> bool:
        """Say whether the process is over; of another host, ``age`` seconds of silence decide."""
        if self.host != host():
            return age > OLD
        return self.boot != _boot() or not alive(self.pid, self.started)


def draft_in(folder: Path) -> Path:
    """Return a fresh name that says whose draft it is, so that a sweep can tell the abandoned."""
    return folder / f".draft-{Owner.me()}-{uuid.uuid4().hex}"


def abandoned_drafts(folder: Path) -> list[Path]:
    """Return the drafts that no living process writes. Other sessions may move files meanwhile."""
    found = []
    for parent, folders, files in os.walk(folder):
        drafts = [name for name in (*folders, *files) if name.startswith(".draft-")]
        folders[:] = [name for name in folders if name not in drafts]
        for draft in (Path(parent, name) for name in drafts):
            owner = Owner.of(draft.name.removeprefix(".draft-").rpartition("-")[0])
            silent = age(draft)
            if silent > OLD if owner is None else owner.is_gone(silent):
                found.append(draft)
    return found


def age(path: Path) -> float:
    """Return the seconds since anything at or inside a path was changed; 0 for what is gone."""
    newest = 0.0
    for one in (path, *inside(path)):
        with contextlib.suppress(OSError):
            newest = max(newest, one.lstat().st_mtime)
    return time.time() - newest if newest else 0.0


def inside(path: Path) -> Iterator[Path]:
    """Yield all files and folders below a path."""
    for parent, folders, files in os.walk(path):
        yield from (Path(parent, name) for name in (*folders, *files))


def write_whole(
    path: Path, content: bytes, *, exclusive: bool = False, durable: bool = True
) -> None:
    """Write a file so that a reader, or a crash, sees all of it or nothing.

    With ``exclusive`` an existing file is left alone and FileExistsError raised. A ``durable``
    file is on the disk on return, name and all, and survives a power cut too.
    """
    draft = draft_in(path.parent)
    try:
        with open(draft, "wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        if exclusive:
            _take_free_name(draft, path)
        else:
            os.replace(draft, path)
    except OSError as error:
        if error.filename == str(draft):  # whoever reads of it knows the file by its own name
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        draft.unlink(missing_ok=True)
    if durable:
        flush(path.parent)


def _take_free_name(draft: Path, path: Path) -> None:
    """Give a draft its name unless that is taken.

    Where the file system has no hard links (exFAT, drives of cloud storage), a look before the
    move has to do: whoever writes a record holds its cell's lock.
    """
    try:
        os.link(draft, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        os.replace(draft, path)


def refuse_endless(path: Path) -> None:
    """Raise ``CorruptRecord`` for what a reader might never come to the end of, or run out on.

    A pipe halts it, a device has no end, and no record is larger than `LARGEST_FILE`.
    """
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise CorruptRecord("it is a pipe or a device, not a file")
    if found.st_size > LARGEST_FILE:
        raise CorruptRecord(f"it has {found.st_size:,} bytes, more than any record")


def make_folder(folder: Path) -> None:
    """Make a folder with those above it, each name on the disk before anything is kept inside."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        flush(folder.parent)


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk.

    Some file systems of networks flush no folder; they keep its names by themselves.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FLUSH or not path.is_dir():
            raise
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """Return the digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def alive(pid: int, started: int = 0) -> bool:
    """Say whether a process of this host runs; a zombie that nobody has reaped does not.

    With ``started``, another process that has the pid by now is not it.
    """
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    state, now = _stat(pid)
    return state not in ("Z", "X") and (not started or not now or now == started)


def _stat(pid: int) -> tuple[str, int]:
    """Return a process' state and start in ticks since boot; nothing where the system is mute."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], int(fields[19])
    except (OSError, IndexError, ValueError):
        return "", 0


def _started(pid: int) -> int:
    return _stat(pid)[1]


@functools.cache
def host() -> str:
    """Return what tells this machine from others that share a folder, and does not name it.

    Two containers may have one name: the space that their pids are in tells them apart.
    """
    return digest([socket.gethostname(), _read("/etc/machine-id"), _link("/proc/self/ns/pid")])[:12]


@functools.cache
def _boot() -> str:
    return digest(_read("/proc/sys/kernel/random/boot_id"))[:12]


def _read(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text().strip()
    return ""


def _link(path: str) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(path)
    return ""
