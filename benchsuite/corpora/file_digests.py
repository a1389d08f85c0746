"""sha256 of files, remembered while a file stays as it is: collection asks for large ones often."""

import contextlib
import hashlib
import json
import os
import re
import time
import uuid
from pathlib import Path
from typing import Any

_SHA256 = re.compile(r"[0-9a-f]{64}")
# The coarsest clock of a file system that is in use (FAT's): within it a file can be written twice
# and keep its size and times.
_SETTLED_NS = 2_000_000_000


class FileDigests:
    """sha256 of files, remembered under path, size, times and inode.

    With ``file`` they are remembered in that JSON file as well, once ``save`` is called. It is only
    a cache: a damaged one, which its seal shows, is computed again.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file, self._changed = file, False
        self._known: dict[str, list[Any]] = {}
        if file is not None and file.exists():
            try:
                kept = json.loads(file.read_text(encoding="utf-8"))
                # A digit changed on the disk would make other fingerprints of unchanged files.
                if kept["seal"] == _seal(kept["files"]):
                    self._known = dict(kept["files"])
            except (OSError, ValueError, TypeError, KeyError, RecursionError):
                self._known = {}

    def sha256(self, file: Path) -> str:
        """Return the hex sha256 of a file's content. Raises ``OSError`` where it cannot be read."""
        resolved = file.resolve()
        if resolved.parent.name == "blobs" and _SHA256.fullmatch(resolved.name):
            return resolved.name  # the hub names large files by their sha256
        key = file_state(resolved)
        known = self._known.get(str(resolved))
        if isinstance(known, list) and known[:-1] == key:
            return str(known[-1])
        asked = time.time_ns()
        with resolved.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if is_settled(key, asked) and file_state(resolved) == key:
            self._known[str(resolved)] = [*key, digest]
            self._changed = True
        return digest

    def save(self) -> None:
        """Write what was learned since the file was read, if there is a file."""
        if self._file is None or not self._changed:
            return
        kept = {"files": self._known, "seal": _seal(self._known)}
        # Written whole and renamed: several may do this at once, of other hosts too, and each
        # result is right. One that cannot be written costs time and nothing else.
        temporary = self._file.with_name(f"{self._file.name}.{uuid.uuid4().hex}")
        with contextlib.suppress(OSError):
            try:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                temporary.write_text(json.dumps(kept, indent=0), encoding="utf-8")
                os.replace(temporary, self._file)
            finally:
                temporary.unlink(missing_ok=True)


def _seal(known: Any) -> str:
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def file_state(file: Path) -> list[int]:
    """Return what changes with a file's content: size, times of writing and of change, inode.

    The time of change counts beside that of writing, which ``cp -p`` sets back.
    """
    status = file.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def is_settled(state: list[int], asked: int) -> bool:
    """Say whether a file of this state, looked at at ``asked`` (ns), cannot change unseen."""
    return max(state[1], state[2]) < asked - _SETTLED_NS
