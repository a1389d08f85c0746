"""Comparisons and gates in the store: one base beside one candidate, typed and sealed.

::

    reports/store/comparisons/<fingerprint>.json            a pair as it was first measured
                              <fingerprint>.rerun-<n>.json  the same pair measured again
    reports/store/unfinished/<key>.<part>.json              parts of a comparison that is under way

No margin and no verdict is in a comparison: those are judged from its items whenever it is shown,
so that one measurement serves every margin. A gate measures no further than its margins take it:
its record has the verdict, and its margins and levels are of what it is found by.
"""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchsuite.comparing.gating import Gated
from benchsuite.comparing.keeping import Part
from benchsuite.comparing.measured import Beside
from benchsuite.errors import BenchsuiteError, CorruptRecord
from benchsuite.records.files import make_folder, write_whole
from benchsuite.records.fingerprint import Fingerprint, digest
from benchsuite.records.forms import SEAL, as_text, now, sealed
from benchsuite.records.plain_data import as_json, of_json
from benchsuite.records.reading import LaterVersion, sealed_object
from benchsuite.records.store import unwritable

VERSION = 1
KINDS: dict[str, Any] = {"comparison": Beside, "gate": Gated}


@dataclass(frozen=True)
class ComparisonRecord:
    """One pair as it was measured.

    ``inputs`` say what the fingerprint's first digest is of: both models' digests, the text, the
    questions, how they were read. ``results_sha256`` is the digest of all that was measured but
    times and names: equal bits, equal digest. ``sha256`` is that of the whole file, empty before
    it is written.
    """

    fingerprint: Fingerprint
    inputs: Mapping[str, Any]
    environment: Mapping[str, Any]
    found: Beside | Gated
    started_at: str
    seconds: float
    results_sha256: str = ""
    sha256: str = field(default="", compare=False)


class Comparisons:
    """The comparisons under one reports folder; ``notices`` say which files were moved aside."""

    def __init__(self, reports: Path) -> None:
        self.folder = reports / "store" / "comparisons"
        self._unfinished = reports / "store" / "unfinished"
        self._aside = reports / "store" / "moved_aside"
        self._reports = reports
        self.notices: list[str] = []

    def read(self, fingerprint: str) -> ComparisonRecord | None:
        """Return the first measurement of a fingerprint; a damaged one is moved aside and None."""
        return self._read(self.folder / f"{fingerprint}.json")

    def all(self) -> Iterator[ComparisonRecord]:
        """Yield every readable comparison, reruns too."""
        for path in sorted(self.folder.glob("[!.]*.json")):
            found = self._read(path)
            if found is not None:
                yield found

    def write(self, record: ComparisonRecord) -> ComparisonRecord:
        """Keep a comparison and return it as kept; nothing is overwritten."""
        body = sealed(_body(record))
        try:
            make_folder(self.folder)
            for attempt in itertools.count():
                ending = f".rerun-{attempt}" if attempt else ""
                path = self.folder / f"{record.fingerprint.value}{ending}.json"
                with contextlib.suppress(FileExistsError):
                    if not os.path.lexists(path):
                        write_whole(path, as_text(body), exclusive=True)
                        break
        except OSError as error:
            raise unwritable(self._reports, error) from error
        return _record(body)

    # --- what is under way

    def part(self, key: str, kind: Any, make: Callable[[], Part]) -> Part:
        """Return a part of a comparison that was kept under ``key``, or make it and keep it."""
        path = self._unfinished / f"{key}.json"
        with contextlib.suppress(OSError, CorruptRecord):
            found: Part = of_json(kind, sealed_object(path.read_bytes()).get("part"))
            return found
        made = make()
        with contextlib.suppress(OSError):  # a full disk costs a second measurement at most
            make_folder(self._unfinished)
            write_whole(path, as_text(sealed({"part": as_json(made)}), indent=None))
        return made

    def finish(self, key: str) -> None:
        """Remove the parts whose keys begin with ``key``: their comparison is recorded."""
        for path in self._unfinished.glob(f"{key}*.json"):
            path.unlink(missing_ok=True)

    # --- files

    def _read(self, path: Path) -> ComparisonRecord | None:
        try:
            found = _record(sealed_object(path.read_bytes()))
            if found.fingerprint.value != path.name.partition(".")[0]:
                raise CorruptRecord("its fingerprint is not its file's name")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except CorruptRecord as error:
            self._move_aside(path, error.what)
            return None
        except OSError as error:
            raise BenchsuiteError(
                f"a comparison cannot be read: {error.strerror}",
                str(path),
                "make it readable, or name another folder with --reports-dir",
            ) from error
        return found

    def _move_aside(self, path: Path, why: str) -> None:
        with contextlib.suppress(OSError):
            self._aside.mkdir(parents=True, exist_ok=True)
            kept = self._aside / f"{path.name}.{digest([path.name, now()])[:8]}"
            os.replace(path, kept)
            self.notices.append(f"moved aside: {path.name}: {why}; kept as {kept.name}")


def results_digest(found: Beside | Gated) -> str:
    """Return the digest of what was measured: equal bits give an equal one."""
    told = as_json(found)
    if isinstance(found, Gated):
        return digest({name: told[name] for name in ("verdict", "planned", "items")})
    for facts in (told["base"], told["measured"]["facts"]):
        for name in ("name", "speed", "notes"):
            del facts[name]
    if told["measured"]["reading"]:
        del told["measured"]["reading"]["seconds"]
    return digest(told)


def _body(record: ComparisonRecord) -> dict[str, Any]:
    return {
        "schema_version": VERSION,
        "kind": next(name for name, kind in KINDS.items() if isinstance(record.found, kind)),
        "fingerprint": record.fingerprint.as_dict(),
        "inputs": record.inputs,
        "environment": record.environment,
        "started_at": record.started_at,
        "seconds": record.seconds,
        "found": as_json(record.found),
        "results_sha256": results_digest(record.found),
    }


def _record(body: Mapping[str, Any]) -> ComparisonRecord:
    version = body.get("schema_version")
    kind = KINDS.get(str(body.get("kind")))
    if kind is None or not isinstance(version, int):
        raise CorruptRecord("not a comparison")
    if version > VERSION:
        raise LaterVersion(
            f"a later version of benchsuite wrote a comparison: schema_version {version}",
            fix="upgrade benchsuite, or name another folder",
        )
    told = of_json(dict[str, str], body.get("fingerprint"), "fingerprint")
    parts = (told.get(name, "") for name in ("inputs", "code", "environment"))
    found = ComparisonRecord(
        Fingerprint(*parts),
        of_json(dict[str, Any], body.get("inputs"), "inputs"),
        of_json(dict[str, Any], body.get("environment"), "environment"),
        of_json(kind, body.get("found"), "found"),
        of_json(str, body.get("started_at"), "started_at"),
        of_json(float, body.get("seconds"), "seconds"),
        of_json(str, body.get("results_sha256"), "results_sha256"),
        str(body[SEAL]),
    )
    if found.fingerprint.value != told.get("value"):
        raise CorruptRecord("its fingerprint is not that of its digests")
    if results_digest(found.found) != found.results_sha256:
        raise CorruptRecord("its results are not those of their digest")
    return found
