"""``--plan FILE``: a session that runs what a frozen plan has, and judges by it."""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchsuite.errors import UsageError
from benchsuite.study import Cell, use_margins
from benchsuite.study.plan import FrozenPlan

if TYPE_CHECKING:
    from benchsuite.harness.options import Options
    from benchsuite.harness.session import Bench

# The seed in the file name of a record's view; parameters may come behind it.
_SEED = re.compile(r"__seed(\d+)(?=__|$)")


def under(options: "Options", plan: FrozenPlan) -> "Options":
    """Return the options with what the plan fixes; others in its place are a usage error."""
    planned = {(n, p): v for n, values in plan.settings.items() for p, v in values.items()}
    for name, values in options.settings.items():
        for parameter, value in values.items():
            if (name, parameter) not in planned or planned[name, parameter] != value:
                raise _fixed(plan, f"--set {name}.{parameter}={value}")
    if options.tour and not plan.tour:
        raise _fixed(plan, "--tour")
    if options.downstream not in ("", plan.downstream):
        raise _fixed(plan, f"--downstream={options.downstream}")
    if options.until_decided not in (0, plan.most):
        raise _fixed(plan, f"--until-decided={options.until_decided}")
    known = {seed for planned in plan.studies.values() for seed in planned.seeds}
    further = [seed for seed in options.seeds if seed not in known]
    if further:
        raise _fixed(plan, f"--seeds {','.join(map(str, further))}")
    margins = options.margins or plan.margins  # other ones are a departure, which is told
    use_margins(margins)
    return replace(
        options,
        plan=plan,
        margins=margins,
        tour=plan.tour,
        downstream=plan.downstream,
        settings=plan.settings,
        until_decided=plan.most,
    )


def _fixed(plan: FrozenPlan, word: str) -> UsageError:
    return UsageError(
        f"{word} is not in the plan",
        str(plan.path),
        "leave it away, for the plan fixes it, or run it without --plan",
    )


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
