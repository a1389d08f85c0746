"""Published numbers beside a study's own: which of them may be compared, and why others may not."""

from dataclasses import asdict
from typing import Any

from benchsuite.reporting.groups import Group
from benchsuite.study import Published, study


def beside(group: Group) -> list[dict[str, Any]]:
    """Return the published numbers of the group's study, each marked ``comparable`` or context.

    Comparable needs: status P, real weights from the hub, the cell's method and every parameter
    that the row names. ``why`` says what keeps a value from it. A group that measures another
    quantity, on another text for instance, has none.
    """
    if group.kind != "real":
        return []
    found = []
    for row in study(group.cells[0].study).document.published:
        if row.model == group.model and _measures(row, group):
            why = _obstacle(row, group)
            told = {k: v for k, v in asdict(row).items() if k != "protocol"}
            found.append({**told, "comparable": not why, "why": why})
    return found


def _measures(row: Published, group: Group) -> bool:
    return all(group.cells[0].parameters.get(k) == v for k, v in row.protocol.items())


def _obstacle(row: Published, group: Group) -> str:
    if row.status != "P":
        return "known from a secondary source only"
    weights = {record.source.weights for record in group.records.values()}
    if weights != {"hub"}:
        return "not the hub's weights"
    if row.method not in group.methods:
        return "another method"
    parameters = group.cells[0].parameters
    other = [k for k, v in row.parameters.items() if parameters.get(k) != v]
    return f"other {', '.join(other)}" if other else ""
