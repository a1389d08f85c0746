"""Who measures what at this moment: a marker and a lock per running cell."""

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import filelock

from benchsuite.errors import CorruptRecord
from benchsuite.printable import without_surrogates
from benchsuite.records.fields import Fields
from benchsuite.records.files import OLD, Owner, age, draft_in
from benchsuite.records.fingerprint import Fingerprint
from benchsuite.records.forms import as_text, now, sealed, table_of
from benchsuite.records.reading import parsed, read_cell, read_fingerprint, sealed_object
from benchsuite.records.record import CellFacts

_UNSIGNED = 24 * 3600.0
"""Seconds after which a file that names no owner is nobody's."""


@dataclass(frozen=True)
class Marker:
    """A cell that is being measured, or was cut off: which, by whom, on what, how far.

    ``benchmark`` is its test's file: a node id names it in relation to what pytest was given.
    ``run`` and ``worker`` are xdist's names of the session and the process, ``gpus`` the UUIDs of
    those that it has taken. Of ``stage`` ``done`` of ``total`` parts of a ``step`` are finished,
    which began at ``since``, in seconds of the clock; ``total`` is 0 where nobody has told.
    """

    nodeid: str
    benchmark: str
    cell: CellFacts
    fingerprint: Fingerprint
    environment: Mapping[str, Any]
    device: str
    owner: Owner
    started_at: str
    stage: str = "setup"
    run: str = ""
    worker: str = ""
    gpus: tuple[str, ...] = ()
    step: str = ""
    done: int = 0
    total: int = 0
    since: float = 0.0


