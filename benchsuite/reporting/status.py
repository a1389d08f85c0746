"""The status tracker: how many cells of every model and method are done, failed or missing."""

from collections.abc import Sequence

from benchsuite.reporting.results import StudyResults
from benchsuite.reporting.rows import Row

STATES = ("done", "failed", "stale", "missing")


def status_rows(results: Sequence[StudyResults]) -> list[Row]:
    """Return a row per model and method of the grid, in its order; ``status`` sums it up.

    Failed, stale and missing cells are named by seed; a failed one with its reason in short.
    """
    counts: dict[tuple[str, str], Row] = {}
    seen = set()  # a cell that several settings have is one
    for one in results:
        for cell in one.cells:
            if (one.weights, cell.name) in seen:
                continue
            seen.add((one.weights, cell.name))
            row = counts.setdefault(
                (cell.model, cell.method),
                {"model": cell.model, "method": cell.method, "status": ""}
                | dict.fromkeys(STATES, 0)
                | {"note": ""},
            )
            state = _state(one, cell.id)
            row[state] += 1
            if state == "failed" and not row["note"]:
                failure = one.failed[cell.id].failure
                row["note"] = failure.last_line[:160] if failure else ""
    for row in counts.values():
        row["status"] = _summary(row)
    return list(counts.values())


def _state(results: StudyResults, cell_id: str) -> str:
    if cell_id in results.records:
        return "done"
    if cell_id in results.failed:
        return "failed"
    return "stale" if cell_id in results.stale else "missing"


def _summary(row: Row) -> str:
    if row["failed"]:
        return "failed"
    total = sum(row[state] for state in STATES)
    if row["done"] == total:
        return "complete"
    return "not started" if row["missing"] == total else "partial"
