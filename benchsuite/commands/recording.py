"""The store behind ``compare``: a pair that was measured is not measured again."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchsuite.catalog import Sources
from benchsuite.comparing.comparison import Before
from benchsuite.comparing.endpoint import is_endpoint, parse_endpoint
from benchsuite.comparing.keeping import Part
from benchsuite.comparing.measured import Beside, Settings
from benchsuite.comparing.subject import identity
from benchsuite.records import environment
from benchsuite.records.building import now
from benchsuite.records.code import code_digest
from benchsuite.records.comparisons import ComparisonRecord, Comparisons
from benchsuite.records.fingerprint import Fingerprint, digest


@dataclass(frozen=True)
class _Pair:
    """A candidate's fingerprint and its inputs; ``known`` says that they are those of files.

    What a server serves is not known: it is recorded and never taken for another time's.
    """

    fingerprint: Fingerprint
    inputs: dict[str, Any]
    libraries: tuple[str, ...]
    known: bool


class Recording:
    """What the store knows of one command's pairs, and where what is measured goes.

    ``words`` are the base and its candidates. With ``rerun`` all are measured, and beside the
    records of before.
    """

    def __init__(
        self,
        words: Sequence[str],
        settings: Settings,
        sources: Sources,
        *,
        device: str,
        reports: Path,
        rerun: bool = False,
    ) -> None:
        self._words, self._settings, self._rerun = words, settings, rerun
        self._store = Comparisons(reports)
        self._environment = _environment(device)
        self._code = code_digest("benchsuite.comparing.comparison")
        self._sides = [None if is_endpoint(word) else identity(word, sources) for word in words]
        self._pairs = {place: self._pair(place) for place in range(1, len(words))}
        self._key = digest([self._inputs(), self._environment, self._code, self._digest(0), rerun])[
            :24
        ]
        self._begun = time.perf_counter(), now()
        self._found: dict[int, ComparisonRecord] = {}
        self.lines: list[str] = []

    def before(self) -> Before:
        """Return what is known, and who hears of what is measured."""
        known = {}
        for place, pair in self._pairs.items():
            record = self._store.read(pair.fingerprint.value) if pair.known else None
            if record is not None and not self._rerun:
                known[place] = self._named(record.found, place)
                self.lines.append(
                    f"{self._words[place]}: from the record of {record.started_at} "
                    f"({pair.fingerprint.value[:12]}); --rerun measures again"
                )
            elif record is not None:
                self._found[place] = record
        self.lines += self._store.notices
        self._begun = time.perf_counter(), now()
        return Before(known, self._done, self._keep)

    def finish(self) -> None:
        """Remove what was kept of a comparison under way: all of it is recorded."""
        self._store.finish(self._key)

    def _done(self, place: int, found: Beside) -> None:
        pair, (begun, started) = self._pairs[place], self._begun
        kept = self._store.write(
            ComparisonRecord(
                pair.fingerprint,
                pair.inputs,
                self._environment | {name: environment.version(name) for name in pair.libraries},
                self._told(found, place),
                started,
                time.perf_counter() - begun,
            )
        )
        self._begun = time.perf_counter(), now()
        before = self._found.get(place)
        if before is not None:
            same = before.results_sha256 == kept.results_sha256
            self.lines.append(
                f"{self._words[place]}: measured again, {'the same' if same else 'other'} bits "
                f"{'as' if same else 'than'} the record of {before.started_at}"
            )

    def _keep(
        self, sides: tuple[int, ...], name: str, kind: object, make: Callable[[], Part]
    ) -> Part:
        if any(self._sides[side] is None for side in sides):
            return make()  # what a server answered is in its journal
        part = digest([name, *(self._digest(side) for side in sides)])[:24]
        return self._store.part(f"{self._key}.{part}", kind, make)

    # --- what a pair is

    def _pair(self, place: int) -> _Pair:
        sides = [side for side in (self._sides[0], self._sides[place]) if side is not None]
        known = len(sides) == 2
        inputs = self._inputs() | {"base": self._digest(0), "candidate": self._digest(place)}
        if not known:
            inputs["asked_at"] = now()
        libraries = tuple(sorted({name for side in sides for name in side.libraries}))
        numeric = environment.numeric_identity(self._environment, libraries)
        fingerprint = Fingerprint(digest(inputs), self._code, digest(numeric))
        return _Pair(fingerprint, inputs, libraries, known)

    def _digest(self, place: int) -> str:
        side = self._sides[place]
        return side.digest if side is not None else parse_endpoint(self._words[place]).name

    def _inputs(self) -> dict[str, Any]:
        """Return what is asked of every pair; margins are no part of it, nor is what is written."""
        settings = self._settings
        return {
            "text": settings.text.digest,
            "tokens": settings.tokens,
            "seq_len": settings.seq_len,
            "group": settings.group,
            "layers": settings.layers,
            "speed": settings.speed,
            "questions": {
                asked.name: [asked.digest, asked.form, len(asked.items), len(asked.examples)]
                for asked in settings.sets
            },
        }

    # --- names: a record names none of this machine's folders

    def _told(self, found: Beside, place: int) -> Beside:
        return _renamed(found, _shown(self._words[0]), _shown(self._words[place]))

    def _named(self, found: Beside, place: int) -> Beside:
        return _renamed(found, self._words[0], self._words[place])


def _renamed(found: Beside, base: str, candidate: str) -> Beside:
    measured = found.measured
    facts = replace(measured.facts, name=candidate)
    return replace(
        found, base=replace(found.base, name=base), measured=replace(measured, facts=facts)
    )


def _shown(word: str) -> str:
    return word if is_endpoint(word) else Path(word).name if Path(word).exists() else word


def _environment(device: str) -> dict[str, Any]:
    """Return versions and the device, as records have them."""
    import torch

    kind, _, index = device.partition(":")
    found = environment.gpus()[int(index or 0)] if kind == "cuda" else environment.cpu()
    return environment.describe(found, torch.get_num_threads())
