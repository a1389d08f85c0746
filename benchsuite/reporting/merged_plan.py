"""The records of several reports folders under one frozen plan: half of it was run elsewhere."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchsuite.printable import count
from benchsuite.records.judged import JudgedLog, Look
from benchsuite.reporting.merging import (
    OTHERS,
    Found,
    Key,
    Sources,
    judged,
    read_sources,
    results_over,
)
from benchsuite.reporting.planned import Arm, looks_of, standing
from benchsuite.reporting.results import StudyResults
from benchsuite.study import Cell, study, use_margins
from benchsuite.study.grid import grid_under
from benchsuite.study.plan import FrozenPlan


def judged_under(
    frozen: FrozenPlan | None, directories: Sequence[str | Path], links: Path | None = None
) -> tuple[Sources, list[StudyResults]]:
    """Return what the directories hold, judged by the plan: its cells, family, alpha and looks.

    What the plan does not have is left out, and noted. The looks that sessions took at their own
    folders count, and the plan's margins hold from then on. Without a plan it is `merging.judged`.
    Raises ``UsageError`` for a plan of other cells than the studies'.
    """
    if frozen is None:
        return judged(directories, links)
    sources = read_sources(directories)
    return sources, _judged(frozen, sources, directories, links)


def _judged(
    frozen: FrozenPlan, sources: Sources, directories: Sequence[str | Path], links: Path | None
) -> list[StudyResults]:
    from benchsuite.reporting import judge_study

    use_margins(frozen.margins)
    made = [_results(frozen, name, sources, links) for name in frozen.studies]
    shown = sum(len(one.records) + len(one.failed) for one in made)
    others = len(sources.good) + len(sources.failed) - shown
    if others:
        sources.notes.append(f"left out {count(others, 'record')}: no cells of {frozen.path.name}")
    folders = list(map(Path, directories))
    for one in made:
        name = one.study.name
        one.judgements = judge_study(
            one,
            columns=sources.columns,
            alpha=frozen.alpha,
            plan=looks_of(frozen, name),
            declared=frozen.studies[name].family,
        )
        cells = _planned(frozen, name)
        one.standing = standing(
            frozen,
            one.study,
            cells,
            one.records,
            due=len(one.cells),
            looks=_looks(folders, name),
            measured=_measured(cells, sources),
        )
    return made


def _planned(frozen: FrozenPlan, name: str) -> list[Cell]:
    """Return the plan's cells of a study, later looks' too."""
    planned = frozen.studies[name]
    fixed = {"settings": frozen.settings, "tour": frozen.tour, "downstream": frozen.downstream}
    grid = grid_under(name, planned.seeds, **fixed)  # type: ignore[arg-type]
    planned.check(grid, str(frozen.path))
    return [cell for cell in grid if cell.id in planned.cells]


def _results(frozen: FrozenPlan, name: str, sources: Sources, links: Path | None) -> StudyResults:
    cells, planned = _planned(frozen, name), frozen.studies[name]
    good = {cell.id: found for cell in cells if (found := _of(cell, sources.good))}
    failed = {
        cell.id: found
        for cell in cells
        if cell.id not in good and (found := _of(cell, sources.failed))
    }
    # Further seeds are run where a comparison is open, and missing nowhere.
    first = planned.seeds[: planned.looks[0]]
    due = [c for c in cells if c.seed in first or c.id in good or c.id in failed]
    made = results_over(study(name), due, good, failed, sources, links)
    made.options = ("--plan", str(frozen.path))
    return made


def _of(cell: Cell, found: Mapping[Key, Found]) -> Found | None:
    """Return the cell's record: of its model's own weights, or of what stands in for them."""
    keys = [(cell.study, cell.name, kind, 0) for kind in reversed(OTHERS)]
    return next((found[key] for key in keys if key in found), None)


def _looks(folders: Sequence[Path], name: str) -> list[Look]:
    """Return the looks that sessions took at any of the folders, oldest first."""
    found = [look for folder in folders for look in JudgedLog(folder / "store").looks(name)]
    return sorted(found, key=lambda look: look.at)


def _measured(cells: Sequence[Cell], sources: Sources) -> dict[Arm, set[int]]:
    """Return (place, method) -> the seeds of which there are records with the arm's parameters."""
    arms = {_without_seed(cell.name, cell.seed): (cell.place, cell.method) for cell in cells}
    measured: dict[Arm, set[int]] = {arm: set() for arm in arms.values()}
    for found in sources.good.values():
        facts = found.record.cell
        arm = arms.get(_without_seed(facts.name, facts.seed))
        if arm is not None and facts.study == cells[0].study and found.kind in OTHERS:
            measured[arm].add(facts.seed)
    return measured


def _without_seed(name: str, seed: int) -> str:
    return f"{name}__".replace(f"__seed{seed}__", "__seed__")
