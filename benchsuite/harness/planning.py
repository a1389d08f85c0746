"""``--plan FILE``: a session that runs what a frozen plan has, and judges by it."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchsuite.study import Cell

if TYPE_CHECKING:
    from benchsuite.harness.session import Bench

# The seed in the file name of a record's view; parameters may come behind it.
_SEED = re.compile(r"__seed(\d+)(?=__|$)")


def check(bench: "Bench") -> None:
    """Raise ``UsageError`` unless the studies still have the cells of the session's plan."""
    plan = bench.options.plan
    if plan is not None:
        for name, planned in plan.studies.items():
            planned.check(bench.grid(name, planned.seeds), str(plan.path))


def seeds_measured(bench: "Bench", cells: Iterable[Cell]) -> dict[tuple[str, str], set[int]]:
    """Return (place, method) -> the seeds of which the store shows a record, planned or not.

    Records with the cells' own parameters count, whatever code and machine they are of.
    """
    folders: dict[Path, dict[str, set[int]]] = {}
    found: dict[tuple[str, str], set[int]] = {}
    for cell in {(cell.place, cell.method): cell for cell in cells}.values():
        path = bench.store.view_path(cell.study, cell.name, bench.weights_of(cell))
        if path.parent not in folders:
            folders[path.parent] = _seeds_in(path.parent)
        arm = _SEED.sub("__seed", path.stem)
        found[cell.place, cell.method] = folders[path.parent].get(arm, set())
    return found


def _seeds_in(folder: Path) -> dict[str, set[int]]:
    """Return the views' names without their seed -> the seeds."""
    found: dict[str, set[int]] = {}
    for path in folder.glob("*.json"):
        seed: Any = _SEED.search(path.stem)
        if seed:
            found.setdefault(_SEED.sub("__seed", path.stem), set()).add(int(seed[1]))
    return found
