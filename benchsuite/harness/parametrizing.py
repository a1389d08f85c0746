"""The cells of a study, given to the one test that measures them."""

from collections.abc import Iterator, Sized
from typing import Any

import pytest

from benchsuite import catalog
from benchsuite.errors import UsageError
from benchsuite.harness import inputs
from benchsuite.harness.session import Bench
from benchsuite.study import Cell

SMALL_PARAMETERS = 4_000_000_000


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Give a study's test its cells.

    A test that would measure a cell more than once is refused: all but the first time the cell
    would be served from the store, whatever the test says.
    """
    test = metafunc.definition
    mark = test.get_closest_marker("study")
    if mark is None:
        return
    takes_cells = "cell" in metafunc.fixturenames
    own = [one for one in test.own_markers if one.name == "study"]
    where = next(node for node, _ in test.iter_markers_with_node("study"))
    beside = [one for node, one in test.iter_markers_with_node("study") if node is where]
    if not takes_cells and not own:  # a helper's test below the mark of a module or a class
        return
    name = mark.args[0] if mark.args else None
    if not isinstance(name, str):
        raise UsageError(
            "the mark study names no study", test.nodeid, "write @pytest.mark.study('NAME')"
        )
    if len(mark.args) > 1 or len(beside) > 1:
        every = ", ".join(str(arg) for one in beside for arg in one.args)
        raise UsageError(
            f"one test is marked with several studies: {every}",
            test.nodeid,
            "give each study a test of its own, with one mark",
        )
    if not takes_cells:
        raise UsageError(
            f"the test of study {name} takes no fixture 'cell', and would measure none",
            test.nodeid,
            "write `def test_it(cell, record)`",
        )
    bench = Bench.of(metafunc.config)
    cells = bench.cells(name)
    if by := list(_further_parameters(metafunc)):
        raise UsageError(
            f"the test of study {name} is parametrized by {', '.join(by)} too, which no cell knows",
            test.nodeid,
            "make it an axis or a parameter of the study, and read it from the cell",
        )
    first = bench.tests.setdefault(name, test.nodeid)
    if first != test.nodeid:
        raise UsageError(
            f"two tests measure study {name}: {first} and {test.nodeid}",
            fix="name the file of one, or give the other a study of its own",
        )
    named = bench.options.models
    found = [_parameter(cell, any_model=cell.model in named) for cell in cells]
    metafunc.parametrize("cell", found)


def _further_parameters(metafunc: pytest.Metafunc) -> Iterator[str]:
    """Yield by what a test is parametrized: marks and fixtures with more than one value."""
    for mark in metafunc.definition.iter_markers("parametrize"):
        named = dict(zip(("argnames", "argvalues"), mark.args, strict=False))
        given: dict[str, Any] = {**named, **mark.kwargs}
        values = given.get("argvalues")
        if not isinstance(values, Sized) or len(values) > 1:
            yield str(given.get("argnames"))
    # Without a public name; where it has another, such a fixture goes unnoticed.
    for name, found in getattr(metafunc, "_arg2fixturedefs", {}).items():
        if len(found[-1].params or ()) > 1:
            yield name


def _parameter(cell: Cell, *, any_model: bool = False) -> Any:
    """Return the pytest parameter of a cell: its id and the marks that select it.

    ``any_model`` says that its model was named on the command line.
    """
    entry = catalog.model(cell.model)
    marks = [pytest.mark.cell(study=cell.study, **cell.axes)]
    marks.append(pytest.mark.embedded if entry.embedded else pytest.mark.hub)
    if not entry.embedded and entry.weight_bytes > inputs.CPU_WEIGHT_BYTES:
        marks.append(pytest.mark.gpu)
    small = entry.n_parameters < SMALL_PARAMETERS
    marks.append(pytest.mark.small if small else pytest.mark.large)
    if any_model:
        marks.append(pytest.mark.any_model)
    return pytest.param(cell, id=cell.id, marks=marks)


def refuse_outside_a_cell(fixturedef: pytest.FixtureDef[Any]) -> None:
    """Say of a fixture that found no cell what its test lacks, if it is one of ours."""
    name = fixturedef.argname
    if name in ("record", "progress") and fixturedef.func.__module__.startswith("benchsuite."):
        raise pytest.fail.Exception(
            f"the fixture {name!r} is of a cell: mark the test with @pytest.mark.study('NAME') "
            "and let it take the fixture 'cell'",
            pytrace=False,
        ) from None
