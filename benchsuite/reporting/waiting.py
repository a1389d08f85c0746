"""The cells that decide a claim, or that it waits for, and the command that runs them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchsuite.printable import some
from benchsuite.reporting.commands import rerun_command
from benchsuite.reporting.groups import Group
from benchsuite.reporting.results import StudyResults
from benchsuite.statistics.inference.claims import Judgement
from benchsuite.study import Cell

MOST_SEEDS = 5


@dataclass(frozen=True)
class Waiting:
    """Cells of a claim in words: where they are, their arms with the seeds, their command.

    ``told`` says what the claim waits for, or that nothing is left to run.
    """

    place: str
    arms: str
    command: str
    told: str


def waiting(
    results: StudyResults, judgement: Judgement, cells: Mapping[str, Cell]
) -> Waiting | None:
    """Return what a claim waits for; None if it was judged, or the grid has no cell for it.

    ``cells`` is the study's grid by cell id.
    """
    awaited = [cells[i] for i in judgement.evidence.get("missing", ()) if i in cells]
    if judgement.outcome != "not_run" or not awaited:
        return None
    missing = [cell for cell in awaited if cell.id not in results.records]
    if missing:
        return _told(results, missing)
    seeds = _arms(awaited)  # that ran and kept nothing: to run them again would change nothing
    told = f"{judgement.claim.metric} is in no record of {seeds}: nothing is left to run"
    return Waiting(_place(awaited[0]), seeds, "", told)


def deciding(results: StudyResults, judgement: Judgement, group: Group | None) -> Waiting | None:
    """Return the cells whose records decided a claim; None if it was not judged.

    ``group`` is the one on which it was.
    """
    if group is None or judgement.outcome == "not_run":
        return None
    arms = dict.fromkeys(filter(None, (judgement.claim.method, judgement.claim.other)))
    cells = [c for arm in arms for c in group.methods.get(arm, ()) if c.id in group.records]
    return _told(results, cells) if cells else None


def _told(results: StudyResults, cells: Sequence[Cell]) -> Waiting:
    arms = _arms(cells)
    command = rerun_command(
        results.study, cells, results.options, results.where, grid=results.cells, by_method=True
    )
    return Waiting(_place(cells[0]), arms, command, f"waits for {arms}")


def _arms(cells: Sequence[Cell]) -> str:
    by_method: dict[str, list[Cell]] = {}
    for cell in cells:
        by_method.setdefault(cell.method, []).append(cell)
    return " and ".join(_arm(method, found) for method, found in by_method.items())


def _arm(method: str, cells: Sequence[Cell]) -> str:
    seeds = [str(seed) for seed in sorted(cell.seed for cell in cells)]
    return f"{method} (seed{'s' if seeds[1:] else ''} {some(seeds, MOST_SEEDS)})"


def _place(cell: Cell) -> str:
    """Return what the cells of a claim share: the model, and the further axes."""
    return ", ".join(v for axis, v in cell.axes.items() if axis not in ("method", "seed"))
