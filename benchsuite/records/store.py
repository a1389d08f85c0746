"""Where records are kept: immutable files, written whole or not at all.

::

    reports/store/records/<fingerprint>.json            the good record of a cell
                          <fingerprint>.rerun-<n>.json  the same cell measured again
                          <fingerprint>.failed-<n>.json what a failed attempt left
                          <fingerprint>[...].parquet, .log   its side files
    reports/store/artefacts/<key digest>/               large things, built once
    reports/store/judged.jsonl                          what was judged when (records.judged)
    reports/store/asked/                                questions and texts (records.asked)
    reports/store/running/                              a marker and a lock per running cell
    reports/store/moved_aside/                          files that could not be trusted
    reports/<study>/raw_runs/<cell name>.json           the source documents' view, exported
"""

import contextlib
import errno
import hashlib
import itertools
import logging
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchsuite.errors import BenchsuiteError, CorruptRecord
from benchsuite.records import asked, running
from benchsuite.records.artefacts import Artefacts
from benchsuite.records.columns import parquet, read_columns
from benchsuite.records.files import (
    abandoned_drafts,
    age,
    draft_in,
    fitting_name,
    make_folder,
    refuse_endless,
    write_whole,
)
from benchsuite.records.forms import SEAL, as_text, flat, nested, sealed
from benchsuite.records.reading import Misdeclared, check_place, parsed, read
from benchsuite.records.record import Items, Record
from benchsuite.records.running import Running
from benchsuite.study.cell import Cell

if TYPE_CHECKING:
    import numpy as np

logger = logging.getLogger("benchsuite")

ROOM = 16 * 2**20
"""Bytes that must be free before a cell begins: its record with the evidence of every item."""

_ORPHANED = 24 * 3600.0
"""Seconds after which a side file without a record is nobody's, whoever runs."""

# Not the file's fault: it may be good, and another user or another moment can read it.
_OUT_OF_REACH = (errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ETIMEDOUT)


def digest_cache(reports_dir: Path) -> Path:
    """Return the file that remembers digests of large files between a folder's sessions."""
    return reports_dir / "store" / "file_digests.json"


