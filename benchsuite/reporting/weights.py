"""Whose weights a record measured, and which records may therefore stand in one comparison."""

import re
from collections.abc import Callable, Set
from dataclasses import dataclass, field

from benchsuite import catalog
from benchsuite.records.record import Record
from benchsuite.reporting.groups import Group

# To this dtype the same weights were rounded: it follows from the device, and is told with it.
_DTYPE = re.compile(r":(auto|float32|float16|bfloat16)$")


def kind_of(record: Record) -> str:
    """Return ``embedded``, ``dequantized``, or an empty text for what a hub's model is itself."""
    known = record.source.weights
    return known if known in ("embedded", "dequantized") else ""


def kinds_of(group: Group) -> set[str]:
    """Return the kinds of a group's weights; without records what its model's would be."""
    found = {kind_of(record) for record in group.records.values() if record.source.weights}
    return found or {"embedded" if catalog.model(group.model).embedded else ""}


def other_weights(one: Group, other: Group) -> bool:
    """Say whether two groups of one name are surely of different weights."""
    return are_apart(*({identity(r) for r in group.records.values()} for group in (one, other)))


def are_apart(some: Set[tuple[str, str]], others: Set[tuple[str, str]]) -> bool:
    """Say whether no weights of the first can be any of the others."""
    return not any(_may_be(a, b) for a in some for b in others)


def identity(record: Record) -> tuple[str, str]:
    """Return the kind of a record's weights and the digest of their files, empty if unknown."""
    return kind_of(record), _DTYPE.sub("", record.source.weights_digest or "")


def _may_be(one: tuple[str, str], other: tuple[str, str]) -> bool:
    unknown = "" in (one[1], other[1])
    return one[0] == other[0] and (unknown or one[1] == other[1])


@dataclass
class Variants:
    """The weights that one model's name stood for, in the order in which they were met.

    Two folders may give different files for one name (``--local``), or a release may have trained
    an embedded model again. Numbers of such weights are never compared.
    """

    met: dict[tuple[str, str, str], list[tuple[str, str]]] = field(default_factory=dict)

    def index(self, record: Record, apart_by_design: Callable[[], bool]) -> int:
        """Return which of its model's weights a record measured; 0 where it does not say.

        Different files are no other weights where the study itself asks for them:
        ``apart_by_design`` says so, and is only asked where they differ.
        """
        source = record.source
        if source.weights in (None, "unknown", "checkpoint"):
            return 0
        mine = identity(record)
        place = record.cell.study, record.cell.model, record.kind
        known = self.met.setdefault(place, [])
        for i, other in enumerate(known):
            if _may_be(other, mine):
                known[i] = other[0], other[1] or mine[1]
                return i
        if known and apart_by_design():
            return 0
        known.append(mine)
        return len(known) - 1


def described(record: Record) -> str:
    """Return the weights in words: ``local weights (sha 1f2e3d4c)``."""
    digest = (record.source.weights_digest or "").partition(":")
    told = digest[2] if digest[0] in ("gguf", "package", "hub", "random") else digest[0]
    return f"{record.source.weights} weights" + (f" ({told[:12]}…)" if told else "")
