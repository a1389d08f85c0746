"""What a check of some numbers says: which relation was tested, whether it is kept, what fits."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchsuite.printable import count

NOTHING = (
    "no two numbers were found that determine each other, so nothing was checked; means with their "
    "standard deviations are read, and tests with their t, p or d"
)


@dataclass(frozen=True)
class Finding:
    """Numbers that cannot belong together: where, which, and what would fit."""

    where: str
    message: str
    given: Mapping[str, Any] = field(default_factory=dict)
    would_fit: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Relation:
    """One relation that was tested; ``name`` is of its kind, ``message`` says how it is broken.

    A ``limit`` is a relation of a single number, such as p <= 1. It is no evidence that the
    numbers belong together.
    """

    name: str
    kept: bool
    message: str = ""
    given: Mapping[str, Any] = field(default_factory=dict)
    would_fit: Mapping[str, Any] = field(default_factory=dict)
    limit: bool = False

    def finding(self, where: str, told: str = "") -> Finding:
        """Return the finding of a broken relation."""
        return Finding(where, self.message + told, self.given, self.would_fit)


@dataclass
class Checked:
    """What a summary was found to be: its ``findings``, and how much was tested at all.

    ``unless`` are numbers that belong together only under an assumption that the summary does not
    state, such as pairs; they are no contradiction. ``relations`` counts the relations between
    numbers by their kind, ``limits`` the single numbers that were held against their range.
    """

    findings: list[Finding] = field(default_factory=list)
    unless: list[Finding] = field(default_factory=list)
    relations: Counter[str] = field(default_factory=Counter)
    limits: int = 0

    def add(self, where: str, tested: Iterable[Relation]) -> None:
        """Count relations and keep those that are broken."""
        for relation in tested:
            self.count([relation])
            if not relation.kept:
                self.findings.append(relation.finding(where))

    def count(self, tested: Sequence[Relation]) -> None:
        """Count relations whose outcome is told in another way."""
        self.relations.update(r.name for r in tested if not r.limit)
        self.limits += sum(r.limit for r in tested)

    @property
    def passed(self) -> bool:
        """Whether numbers were held together, and none contradicts another."""
        return bool(self.relations) and not self.findings

    @property
    def sentence(self) -> str:
        """How many relations were tested, of which kinds, and how many are broken."""
        if not self.relations:
            broken = f"{count(len(self.findings), 'impossible number')}; " if self.findings else ""
            return broken + NOTHING
        total = self.relations.total()
        kinds = ", ".join(f"{name} {n}" for name, n in sorted(self.relations.items()))
        said = f"{count(total, 'relation')} between numbers tested ({kinds})"
        if self.limits:
            said += f" and {count(self.limits, 'limit')} of single ones"
        n = len(self.findings)
        return f"{said}: " + (count(n, "contradiction") if n else "no contradiction")
