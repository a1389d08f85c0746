"""A study's grid under the options of a session: seeds, ``--set``, ``--tour``, ``--downstream``."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchsuite.study.cell import Cell
from benchsuite.study.registry import study


def grid_under(
    name: str,
    seeds: Sequence[int],
    *,
    settings: Mapping[str, Mapping[str, Any]],
    tour: bool,
    downstream: str,
) -> list[Cell]:
    """Return a study's grid over its own or other ``seeds``; ``settings`` are by study."""
    declared = study(name)
    first = dict.fromkeys(declared.additions, True)
    every = first if downstream == "all" else {}
    lender = declared.under_todays_names(settings.get(declared.settings_of, {}))
    lent = {k: v for k, v in lender.items() if k in declared.parameters}
    return list(
        declared.cells(
            seeds=seeds or None,
            settings=every | lent | dict(settings.get(name, {})),
            first_seed=first if downstream == "first" else None,
            tour=tour,
        )
    )
