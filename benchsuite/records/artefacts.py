"""Large things that are built once and shared: folders named by the digest of their key.

A folder is whole when its ``artefact.json`` names every file with its digest. It is checked when a
process first asks for it, and built again when anything in it is missing, cut or changed.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from benchsuite.errors import CorruptRecord
from benchsuite.records.fields import Fields
from benchsuite.records.files import draft_in, flush, inside, sha256, write_whole
from benchsuite.records.fingerprint import digest
from benchsuite.records.forms import SEAL, as_text, now, sealed
from benchsuite.records.reading import sealed_object

CARD = "artefact.json"


@dataclass(frozen=True)
class Artefact:
    """A content-addressed folder: ``seconds`` is what its one build cost."""

    path: Path
    seconds: float
    built_now: bool


class Artefacts:
    """The artefacts in one folder; ``say`` is told of each that is built again."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder, self._say = folder, say
        # The seals of the artefacts that this process has checked.
        self._checked: set[str] = set()

    def name(self, key: Mapping[str, Any]) -> str:
        """Return the name of the folder for ``key``."""
        return digest(key)[:40]

    def get(self, key: Mapping[str, Any], build: Callable[[Path], None]) -> Artefact:
        """Return the folder for ``key``, built by ``build(folder)`` if nobody has built it yet."""
        name = self.name(key)
        final = self.folder / name
        with filelock.FileLock(self.folder / f"{name}.lock"):
            if final.exists():
                try:
                    return Artefact(final, self._check(final, key), False)
                except CorruptRecord as error:
                    self._say(f"built again: artefact {name}: {error.what}")
            seconds = self._build(final, key, build)
        return Artefact(final, seconds, True)

    def _check(self, final: Path, key: Mapping[str, Any]) -> float:
        """Return what an artefact cost; `CorruptRecord` if it is not what was built."""
        try:
            card = sealed_object((final / CARD).read_bytes())
            part = Fields(card)
            seconds, files = part.number("seconds"), part.table("files")
            if card.get("key") != _told(key):
                raise CorruptRecord("it was built for another key")
            if card[SEAL] not in self._checked:
                _compare(final, files)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise CorruptRecord(f"{Path(error.filename).name} is missing") from error
        self._checked.add(card[SEAL])
        return seconds

    def _build(self, final: Path, key: Mapping[str, Any], build: Callable[[Path], None]) -> float:
        draft = draft_in(self.folder)
        draft.mkdir()
        try:
            start = time.perf_counter()
            build(draft)
            seconds = time.perf_counter() - start
            files = {name: sha256(draft / name) for name in sorted(_files(draft))}
            for inside in (*_files(draft), *_folders(draft)):
                flush(draft / inside)
            card = sealed(
                {"key": _told(key), "seconds": seconds, "built_at": now(), "files": files}
            )
            write_whole(draft / CARD, as_text(card))
            if final.is_dir():
                shutil.rmtree(final)
            else:
                final.unlink(missing_ok=True)
            os.rename(draft, final)
            flush(self.folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        self._checked.add(card[SEAL])
        return seconds


def _told(key: Mapping[str, Any]) -> Any:
    """Return what will be read back of a key."""
    return json.loads(json.dumps(dict(key), default=str))


def _compare(folder: Path, files: Mapping[str, Any]) -> None:
    there = _files(folder) - {CARD}
    for name in sorted(there ^ set(files)):
        raise CorruptRecord(f"{name} {'was added' if name in there else 'is missing'}")
    for name in sorted(there):
        if sha256(folder / name) != files[name]:
            raise CorruptRecord(f"{name} was changed after it was built")


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in inside(folder) if not path.is_dir()}


def _folders(folder: Path) -> list[str]:
    """Return the folders inside, the innermost first, and the folder itself."""
    found = [path.relative_to(folder).as_posix() for path in inside(folder) if path.is_dir()]
    return [*sorted(found, key=len, reverse=True), "."]