class Store:
    """The records, artefacts and exported views under one reports folder.

    ``notices`` are what a user must hear of it: files moved aside, artefacts built again.
    """

    def __init__(self, reports_dir: Path) -> None:
        self.reports = reports_dir
        self.root = reports_dir / "store"
        self.records, self.aside = self.root / "records", self.root / "moved_aside"
        self.notices: list[str] = []
        self.artefacts = Artefacts(self.root / "artefacts", self._notice)
        self.running = Running(self.root / "running")
        self._prepared = False

    def prepare(self) -> None:
        """Make the folders; a folder that cannot be written is an error before any cell runs."""
        if self._prepared:
            return
        try:
            for folder in (self.records, self.running.folder, self.artefacts.folder):
                make_folder(folder)
            probe = draft_in(self.running.folder)
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

    def _notice(self, what: str) -> None:
        if what not in self.notices:
            self.notices.append(what)
            logger.info("%s", what)

    # --- reading

    def read(self, fingerprint: str) -> Record | None:
        """Return the good record of a fingerprint; a damaged one is moved aside and None.

        One that nobody can read at this moment, or that a later version wrote, is an error.
        """
        return self._read(self.records / f"{fingerprint}.json")

    def all_records(self) -> Iterator[Record]:
        """Yield every readable record: good ones, reruns and failures."""
        yield from self._readable(self._paths())

    def failures(self, fingerprint: str) -> list[Record]:
        """Return the records of failed attempts at a fingerprint, oldest first."""
        attempts = (
            self.records / f"{fingerprint}.failed-{attempt}.json" for attempt in itertools.count(1)
        )
        return list(self._readable(itertools.takewhile(os.path.lexists, attempts)))

    def columns(self, record: Record) -> "dict[str, np.ndarray[Any, Any]]":
        """Return a record's per-item evidence, one array per column."""
        return {} if record.items is None else read_columns(self.records / record.items.file)

    def asked(self, record: Record, key: asked.Key) -> Any:
        """Return what is kept of the items that records here name, or None."""
        return asked.kept(self.root, key)

    def _paths(self) -> list[Path]:
        return sorted(p for p in self.records.glob("*.json") if not p.name.startswith("."))

    def _readable(self, paths: Iterator[Path] | list[Path]) -> Iterator[Record]:
        for path in paths:
            try:
                record = self._read(path)
            except BenchsuiteError as error:
                self._notice(str(error))
            else:
                if record is not None:
                    yield record

    def _read(self, path: Path) -> Record | None:
        try:
            refuse_endless(path)
            record = read(path.read_bytes())
            check_place(record, path.stem)
            self._check_items(record)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except IsADirectoryError:
            self._move_aside(path, "a folder in the place of a record")
        except CorruptRecord as error:
            self._move_aside(path, error.what)
        except OSError as error:
            if error.errno not in _OUT_OF_REACH:
                raise
            raise BenchsuiteError(
                f"a record cannot be read: {error.strerror}",
                str(error.filename or path),
                "make it readable, or name another folder with --reports-dir",
            ) from error
        else:
            return record
        return None

    def _check_items(self, record: Record) -> None:
        if record.items is None:
            return
        path = self.records / record.items.file
        try:
            content = path.read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            raise CorruptRecord(f"its side file {path.name} is missing") from None
        if record.items.sha256 not in (None, hashlib.sha256(content).hexdigest()):
            raise CorruptRecord(f"its side file {path.name} was changed after it was written")

    def _move_aside(self, path: Path, why: str) -> None:
        """Move a record, and the side files named after it, to where nothing is read."""
        mark = uuid.uuid4().hex[:8]
        try:
            self.aside.mkdir(parents=True, exist_ok=True)
            for file in (path, *self._side_files(path)):
                os.replace(file, self.aside / f"{file.name}.{mark}")
        except FileNotFoundError:
            return
        except OSError as error:
            self._notice(f"not used: {path.name}: {why}; it cannot be moved: {error.strerror}")
            return
        self._notice(f"moved aside: {path.name}: {why}; kept as {path.name}.{mark}")

    def _side_files(self, path: Path) -> list[Path]:
        return [p for p in path.parent.glob(f"{path.stem}.*") if _record_of(p.name) == path.stem]

    # --- writing

    def write(
        self,
        record: Record,
        columns: "Mapping[str, np.ndarray[Any, Any]] | None" = None,
        log: str = "",
    ) -> Record:
        """Store a finished record with its side files and return it as stored.

        Nothing is overwritten: a second measurement of the same fingerprint becomes a ``rerun``,
        a failure never takes the place of a good record.
        """
        kind = None if record.passed else "failed"
        attempt = 0
        while True:
            stem = _stem(record.fingerprint.value, kind, attempt)
            if not os.path.lexists(self.records / f"{stem}.json"):
                stored = self._write_as(stem, record, columns or {}, log)
                if stored is not None:
                    return stored
            kind, attempt = kind or "rerun", attempt + 1

    def _write_as(
        self,
        stem: str,
        record: Record,
        columns: "Mapping[str, np.ndarray[Any, Any]]",
        log: str,
    ) -> Record | None:
        record = replace(record, items=None)
        if columns:
            content = parquet(columns)
            name = f"{stem}.{uuid.uuid4().hex[:8]}.parquet"
            write_whole(self.records / name, content)
            whole = hashlib.sha256(content).hexdigest()
            record = replace(record, items=Items(name, tuple(sorted(columns)), whole))
        body = sealed(nested(record))
        try:
            write_whole(self.records / f"{stem}.json", as_text(body), exclusive=True)
        except FileExistsError:
            return None
        if log:
            write_whole(self.records / f"{stem}.log", log.encode(errors="replace"))
        return replace(record, sha256=body[SEAL])

    # --- the source documents' view

    def view_path(self, study: str, name: str, weights: str | None) -> Path:
        """Return where a cell's record is exported.

        Rehearsals and checkpoints that were given are kept apart from what the study made.
        """
        apart = {"random": "rehearsal", "checkpoint": "checkpoint"}.get(weights or "", "")
        return self.reports / apart / study / "raw_runs" / f"{fitting_name(name)}.json"

    def export(self, cell: Cell, record: Record) -> None:
        """Show a cell's good record under the source documents' file name, for an older one."""
        path = self.view_path(cell.study, cell.name, record.source.weights)
        text = as_text(sealed(flat(record)), indent=2)
        with contextlib.suppress(OSError):
            if path.read_bytes() == text:
                return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Not worth a wait for the disk: what a power cut takes from a view is exported again.
            write_whole(path, text, durable=False)
        except OSError as error:
            # Nor is a full disk a reason to fail a cell whose record is kept.
            logger.warning("%s cannot be shown as %s: %s", cell.id, path, error.strerror)

    def exported(self, cell: Cell, weights: str | None) -> Record | None:
        """Return the good record that the view names for a cell, or None.

        The view is an index: its fingerprint is looked up, and nothing else in it is believed.
        """
        path = self.view_path(cell.study, cell.name, weights)
        try:
            value = parsed(path.read_bytes()).get("fingerprint", {}).get("value")
        except (OSError, CorruptRecord, AttributeError):
            return None
        if not isinstance(value, str) or not re.fullmatch("[0-9a-f]+", value):
            return None
        try:
            record = self.read(value)
        except Misdeclared:  # an earlier record, which is in nobody's way
            return None
        mine = record is not None and (record.cell.study, record.cell.id) == (cell.study, cell.id)
        return record if mine else None

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

    def unfinished(self, key: Mapping[str, Any]) -> Path:
        """Return a folder for what a long build keeps to go on from, should it be cut off.

        To be used, and in the end removed, inside the ``build`` of ``artefacts.get(key, build)``,
        whose lock makes it one process's at a time.
        """
        return self.root / "unfinished" / self.artefacts.name(key)

    # --- what dead sessions left

    def sweep(self) -> list[str]:
        """Remove what killed sessions left behind; return the ids of the cells they cut off."""
        with contextlib.suppress(OSError):
            for draft in abandoned_drafts(self.reports):
                if draft.is_dir():
                    shutil.rmtree(draft, ignore_errors=True)
                else:
                    draft.unlink(missing_ok=True)
            cut_off = self.running.sweep()
            self._sweep_side_files()
            for lock in self.artefacts.folder.glob("*.lock"):
                running.sweep_lock(lock)
            for memo in self.root.glob("file_digests.json.*"):
                if age(memo) > _ORPHANED:
                    memo.unlink(missing_ok=True)
            return cut_off
        return []

    def _sweep_side_files(self) -> None:
        """Remove side files whose record was never written; it is written after them."""
        known = {path.stem for path in self._paths()}
        others_run = bool(self.running.living())
        for path in self.records.iterdir():
            stem = _record_of(path.name)
            if stem and stem not in known and (not others_run or age(path) > _ORPHANED):
                path.unlink(missing_ok=True)


def unwritable(folder: Path, error: OSError) -> BenchsuiteError:
    """Return the error for a reports folder that the system refuses to write to."""
    place = Path(error.filename or folder)
    return BenchsuiteError(
        f"the reports folder cannot be written: {error.strerror}",
        str(place.parent if place.name.startswith(".draft-") else place),
        "make it writable or make room, or name another with --reports-dir; what is there is kept",
    )


def _stem(fingerprint: str, kind: str | None, attempt: int) -> str:
    if kind is None:
        return fingerprint
    return f"{fingerprint}.{kind}-{attempt + (kind == 'failed')}"


def _record_of(name: str) -> str:
    """Return the stem of the record that a side file is named after, nothing for other files."""
    found = re.fullmatch(r"(\w+(\.(rerun|failed)-\d+)?)(\.[0-9a-f]{8}\.parquet|\.log)", name)
    return found[1] if found else ""
