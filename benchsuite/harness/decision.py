"""What is to be done about one cell, decided once and handed on to all that follows."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchsuite.errors import BenchsuiteError
from benchsuite.records.fingerprint import Fingerprint
from benchsuite.records.record import Record
from benchsuite.study import Cell


class State(enum.StrEnum):
    """What the store says of a cell."""

    CACHED = "cached"  # its good record is there
    STALE = "stale"  # the record that is there is of other inputs, code or environment
    FAILED = "failed"  # the last attempt at it failed
    MISSING = "missing"
    RERUN = "rerun"  # its good record is there, and it is wanted again
    BLOCKED = "blocked"  # it cannot be decided: ``error`` says why


@dataclass(frozen=True)
class Identity:
    """A cell's fingerprint with what was digested: ``parts`` maps inputs, code, environment.

    ``uses_torch`` says whether its code imports torch, whose generator is seeded then.
    """

    fingerprint: Fingerprint
    parts: Mapping[str, Mapping[str, Any]]
    uses_torch: bool

    @property
    def is_provisional(self) -> bool:
        """Whether weights are known by their hub id only, until running the cell downloads them."""
        return any(str(d).startswith("hub:") for d in self.parts["inputs"]["weights"].values())


@dataclass
class Decision:
    """One cell, where its test is, what it is, and what is known of it."""

    cell: Cell
    benchmark: Path
    state: State
    identity: Identity | None = None
    record: Record | None = None
    reasons: list[str] = field(default_factory=list)
    error: BenchsuiteError | None = None

    @property
    def fingerprint(self) -> Fingerprint | None:
        """The identity of the measurement, or None where it cannot be told."""
        return self.identity.fingerprint if self.identity else None

    @property
    def runs(self) -> bool:
        """Whether the cell has to be measured."""
        return self.state not in (State.CACHED, State.BLOCKED)
