"""Which cells may stand in one table: same model, same parameters, same kind of weights."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchsuite import catalog
from benchsuite.records.record import Record
from benchsuite.reporting.rows import shown
from benchsuite.study.cell import Cell
from benchsuite.study.plan import plain

KINDS = ("real", "stand_in", "rehearsal")


@dataclass(frozen=True)
class Group:
    """The cells of one model that may be compared, and their records.

    ``key`` is the source documents' model name, followed by the values of further axes and by every
    parameter that is not the study's default: ``llama-2-7b-hf__quant_bits-3``.
    """

    key: str
    model: str
    kind: str
    cells: tuple[Cell, ...]
    records: Mapping[str, Record] = field(default_factory=dict)

    @functools.cached_property
    def methods(self) -> dict[str, list[Cell]]:
        """The cells of each method, in the grid's order."""
        found: dict[str, list[Cell]] = {}
        for cell in self.cells:
            found.setdefault(cell.method, []).append(cell)
        return found

    @property
    def missing(self) -> list[Cell]:
        """The declared cells without a good record."""
        return [cell for cell in self.cells if cell.id not in self.records]

    def records_of(self, method: str) -> dict[int, Record]:
        """Return seed -> record for the cells of a method that have one."""
        cells = self.methods.get(method, ())
        return {c.seed: self.records[c.id] for c in cells if c.id in self.records}

    def values(self, method: str, metric: str) -> dict[int, Any]:
        """Return seed -> value of a metric, for the records that hold it."""
        found = {seed: r.value(metric) for seed, r in self.records_of(method).items()}
        return {seed: v for seed, v in found.items() if v is not None}

    @property
    def label(self) -> str:
        """The name under which the group is judged and shown."""
        return f"{self.key} (stand-in)" if self.kind == "stand_in" else self.key

    @property
    def document_name(self) -> str:
        """The model's name in the source documents."""
        return catalog.document_name(self.model)

    @property
    def marks(self) -> list[str]:
        """What tells the group from others of its model: further axes, changed parameters."""
        cell = self.cells[0]
        changed = {k: v for k, v in cell.changed.items() if k not in cell.additions}
        told = [f"{name.replace('_', ' ')} {shown(value)}" for name, value in changed.items()]
        return [*_further(cell), *told]

    @property
    def stand_in(self) -> str | None:
        """Why the weights only stand in for the model, or None."""
        reasons = {reason for r in self.records.values() if (reason := r.source.stand_in)}
        return "; ".join(sorted(reasons)) or None


def groups_of(
    cells: Iterable[Cell], records: Mapping[str, Record] | Sequence[Record]
) -> list[Group]:
    """Return the groups of a grid in its order; failed records never count.

    ``records`` is keyed by cell id, or a sequence of records. A model whose records are of two
    kinds gives two groups, each over all its cells.
    """
    by_id = _by_id(records)
    grids: dict[str, list[Cell]] = {}
    keys: dict[tuple[str, ...], str] = {}
    for cell in cells:
        # The key is the same for all seeds, and costs more than to look it up.
        alike = (*_further(cell), cell.model, repr(cell.parameters), repr(cell.defaults))
        if alike not in keys:
            keys[alike] = group_key(cell)
        grids.setdefault(keys[alike], []).append(cell)
    groups = []
    for key, members in grids.items():
        found: dict[str, dict[str, Record]] = {}
        for cell in members:
            for record in by_id.get(cell.id, ()):
                if _belongs(record, cell):
                    found.setdefault(record.kind, {})[cell.id] = record
        for kind in KINDS:
            if kind in (found or {"real": {}}):
                mine = found.get(kind, {})
                groups.append(Group(key, members[0].model, kind, tuple(members), mine))
    return groups


def group_key(cell: Cell) -> str:
    """Return the name of the cell's group: document name, further axes, changed parameters."""
    additions = {k: v for k, v in cell.parameters.items() if k in cell.additions}
    plain = replace(cell, parameters={**cell.parameters, **_own(cell.defaults, additions)})
    unchanged = replace(plain, defaults=plain.parameters)
    changed = plain.name[len(unchanged.name) :].strip("_")
    return "__".join([catalog.document_name(cell.model), *_further(cell), *filter(None, [changed])])


def _further(cell: Cell) -> list[str]:
    return [str(v) for k, v in cell.axes.items() if k not in ("model", "method", "seed")]


def _own(defaults: Mapping[str, Any], additions: Mapping[str, Any]) -> dict[str, Any]:
    return {k: defaults.get(k) for k in additions}


def _by_id(records: Mapping[str, Record] | Sequence[Record]) -> dict[str, list[Record]]:
    by_id: dict[str, list[Record]] = {}
    for record in records.values() if isinstance(records, Mapping) else records:
        if record.passed:
            by_id.setdefault(record.cell.id, []).append(record)
    return by_id


def _belongs(record: Record, cell: Cell) -> bool:
    """Say whether a record measured the cell with the cell's own parameters."""
    measured, declared = record.cell.parameters, dict(cell.parameters)
    # JSON turns tuples into lists: the texts are compared where the objects differ.
    return measured == declared or plain(measured) == plain(declared)
