"""The source documents' own files: flat JSON that their scripts wrote, without any key of ours."""

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from benchsuite import catalog
from benchsuite.records.fingerprint import Fingerprint
from benchsuite.records.record import TIME, CellFacts, Record, Source, Times
from benchsuite.study import Study, names, study
from benchsuite.study.cell import Cell
from benchsuite.study.declared import RESERVED


def outcome_of(body: Mapping[str, Any]) -> str:
    """Say what became of a source document's run: with a number that a study ranks by it passed."""
    ranked_by = {study(name).ranked_by.name for name in names()}
    measured = any(body.get(metric) is not None for metric in ranked_by)
    return str(body.get("outcome", "passed" if measured else "unknown"))


def adopted(body: Mapping[str, Any]) -> Record | None:
    """Return a source document's object as a record, or None if no study has such a cell.

    Its model and method name the study; what it says of parameters is taken over, and its weights
    are *unknown*.
    """
    found = next((c for name in names() if (c := _cell_of(study(name), body))), None)
    if found is None:
        return None
    times = {
        name.removesuffix(TIME): float(seconds)
        for name, seconds in body.items()
        if name.endswith(TIME) and isinstance(seconds, int | float)
    }
    apart = {*found.axes, *found.parameters, *RESERVED, *(f"{stage}{TIME}" for stage in times)}
    return Record(
        cell=CellFacts.of(found),
        fingerprint=Fingerprint("", "", ""),
        source=Source("unknown", hub_id=str(body["model"])),
        times=Times(reported=times, making=times.pop("total", None)),
        values={name: value for name, value in body.items() if name not in apart},
        outcome=outcome_of(body),
        started_at=str(body.get("started_at") or ""),
    )


def _cell_of(declared: Study, body: Mapping[str, Any]) -> Cell | None:
    if set(declared.axes) != {"model", "method"} or body["method"] not in declared.axes["method"]:
        return None
    for model in declared.axes["model"]:
        entry = catalog.model(model)
        if body["model"] in (entry.hub_id, entry.document_name) and _is_seed(body["seed"]):
            point = {"model": model, "method": str(body["method"])}
            own = declared_cell(declared.name, tuple(point.items()))
            said = {k: v for k, v in body.items() if k in own.parameters}
            axes = {**point, "seed": body["seed"]}
            return replace(own, axes=axes, parameters={**own.parameters, **said})
    return None


def _is_seed(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@functools.cache
def declared_cell(name: str, point: tuple[tuple[str, Any], ...]) -> Cell:
    """Return the cell that a study declares at a point of its axes, with its defaults."""
    declared = study(name)
    axes = {k: (v,) for k, v in point}
    small = replace(declared, axes={k: axes[k] for k in declared.axes}, includes=_every_cell)
    return next(small.cells(seeds=(0,)))


def _every_cell(axes: Mapping[str, Any]) -> bool:
    return True
