"""Where records and artefacts are kept: immutable files, written whole or not at all.

::

    reports/store/records/<fingerprint>.json            the good record of a cell
                          <fingerprint>.rerun-<n>.json  the same cell measured again
                          <fingerprint>.failed-<n>.json what a failed attempt left
                          <fingerprint>[...].parquet, .log   its side files
    reports/store/artefacts/<key digest>/               large things, built once
    reports/store/running/                              a marker and a lock per running cell
    reports/store/moved_aside/                          files that could not be trusted
    reports/<study>/raw_runs/<cell name>.json           the documents' view, exported
"""

import contextlib
import hashlib
import itertools
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from benchsuite.errors import BenchsuiteError, CorruptRecord
from benchsuite.records.files import abandoned_drafts, alive, draft_in, host, write_whole
from benchsuite.records.fingerprint import digest
from benchsuite.records.record import Record, now, seal, verify

if TYPE_CHECKING:
    import numpy as np


logger = logging.getLogger("benchsuite")

ROOM = 16 * 2**20
"""Bytes that must be free before a cell begins: its record with the evidence of every item."""


@dataclass(frozen=True)
class Artefact:
    """A content-addressed folder: ``seconds`` is what its one build cost."""

    path: Path
    seconds: float
    built_now: bool


class Store:
    """The records, artefacts and exported views under one reports folder."""

    def __init__(self, reports_dir: Path) -> None:
        self.reports = reports_dir
        self.root = reports_dir / "store"
        self.records, self.running = self.root / "records", self.root / "running"
        self.artefacts, self.aside = self.root / "artefacts", self.root / "moved_aside"
        self.moved_aside: list[str] = []
        self._prepared = False

    def prepare(self) -> None:
        """Make the folders; a folder that cannot be written is an error before any cell runs."""
        if self._prepared:
            return
        try:
            for folder in (self.records, self.running, self.artefacts):
                folder.mkdir(parents=True, exist_ok=True)
            probe = self.running / f".probe-{uuid.uuid4().hex}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise unwritable(self.reports, error) from error
        self._prepared = True

    def require_room(self) -> None:
        """Raise if the disk is so full that a cell's record might not fit once it is measured."""
        free = shutil.disk_usage(self.root).free
        if free < ROOM:
            raise BenchsuiteError(
                f"{free >> 20} MiB are free, and a cell begins with {ROOM >> 20} for its record",
                str(self.root),
                "make room, or name another folder with --reports-dir",
            )

    # --- records

    def read(self, fingerprint: str) -> Record | None:
        """Return the good record of a fingerprint; a damaged one is moved aside and None."""
        return self._read(self.records / f"{fingerprint}.json")

    def _read(self, path: Path) -> Record | None:
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            record = verify(json.loads(text), path)
            self._verify_items(record)
        except (ValueError, CorruptRecord, RecursionError) as error:
            self._move_aside(path, str(error))
            return None
        return record

    def _verify_items(self, record: Record) -> None:
        side = record.get("items")
        if not side:
            return
        path = self.records / side["file"]
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise CorruptRecord(f"its side file {path.name} is missing") from None
        if side.get("sha256") not in (None, hashlib.sha256(content).hexdigest()):
            self._move_aside(path, "changed after it was written")
            raise CorruptRecord(f"its side file {path.name} was changed after it was written")

    def _move_aside(self, path: Path, why: str) -> None:
        self.aside.mkdir(parents=True, exist_ok=True)
        target = self.aside / f"{path.name}.{uuid.uuid4().hex[:8]}"
        with contextlib.suppress(FileNotFoundError):
            os.replace(path, target)
            self.moved_aside.append(f"{path.name}: {why}; kept as {target.name}")

    def write(
        self, record: Record, columns: Mapping[str, "np.ndarray"] | None = None, log: str = ""
    ) -> Record:
        """Store a finished record with its side files and return it as stored.

        Nothing is overwritten: a second measurement of the same fingerprint becomes a ``rerun``,
        a failure never takes the place of a good record.
        """
        fingerprint = record["fingerprint"]["value"]
        kind = None if record["outcome"] == "passed" else "failed"
        attempt = 0
        while True:
            stem = _stem(fingerprint, kind, attempt)
            if not (self.records / f"{stem}.json").exists():
                stored = self._write_as(stem, record, columns or {}, log)
                if stored:
                    return stored
            kind, attempt = kind or "rerun", attempt + 1

    def _write_as(
        self, stem: str, record: Record, columns: Mapping[str, "np.ndarray"], log: str
    ) -> Record | None:
        record = record | {"items": None}
        if columns:
            content = _parquet(columns)
            name = f"{stem}.{digest(record)[:8]}.parquet"
            write_whole(self.records / name, content)
            whole = hashlib.sha256(content).hexdigest()
            record |= {"items": {"file": name, "columns": sorted(columns), "sha256": whole}}
        sealed = seal(record)
        text = json.dumps(sealed, indent=1).encode()
        try:
            write_whole(self.records / f"{stem}.json", text, exclusive=True)
        except FileExistsError:
            return None
        if log:
            write_whole(self.records / f"{stem}.log", log.encode())
        return sealed

    def all_records(self) -> Iterator[Record]:
        """Yield every readable record: good ones, reruns and failures."""
        for path in sorted(self.records.glob("*.json")):
            record = self._read(path)
            if record is not None:
                yield record

    def failures(self, fingerprint: str) -> list[Record]:
        """Return the records of failed attempts at a fingerprint, oldest first."""
        found: list[Record] = []
        attempts = (
            self.records / f"{fingerprint}.failed-{attempt}.json" for attempt in itertools.count(1)
        )
        for path in itertools.takewhile(Path.exists, attempts):
            record = self._read(path)
            found += [record] if record else []
        return found

    def columns(self, record: Record) -> dict[str, "np.ndarray"]:
        """Return a record's per-item evidence, one array per column."""
        if not record.get("items"):
            return {}
        return read_columns(self.records / record["items"]["file"])

    # --- the documents' view

    def view_path(self, study: str, name: str, weights: str | None) -> Path:
        """Return where a cell's record is exported.

        Rehearsals and checkpoints that were given are kept apart from what the study made.
        """
        apart = {"random": "rehearsal", "checkpoint": "checkpoint"}.get(weights or "", "")
        return self.reports / apart / study / "raw_runs" / f"{name}.json"

    def export(self, record: Record) -> None:
        """Show a good record under the documents' file name, replacing an older good one."""
        facts = record["cell"]
        path = self.view_path(facts["study"], facts["name"], record["weights"])
        with contextlib.suppress(OSError, ValueError, RecursionError):
            if json.loads(path.read_bytes()) == record:
                return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Not worth a wait for the disk: what a power cut takes from a view is exported again.
            write_whole(path, json.dumps(record, indent=2).encode(), durable=False)
        except OSError as error:
            # Nor is a full disk a reason to fail a cell whose record is kept.
            logger.warning("%s cannot be shown as %s: %s", facts["id"], path, error.strerror)

    def exported(self, study: str, name: str, weights: str | None) -> Record | None:
        """Return the record that the view now shows for a cell, or None."""
        path = self.view_path(study, name, weights)
        try:
            return verify(json.loads(path.read_bytes()), path)
        except FileNotFoundError:
            return None
        except (ValueError, CorruptRecord, RecursionError) as error:
            self._move_aside(path, str(error))
            return None

    # --- artefacts

    def artefact(self, key: Mapping[str, Any], build: Callable[[Path], None]) -> Artefact:
        """Return the folder for ``key``, built by ``build(folder)`` if nobody has built it yet."""
        name = digest(key)[:40]
        final = self.artefacts / name
        meta = final / "artefact.json"
        with filelock.FileLock(self.artefacts / f"{name}.lock"):
            if meta.is_file():
                return Artefact(final, json.loads(meta.read_bytes())["seconds"], False)
            draft = draft_in(self.artefacts)
            draft.mkdir()
            try:
                start = time.perf_counter()
                build(draft)
                seconds = time.perf_counter() - start
                facts = {"key": dict(key), "seconds": seconds, "built_at": now()}
                write_whole(draft / "artefact.json", json.dumps(facts, default=str).encode())
                if final.exists():
                    shutil.rmtree(final)
                os.rename(draft, final)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        return Artefact(final, seconds, True)

    def unfinished(self, key: Mapping[str, Any]) -> Path:
        """Return a folder for what a long build keeps to go on from, should it be cut off.

        To be used, and in the end removed, inside the ``build`` of ``artefact(key, build)``, whose
        lock makes it one process's at a time.
        """
        return self.root / "unfinished" / digest(key)[:40]

    def replace_folder(self, final: Path, build: Callable[[Path], None]) -> None:
        """Put what ``build(folder)`` makes in the place of ``final``, whole or not at all."""
        final.parent.mkdir(parents=True, exist_ok=True)
        draft = draft_in(final.parent)
        draft.mkdir()
        try:
            build(draft)
            if final.exists():
                shutil.rmtree(final)
            os.rename(draft, final)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    # --- running cells

    def lock(self, fingerprint: str) -> filelock.FileLock:
        """Return the lock under which one process at a time measures a fingerprint."""
        return filelock.FileLock(self.running / f"{fingerprint}.lock")

    def mark_running(self, fingerprint: str, facts: Mapping[str, Any]) -> None:
        """Leave a marker that says which cell this process measures; it outlives a crash."""
        marker = seal(dict(facts) | {"pid": os.getpid(), "host": host(), "started_at": now()})
        path = self.running / f"{fingerprint}.json"
        draft = draft_in(self.running)
        try:
            draft.write_text(json.dumps(marker))
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)

    def mark_stage(self, fingerprint: str, stage: str) -> None:
        """Add the stage that a running cell has reached to its marker.

        Appended, for a file that takes another's place is flushed to the disk, and waited for.
        """
        with contextlib.suppress(FileNotFoundError):
            marker = os.open(self.running / f"{fingerprint}.json", os.O_WRONLY | os.O_APPEND)
            with open(marker, "w") as file:
                file.write(f"\n{json.dumps({'stage': stage})}")

    def unmark_running(self, fingerprint: str) -> None:
        """Remove this process' marker and lock file of a finished cell."""
        for suffix in ("json", "crowded", "lock"):
            (self.running / f"{fingerprint}.{suffix}").unlink(missing_ok=True)

    def running_markers(self) -> list[dict[str, Any]]:
        """Return the markers of cells that are running or were cut off."""
        markers = []
        for path in self.running.glob("*.json"):
            with contextlib.suppress(OSError, ValueError, CorruptRecord):
                facts, *stages = map(json.loads, path.read_text().splitlines())
                markers.append(verify(facts, path) | (stages[-1] if stages else {}))
        return markers

    def tell_crowd(self, fingerprint: str, device: str) -> None:
        """Note a cell that begins, and those it meets on its device, as contended.

        Whichever of two cells begins later sees the other's marker, so that no overlap is missed.
        """
        others = [
            marker["fingerprint"]["value"]
            for marker in self.running_markers()
            if marker["host"] == host()
            and marker["pid"] != os.getpid()
            and marker.get("device") == device
            and alive(marker["pid"])
        ]
        for value in [*others, *([fingerprint] if others else [])]:
            (self.running / f"{value}.crowded").touch()

    def was_crowded(self, fingerprint: str) -> bool:
        """Say whether another process of this host measured a cell on the same device meanwhile."""
        return (self.running / f"{fingerprint}.crowded").exists()

    def forget_crowd(self, fingerprint: str) -> None:
        """Remove the note that an earlier measurement of the cell was contended."""
        (self.running / f"{fingerprint}.crowded").unlink(missing_ok=True)

    def sweep(self) -> list[str]:
        """Remove what a killed session left behind; return the ids of the cells it cut off."""
        cut_off = []
        for marker in self.running_markers():
            if marker["host"] == host() and not alive(marker["pid"]):
                cut_off.append(marker["cell"]["id"])
                self.unmark_running(marker["fingerprint"]["value"])
        for draft in abandoned_drafts(self.reports):
            if draft.is_dir():
                shutil.rmtree(draft, ignore_errors=True)
            else:
                draft.unlink(missing_ok=True)
        return cut_off


def unwritable(folder: Path, error: OSError) -> BenchsuiteError:
    """Return the error for a reports folder that the system refuses to write to."""
    return BenchsuiteError(
        f"the reports folder cannot be written: {error.strerror}",
        str(error.filename or folder),
        "make it writable or make room, or name another with --reports-dir; what is there is kept",
    )


def _stem(fingerprint: str, kind: str | None, attempt: int) -> str:
    if kind is None:
        return fingerprint
    return f"{fingerprint}.{kind}-{attempt + (kind == 'failed')}"


def read_columns(path: Path) -> dict[str, "np.ndarray"]:
    """Return the columns of a side file, each as long as it was given."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    return {name: table.column(name).drop_null().to_numpy() for name in table.column_names}


def _parquet(columns: Mapping[str, "np.ndarray"]) -> bytes:
    """Return the columns as Parquet; shorter ones end in nulls, which are no values."""
    import pyarrow
    import pyarrow.parquet

    longest = max(map(len, columns.values()))
    table = {}
    for name, column in columns.items():
        values = pyarrow.array(column)
        nulls = pyarrow.nulls(longest - len(values), values.type)
        table[name] = pyarrow.concat_arrays([values, nulls])
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(table), sink)
    return sink.getvalue().to_pybytes()
