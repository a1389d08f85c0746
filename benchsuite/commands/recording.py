"""The store behind ``compare`` and ``gate``: a pair that was measured is not measured again."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from benchsuite.catalog import Sources
from benchsuite.comparing.early import LOOKS
from benchsuite.comparing.endpoint import is_endpoint, parse_endpoint
from benchsuite.comparing.gating import Gated, judged_metrics
from benchsuite.comparing.keeping import Part
from benchsuite.comparing.kinds import margin_of
from benchsuite.comparing.measured import Beside, Settings
from benchsuite.comparing.questions import QuestionSet
from benchsuite.comparing.subject import identity
from benchsuite.records import environment
from benchsuite.records.code import code_digest
from benchsuite.records.comparisons import ComparisonRecord, Comparisons
from benchsuite.records.fingerprint import Fingerprint, digest
from benchsuite.records.forms import now

Found = TypeVar("Found", Beside, Gated)
CODE = {Beside: "benchsuite.comparing.comparison", Gated: "benchsuite.comparing.gating"}
"""The module whose code makes a record of each kind."""


@dataclass(frozen=True)
class _Pair:
    """A candidate's fingerprint and its inputs; ``known`` says that they are those of files.

    What a server serves is not known: it is recorded and never taken for another time's.
    """

    fingerprint: Fingerprint
    inputs: dict[str, Any]
    libraries: tuple[str, ...]
    known: bool


class Recording(Generic[Found]):
    """What the store knows of one command's pairs, and where what is measured goes.

    ``kind`` is what is recorded of a pair, ``words`` are the base and its candidates. ``asked`` is
    what makes two measurements of the same files different ones. With ``rerun`` all are measured,
    and beside the records of before.
    """

    def __init__(
        self,
        kind: type[Found],
        words: Sequence[str],
        asked: Mapping[str, Any],
        sources: Sources,
        *,
        device: str,
        reports: Path,
        rerun: bool = False,
    ) -> None:
        self._kind: type[Found] = kind
        self._words, self._asked, self._rerun = words, asked, rerun
        self._store = Comparisons(reports)
        self._environment = _environment(device)
        self._code = code_digest(CODE[kind])
        self._sides = [None if is_endpoint(word) else identity(word, sources) for word in words]
        self._pairs = {place: self._pair(place) for place in range(1, len(words))}
        self._key = digest([asked, self._environment, self._code, self._digest(0), rerun])[:24]
        self._begun = time.perf_counter(), now()
        self._found: dict[int, ComparisonRecord] = {}
        self.lines: list[str] = []

    def known(self) -> dict[int, Found]:
        """Return what is recorded, by the candidates' places; those are told in ``lines``."""
        known = {}
        for place, pair in self._pairs.items():
            record = self._store.read(pair.fingerprint.value) if pair.known else None
            if record is None or not isinstance(record.found, self._kind):
                continue
            if not self._rerun:
                known[place] = _renamed(record.found, self._words[0], self._words[place])
                self.lines.append(
                    f"{self._words[place]}: from the record of {record.started_at} "
                    f"({pair.fingerprint.value[:12]}); --rerun measures again"
                )
            else:
                self._found[place] = record
        self.lines += self._store.notices
        self._begun = time.perf_counter(), now()
        return known

    def finish(self) -> None:
        """Remove what was kept of a comparison under way: all of it is recorded."""
        self._store.finish(self._key)

    def done(self, place: int, found: Found) -> None:
        """Record what was measured of the pair at ``place``."""
        pair, (begun, started) = self._pairs[place], self._begun
        kept = self._store.write(
            ComparisonRecord(
                pair.fingerprint,
                pair.inputs,
                self._environment | {name: environment.version(name) for name in pair.libraries},
                _renamed(found, _shown(self._words[0]), _shown(self._words[place])),
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

    def keep(
        self, sides: tuple[int, ...], name: str, kind: object, make: Callable[[], Part]
    ) -> Part:
        """Return a part that was kept of a run that broke off, or make it and keep it."""
        if any(self._sides[side] is None for side in sides):
            return make()  # what a server answered is in its journal
        part = digest([name, *(self._digest(side) for side in sides)])[:24]
        return self._store.part(f"{self._key}.{part}", kind, make)

    # --- what a pair is

    def _pair(self, place: int) -> _Pair:
        sides = [side for side in (self._sides[0], self._sides[place]) if side is not None]
        known = len(sides) == 2
        inputs = dict(self._asked) | {"base": self._digest(0), "candidate": self._digest(place)}
        if not known:
            inputs["asked_at"] = now()
        libraries = tuple(sorted({name for side in sides for name in side.libraries}))
        numeric = environment.numeric_identity(self._environment, libraries)
        fingerprint = Fingerprint(digest(inputs), self._code, digest(numeric))
        return _Pair(fingerprint, inputs, libraries, known)

    def _digest(self, place: int) -> str:
        side = self._sides[place]
        return side.digest if side is not None else parse_endpoint(self._words[place]).name


def asked_of_pairs(settings: Settings) -> dict[str, Any]:
    """Return what ``compare`` asks of every pair; margins are no part of it."""
    return _asked(settings) | {"layers": settings.layers, "speed": settings.speed}


def asked_of_gate(settings: Settings) -> dict[str, Any]:
    """Return what ``gate`` asks: its margins and levels say how far it measures."""
    margins = {name: margin_of(name, settings.margins) for name in judged_metrics(settings)}
    levels = {"alpha": settings.alpha, "power": settings.power, "looks": LOOKS}
    return _asked(settings) | levels | {"margins": margins}


def _asked(settings: Settings) -> dict[str, Any]:
    return {
        "text": settings.text.digest,
        "tokens": settings.tokens,
        "seq_len": settings.seq_len,
        "group": settings.group,
        "questions": {
            asked.name: [asked.digest, asked.form, len(asked.items), *_shown_before(asked)]
            for asked in settings.sets
        },
    }


def _shown_before(asked: QuestionSet) -> list[Any]:
    """Return how many worked examples a set is asked after, and the digest of those."""
    examples = [asdict(example) for example in asked.examples]
    return [len(examples), digest(examples)] if examples else [0]


# --- names: a record names none of this machine's folders


def _renamed(found: Found, base: str, candidate: str) -> Found:
    if isinstance(found, Gated):
        return replace(found, base=base, candidate=candidate)
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

    return environment.describe(environment.named(device), torch.get_num_threads())
