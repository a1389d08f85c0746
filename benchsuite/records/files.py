"""Files that are whole or not there, and who is still writing: what the store stands on."""

import os
import re
import socket
import uuid
from pathlib import Path

from benchsuite.records.fingerprint import digest


def draft_in(folder: Path) -> Path:
    """Return a fresh name that says whose draft it is, so that a sweep can tell the abandoned."""
    return folder / f".draft-{os.getpid()}-{uuid.uuid4().hex}"


def abandoned_drafts(folder: Path) -> list[Path]:
    """Return the drafts that no living process writes. Other sessions may move files meanwhile."""
    names = [
        Path(parent, name)
        for parent, folders, files in os.walk(folder)
        for name in (*folders, *files)
        if re.match(r"\.draft-\d+-", name)
    ]
    return [draft for draft in names if not alive(int(draft.name.split("-")[1]))]


def write_whole(
    path: Path, content: bytes, *, exclusive: bool = False, durable: bool = True
) -> None:
    """Write a file so that a reader, or a crash, sees all of it or nothing.

    With ``exclusive`` an existing file is left alone and FileExistsError raised. A ``durable``
    file is on the disk on return, and survives a power cut too.
    """
    draft = draft_in(path.parent)
    try:
        with open(draft, "wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        if exclusive:
            os.link(draft, path)
        else:
            os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def alive(pid: int) -> bool:
    """Say whether a process of this host runs; a zombie that nobody has reaped does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state not in "ZX"


def host() -> str:
    """Return what tells this machine from others that share a folder, and does not name it."""
    return digest(socket.gethostname())[:12]
