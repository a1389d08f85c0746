"""What was judged when: ``store/judged.jsonl``, a line for each new look at a study's records.

A comparison that was judged at five seeds and again at ten was looked at twice. The records do not
say so, for they only grow. A model that was asked for belongs to the family of its study's
comparisons, run or not, and must not leave it with the session that asked.
"""

import contextlib
import datetime
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FILE = "judged.jsonl"


@dataclass(frozen=True)
class Look:
    """One look: which comparisons were judged at which seeds, and what was first asked for then.

    ``judged`` maps a claim's sentence to the models that it was judged on; ``asked`` are places
    (``Cell.place``); ``plan`` is the digest of the plan it was judged under, or empty. ``at`` is
    the time in UTC.
    """

    at: str
    study: str
    seeds: tuple[int, ...] = ()
    judged: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    asked: tuple[str, ...] = ()
    plan: str = ""


class JudgedLog:
    """The looks at the records of one store, whose folder is ``root``."""

    def __init__(self, root: Path) -> None:
        self.path = root / FILE

    def looks(self, study: str) -> list[Look]:
        """Return the looks at a study, oldest first; a damaged line is none."""
        return [look for look in self._all() if look.study == study]

    def asked(self, study: str) -> frozenset[str]:
        """Return the places of a study that any session has asked for."""
        return frozenset(place for look in self.looks(study) for place in look.asked)

    def note(
        self,
        study: str,
        judged: Iterable[tuple[str, str, tuple[int, ...]]],
        asked: Iterable[str] = (),
        plan: str = "",
    ) -> None:
        """Add what is new: (claim, model, seeds) that were not judged so before, places asked for.

        Raises ``OSError`` where the file cannot be written.
        """
        before = self.looks(study)
        known = {(c, m, k.seeds) for k in before for c, models in k.judged.items() for m in models}
        by_seeds: dict[tuple[int, ...], dict[str, list[str]]] = {}
        for claim, model, seeds in judged:
            if (claim, model, seeds) not in known:
                by_seeds.setdefault(seeds, {}).setdefault(claim, []).append(model)
        at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        further = tuple(sorted(set(asked) - {place for look in before for place in look.asked}))
        found = [
            Look(at, study, seeds, {c: tuple(m) for c, m in claims.items()}, plan=plan)
            for seeds, claims in by_seeds.items()
        ]
        if further:
            found.append(Look(at, study, asked=further, plan=plan))
        if found:
            self._append(found)

    def _append(self, looks: Iterable[Look]) -> None:
        lines = [json.dumps({k: v for k, v in asdict(look).items() if v}) for look in looks]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                whole = file.read(1) == b"\n"  # else a writer died in its line
                lines = lines if whole else ["", *lines]
            file.write("".join(f"{line}\n" for line in lines).encode())

    def _all(self) -> Iterator[Look]:
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return
        for line in lines:
            with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
                yield _look(json.loads(line))


def _look(body: Mapping[str, Any]) -> Look:
    return Look(
        str(body["at"]),
        str(body["study"]),
        tuple(int(seed) for seed in body.get("seeds", ())),
        {str(claim): tuple(map(str, on)) for claim, on in body.get("judged", {}).items()},
        tuple(map(str, body.get("asked", ()))),
        str(body.get("plan", "")),
    )
