"""Which models a session asked for: the comparisons on them are declared, run or not."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from benchsuite.harness.session import Bench


def asked_for(
    bench: Bench, chosen: Sequence[str], left: Mapping[str, Mapping[str, Any]]
) -> dict[str, frozenset[str]]:
    """Return study -> the places (``Cell.place``) of its cells that were chosen and can run here.

    ``chosen`` are the node ids that ``-k`` and ``-m`` left, ``left`` what the items among them
    left that came to an end. Where nothing can run on this machine, nothing was asked for: that
    is known without a look at any result.
    """
    tests = {_test(nodeid): facts["study"] for nodeid, facts in left.items()}
    places = {
        (study, cell.id): cell.place for study in set(tests.values()) for cell in bench.cells(study)
    }
    states: dict[tuple[str, str], set[str]] = {}
    for nodeid in chosen:
        study = tests.get(_test(nodeid), "")
        found = (places.get((study, cell_id)) for cell_id in possible_cells(nodeid))
        place = next(filter(None, found), None)
        if place is not None:
            state = left.get(nodeid, {}).get("state", "waits")
            states.setdefault((study, place), set()).add(state)
    asked: dict[str, set[str]] = {}
    for (study, place), seen in states.items():
        if seen != {"cannot_run"}:
            asked.setdefault(study, set()).add(place)
    return {study: frozenset(found) for study, found in asked.items()}


def models_of(bench: Bench, asked: Mapping[str, frozenset[str]]) -> set[str]:
    """Return the models of the places that `asked_for` found: also of cells that never began."""
    return {
        cell.model
        for study, places in asked.items()
        for cell in bench.cells(study)
        if cell.place in places
    }


def possible_cells(nodeid: str) -> Iterator[str]:
    """Yield what may be a cell's id; other parameters, as pytest-repeat's, come behind it."""
    parameters = nodeid.partition("[")[2].removesuffix("]")
    return accumulate(parameters.split("-"), "{}-{}".format)


def _test(nodeid: str) -> str:
    return nodeid.partition("[")[0]
