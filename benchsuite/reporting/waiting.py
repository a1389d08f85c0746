"""What a claim that was not run waits for, and the command that runs it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchsuite.reporting.commands import rerun_command
from benchsuite.reporting.results import StudyResults
from benchsuite.statistics.inference.claims import Judgement
from benchsuite.study import Cell

MOST_SEEDS = 5


@dataclass(frozen=True)
class Waiting:
    """The cells that a claim waits for, in words: where they are, their arms, their command."""

    place: str
    arms: str
    command: str


def waiting(
    results: StudyResults, judgement: Judgement, cells: Mapping[str, Cell]
) -> Waiting | None:
    """Return what a claim waits for; None if it was judged, or the grid has no cell for it.

    ``cells`` is the study's grid by cell id.
    """
    awaited = [cells[i] for i in judgement.evidence.get("missing", ()) if i in cells]
    if judgement.outcome != "not_run" or not awaited:
        return None
    by_method: dict[str, list[Cell]] = {}
    for cell in awaited:
        by_method.setdefault(cell.method, []).append(cell)
    arms = " and ".join(_arm(method, found) for method, found in by_method.items())
    command = rerun_command(results.study, awaited, results.options, results.where, by_method=True)
    return Waiting(_place(awaited[0]), arms, command)


def _arm(method: str, cells: Sequence[Cell]) -> str:
    seeds = [str(seed) for seed in sorted(cell.seed for cell in cells)]
    more = f" and {len(seeds) - MOST_SEEDS} more" if len(seeds) > MOST_SEEDS else ""
    return f"{method} (seed{'s' if seeds[1:] else ''} {', '.join(seeds[:MOST_SEEDS])}{more})"


def _place(cell: Cell) -> str:
    """Return what the cells of a claim share: the model, and the further axes."""
    return ", ".join(v for axis, v in cell.axes.items() if axis not in ("method", "seed"))
