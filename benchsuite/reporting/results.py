"""One study's grid beside what was measured: what every page, table and verdict is made of."""

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchsuite.records.record import Record
from benchsuite.reporting.groups import groups_of
from benchsuite.study import Cell, Study

if TYPE_CHECKING:
    from benchsuite.reporting.planned import Standing
    from benchsuite.statistics.inference.claims import Judgement

Line = tuple[str, dict[str, bool]]


@dataclass
class StudyResults:
    """One study's grid beside what the store holds of it.

    ``where`` are the words by which pytest finds the cells, ``options`` those that it needs to mean
    these very cells; ``files`` are what the study's own reporter wrote, relative to the reports
    folder; ``notes`` say what went wrong there.
    ``asked`` are the places (``Cell.place``) that a session has asked for, run or not.
    ``standing`` says how they stand to the frozen plan that they were judged under.
    ``conflicts`` tell records of one cell that differ, ``links`` where a cell's record lies if not
    in the store under the report, ``item_names`` by what name the page of items finds a cell,
    ``benchmark`` is the study's test file. ``weights`` is empty for what the study shows first of
    its models, and tells results apart that are of other weights under the same names.
    """

    study: Study
    cells: list[Cell]
    records: dict[str, Record] = field(default_factory=dict)
    stale: dict[str, list[str]] = field(default_factory=dict)
    failed: dict[str, Record] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    judgements: "list[Judgement]" = field(default_factory=list)
    where: tuple[str, ...] = ("benchmarks",)
    options: tuple[str, ...] = ()
    files: list[Path] = field(default_factory=list)
    drawn: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)
    item_names: dict[str, str] = field(default_factory=dict)
    benchmark: Path = Path()
    asked: frozenset[str] = frozenset()
    standing: "Standing | None" = None
    weights: str = ""

    @property
    def apart(self) -> str:
        """By what these results are told from the study's own of the same names; empty for those.

        Rehearsals need no word: ``Record.kind`` tells them apart wherever they stand.
        """
        words = self.weights.split()
        number = words.pop() if words and words[-1].isdigit() else ""
        kind = "" if words == ["rehearsal"] else "".join(words)
        return ", ".join(filter(None, (kind, number and f"other weights {number}")))

    @functools.cached_property
    def over(self) -> dict[str, Any]:
        """The claims over models and the methods' mean ranks, json-able; fitted once."""
        from benchsuite.reporting import over_models  # with numpy, which no other session needs

        return over_models.over(self.study, groups_of(self.cells, self.records))
