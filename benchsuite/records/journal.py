"""What a session has come to, line by line, for those who watch it from another terminal.

``reports/sessions/<time>/progress.jsonl``: its first line says what the session is to run, each
further one how an item ended, the last how the session did. Lines are appended, one write each,
and never flushed: a journal is read while its session lives, and nothing rests on it later.
"""

import contextlib
import json
import os
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from benchsuite.errors import CorruptRecord
from benchsuite.printable import without_surrogates
from benchsuite.records.fields import Fields
from benchsuite.records.files import Owner
from benchsuite.records.reading import parsed

NAME = "progress.jsonl"


@dataclass(frozen=True)
class Plan:
    """What a session is to run, by whom: node ids, the words it was given, when it began.

    ``run`` is xdist's name of it. ``goes_on`` says that further sessions of its process may follow.
    """

    owner: Owner
    run: str
    began: float
    words: tuple[str, ...]
    workers: int
    goes_on: bool
    items: tuple[str, ...]


@dataclass(frozen=True)
class Ended:
    """How an item ended: ``cached``, ``passed``, ``failed`` or ``skipped``, and why.

    ``seconds`` are those of the item, of a cached cell those of its record.
    """

    nodeid: str
    outcome: str
    seconds: float
    worker: str
    reason: str = ""


class Journal:
    """Writes one. A disk that takes nothing costs those who watch, and nobody else."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self._path = folder / NAME
        self._numbers = {nodeid: number for number, nodeid in enumerate(plan.items)}
        self._append({**vars(plan), "owner": str(plan.owner)})

    def item(self, ended: Ended) -> None:
        """Note how an item ended; one that was not planned is none of its items."""
        number = self._numbers.get(ended.nodeid)
        if number is not None:
            self._append({**vars(ended), "nodeid": number})

    def end(self, status: int) -> None:
        """Note pytest's exit status: the session is over."""
        self._append({"status": status, "ended": time.time()})

    def _append(self, body: dict[str, object]) -> None:
        line = f"{without_surrogates(json.dumps(body, ensure_ascii=False))}\n".encode()
        with contextlib.suppress(OSError):
            file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                os.write(file, line)
            finally:
                os.close(file)


class Reader:
    """Reads one while it grows; ``plan`` is None until its first line is whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.plan: Plan | None = None
        self.status: int | None = None
        self.ended = 0.0
        self._at = 0

    def begin(self) -> Plan | None:
        """Read the plan alone: of many sessions most are over, and the rest of theirs is long."""
        if self.plan is None:
            with contextlib.suppress(OSError), open(self.path, "rb") as file:
                line = file.readline()
                if line.endswith(b"\n"):
                    self._at = len(line)
                    with contextlib.suppress(ValueError, CorruptRecord):
                        self.plan = _plan(Fields(parsed(line)))
        return self.plan

    def news(self) -> list[Ended]:
        """Return how items ended since the last call; what cannot be read is passed over."""
        plan = self.begin()
        if plan is None:
            return []
        try:
            with open(self.path, "rb") as file:
                file.seek(self._at)
                whole = file.read().rpartition(b"\n")[0]
        except OSError:
            return []
        self._at += len(whole) + bool(whole)
        found = []
        for line in whole.splitlines():
            with contextlib.suppress(ValueError, CorruptRecord, IndexError):
                told = Fields(parsed(line))
                if "status" in told:
                    self.status, self.ended = told.whole("status"), told.number("ended")
                else:
                    found.append(_ended(told, plan.items))
        return found


def new_folder(reports: Path, began: datetime) -> Path:
    """Return the folder of a session that begins at ``began`` (UTC), which is not made here.

    Folders sort by when their sessions began, also those that begin within one second.
    """
    return reports / "sessions" / f"{began:%Y%m%dT%H%M%S.%fZ}-{uuid.uuid4().hex[:6]}"


def journals(reports: Path) -> Sequence[Path]:
    """Return the journals of a reports folder, the newest first; none where nothing has run."""
    return sorted((reports / "sessions").glob(f"*/{NAME}"), reverse=True)


def _ended(line: Fields, items: Sequence[str]) -> Ended:
    return Ended(
        items[line.whole("nodeid")],
        line.text("outcome"),
        line.number("seconds"),
        line.text("worker"),
        line.text("reason"),
    )


def _plan(line: Fields) -> Plan:
    owner = Owner.of(line.text("owner"))
    if owner is None:
        raise CorruptRecord("malformed: owner")
    return Plan(
        owner,
        line.text("run"),
        line.number("began"),
        line.texts("words"),
        line.whole("workers"),
        line.flag("goes_on"),
        line.texts("items"),
    )
