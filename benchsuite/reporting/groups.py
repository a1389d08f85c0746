"""Which cells may stand in one table: same model, same parameters, same kind of weights."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchsuite import catalog
from benchsuite.records.record import Record
from benchsuite.reporting.rows import shown
from benchsuite.reporting.settings import signature, together
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
        firsts = [cells[0] for cells in self.methods.values()]
        changed = {
            k: v for cell in firsts for k, v in cell.changed.items() if k not in cell.additions
        }
        told = [
            f"{name.replace('_', ' ')} {shown(value)}" for name, value in sorted(changed.items())
        ]
        return [*_further(firsts[0]), *told]

    @property
    def stand_in(self) -> str | None:
        """Why the weights only stand in for the model, or None."""
        reasons = {reason for r in self.records.values() if (reason := r.source.stand_in)}
        return "; ".join(sorted(reasons)) or None


def short_names(groups: Iterable[Group]) -> dict[str, str]:
    """Return label -> the label without the settings that all of the groups have in common."""
    groups = list(groups)
    parts = [group.key.split("__") for group in groups]
    shared = set.intersection(*(set(found[1:]) for found in parts)) if parts else set()
    return {
        group.label: group.label.replace(
            group.key, "__".join(found[:1] + [part for part in found[1:] if part not in shared])
        )
        for group, found in zip(groups, parts, strict=True)
    }


def groups_of(
    cells: Iterable[Cell], records: Mapping[str, Record] | Sequence[Record]
) -> list[Group]:
    """Return the groups of a grid in its order; failed records never count.

    ``records`` is keyed by cell id, or a sequence of records. A model whose records are of two
    kinds gives two groups, each over all its cells. A method that lacks a parameter which another
    has stands beside it at each of that parameter's values.
    """
    by_id = _by_id(records)
    grids = _grids(cells)
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


def _grids(cells: Iterable[Cell]) -> dict[str, list[Cell]]:
    """Return the cells of each group by its key, in the grid's order."""
    # What makes a setting is the same for all seeds, and costs more than to look it up.
    places: dict[tuple[str, ...], dict[tuple[str, str], list[tuple[int, Cell]]]] = {}
    for place, cell in enumerate(cells):
        alike = repr(cell.parameters), repr(cell.defaults)
        where = places.setdefault((cell.model, *_further(cell)), {})
        where.setdefault(alike, []).append((place, cell))
    grids: dict[str, list[Cell]] = {}
    for kinds in map(list, (found.values() for found in places.values())):
        firsts = [members[0][1] for members in kinds]
        signs = [signature(c.parameters, c.changed, c.additions) for c in firsts]
        for setting in together(signs):
            members = sorted((pair for i in setting for pair in kinds[i]), key=lambda pair: pair[0])
            key = group_key([firsts[i] for i in setting])
            grids.setdefault(key, []).extend(cell for _, cell in members)
    return grids


def group_key(cells: Sequence[Cell]) -> str:
    """Return a group's name: document name, further axes, changed parameters of its methods."""
    cell = cells[0]
    changed = {k: v for c in cells for k, v in c.changed.items() if k not in c.additions}
    defaults = {k: v for c in cells for k, v in c.defaults.items()}
    whole = replace(cell, parameters=defaults | changed, defaults=defaults)
    plain = replace(whole, parameters=defaults)
    told = whole.name[len(plain.name) :].strip("_")
    return "__".join([catalog.document_name(cell.model), *_further(cell), *filter(None, [told])])


def _further(cell: Cell) -> list[str]:
    return [str(v) for k, v in cell.axes.items() if k not in ("model", "method", "seed")]


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