class Running:
    """The markers and locks in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def lock(self, fingerprint: str) -> filelock.BaseFileLock:
        """Return the lock under which one process at a time measures a fingerprint."""
        return filelock.FileLock(self.folder / f"{fingerprint}.lock")

    def begin(
        self,
        nodeid: str,
        benchmark: Path,
        cell: CellFacts,
        fingerprint: Fingerprint,
        environment: Mapping[str, Any],
        device: str,
        *,
        run: str = "",
        worker: str = "",
        gpus: Sequence[str] = (),
    ) -> None:
        """Leave a marker that says which cell this process measures; it outlives a crash.

        The cell, and those that it meets on its device, are noted as contended. Whichever of two
        begins later sees the other's marker, so that no overlap is missed.
        """
        value = fingerprint.value
        self._crowded(value).unlink(missing_ok=True)
        file, owner = str(benchmark), Owner.me()
        body = {
            "nodeid": nodeid,
            "benchmark": file,
            "cell": table_of(cell),
            "fingerprint": fingerprint.as_dict(),
            "environment": dict(environment),
            "device": device,
            "owner": str(owner),
            "started_at": now(),
            "run": run,
            "worker": worker,
            "gpus": list(gpus),
        }
        draft = draft_in(self.folder)
        try:
            draft.write_bytes(as_text(sealed(body), indent=None))
            os.replace(draft, self._marker(value))
        finally:
            draft.unlink(missing_ok=True)
        others = [m for m in self.markers() if m.device == device and _runs_beside(m.owner)]
        for crowded in [*(m.fingerprint.value for m in others), *([value] if others else [])]:
            self._crowded(crowded).touch()

    def stage(self, fingerprint: str, stage: str) -> None:
        """Add the stage that a running cell has reached to its marker."""
        with contextlib.suppress(FileNotFoundError):
            self._append(fingerprint, {"stage": stage})

    def step(
        self, fingerprint: str, stage: str, step: str, done: int, total: int, since: float
    ) -> None:
        """Add how far a running cell is within a stage: for those who watch, so it never fails."""
        body = {"stage": stage, "step": step, "done": done, "total": total, "since": since}
        with contextlib.suppress(OSError):
            self._append(fingerprint, body)

    def _append(self, fingerprint: str, body: Mapping[str, Any]) -> None:
        """Add a line to a marker, in one write: a reader sees all of it or, at the worst, its head.

        Appended, for a file that takes another's place is flushed to the disk, and waited for.
        """
        text = {k: without_surrogates(v) if isinstance(v, str) else v for k, v in body.items()}
        marker = os.open(self._marker(fingerprint), os.O_WRONLY | os.O_APPEND)
        with open(marker, "w", encoding="ascii") as file:
            file.write(f"\n{json.dumps(text)}")

    def end(self, fingerprint: str) -> None:
        """Remove the marker and lock file of a finished cell."""
        for suffix in ("json", "crowded", "lock"):
            (self.folder / f"{fingerprint}.{suffix}").unlink(missing_ok=True)

    def was_crowded(self, fingerprint: str) -> bool:
        """Say whether another process of this host measured a cell on the same device meanwhile."""
        return self._crowded(fingerprint).exists()

    def markers(self) -> list[Marker]:
        """Return the markers of cells that are running or were cut off."""
        return [marker for path in self._paths() if (marker := _read(path)) is not None]

    def living(self) -> list[Marker]:
        """Return the markers of cells whose process is not known to be over."""
        return [
            marker
            for marker in self.markers()
            if not marker.owner.is_gone(age(self._marker(marker.fingerprint.value)))
        ]

    def sweep(self) -> list[str]:
        """Remove what dead sessions left here; return the ids of the cells that they cut off."""
        cut_off = []
        for path in self._paths():
            marker = _read(path)
            if marker is None:
                if age(path) > OLD:
                    path.unlink(missing_ok=True)
            elif marker.owner.is_gone(age(path)):
                cut_off.append(marker.cell.id)
                self.end(marker.fingerprint.value)
        self._sweep_beside()
        return cut_off

    def _sweep_beside(self) -> None:
        """Remove the files and locks of sessions and cells that are over."""
        for path in self.folder.glob("stop-*"):
            owner = Owner.of(_text(path))
            if age(path) > _UNSIGNED if owner is None else owner.is_gone(age(path)):
                path.unlink(missing_ok=True)
        for path in self.folder.glob(".probe-*"):
            if age(path) > _UNSIGNED:
                path.unlink(missing_ok=True)
        for path in (*self.folder.glob("*.crowded"), *self.folder.glob("*.lock")):
            if not self._marker(path.stem).exists():
                lock = self.folder / f"{path.stem}.lock"
                sweep_lock(lock, beside=(self._crowded(path.stem),))

    def _paths(self) -> list[Path]:
        return [path for path in self.folder.glob("*.json") if not path.name.startswith(".")]

    def _marker(self, fingerprint: str) -> Path:
        return self.folder / f"{fingerprint}.json"

    def _crowded(self, fingerprint: str) -> Path:
        return self.folder / f"{fingerprint}.crowded"


def sweep_lock(path: Path, beside: tuple[Path, ...] = ()) -> None:
    """Remove a lock file that nobody holds, and files that only its holder writes."""
    lock = filelock.FileLock(path)
    with contextlib.suppress(filelock.Timeout, OSError):
        lock.acquire(blocking=False)
        try:
            for file in (*beside, path):
                file.unlink(missing_ok=True)
        finally:
            lock.release()


def sign(path: Path) -> None:
    """Make a file that says which process made it, so that a sweep can tell whether it lives."""
    path.write_text(str(Owner.me()), encoding="ascii")


def _runs_beside(owner: Owner) -> bool:
    return owner.is_here and owner.pid != os.getpid() and not owner.is_gone(0.0)


def _read(path: Path) -> Marker | None:
    """Return a marker, or None for one that is gone or damaged."""
    try:
        first, *stages = path.read_bytes().splitlines()
        top = Fields(sealed_object(first))
        marker = Marker(
            nodeid=top.text("nodeid"),
            benchmark=top.text("benchmark"),
            cell=read_cell(top.part("cell")),
            fingerprint=read_fingerprint(top.part("fingerprint")),
            environment=top.table("environment"),
            device=top.text("device"),
            owner=_owner(top.text("owner")),
            started_at=top.text("started_at"),
            run=top.maybe("run", Fields.text) or "",
            worker=top.maybe("worker", Fields.text) or "",
            gpus=top.maybe("gpus", Fields.texts) or (),
        )
        if marker.fingerprint.value != path.stem:
            return None
    except (OSError, ValueError, CorruptRecord):
        return None
    return replace(marker, **_reached(stages))


def _reached(lines: Sequence[bytes]) -> dict[str, Any]:
    """Return how far a marker's last whole line says that its cell is.

    The very last may be cut: its cell's process died in it, or writes it at this moment.
    """
    for line in reversed(lines):
        with contextlib.suppress(ValueError, CorruptRecord):
            told = Fields(parsed(line))
            found: dict[str, Any] = {"stage": told.text("stage")}
            if "step" in told:
                found |= {"step": told.text("step"), "since": told.number("since")}
                found |= {name: told.whole(name) for name in ("done", "total")}
            return found
    return {}


def _owner(text: str) -> Owner:
    owner = Owner.of(text)
    if owner is None:
        raise CorruptRecord(f"malformed: owner is {text!r}")
    return owner


def _text(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        return path.read_text(encoding="ascii")
    return ""
