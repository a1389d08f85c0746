"""What pytest collects for a command's arguments."""

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchsuite.errors import UsageError
from benchsuite.harness import items
from benchsuite.harness.session import Bench
from benchsuite.study import Cell


class Collected:
    """What pytest collects for the given arguments, and under which session state."""

    def __init__(self) -> None:
        self.cells: list[tuple[str, Cell, Path]] = []
        self.bench: Bench | None = None

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note the cells after ``-k`` and ``-m`` have chosen."""
        self.bench = Bench.of(session.config)
        for item in session.items:
            cell = items.cell_of(item)
            if cell is not None:
                self.cells.append((item.nodeid, cell, Path(item.path)))

    def studies(self) -> dict[str, Path]:
        """Return the collected studies and the file of each one's test."""
        return {cell.study: path for _, cell, path in self.cells}


def collect(arguments: Sequence[str]) -> Collected:
    """Collect as ``pytest`` would; the arguments are pytest's own (-k, -m, --reports-dir, ...)."""
    collected = Collected()
    # Without a path of the user's own, pytest falls back on testpaths.
    command = ["--collect-only", "-q", "-o", "testpaths=benchmarks", *_joined(arguments)]
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        status = pytest.main(command, plugins=[collected])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        reason = _reason(output.getvalue())
        fix = "run this from the folder that holds `benchmarks`, or name the test files"
        raise UsageError(
            f"pytest could not collect the cells: {reason}",
            fix=fix if "not found" in reason else "",
        )
    return collected


def _joined(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with the reports folder in one word with its option.

    As a word of its own pytest takes a folder that exists for one with tests, and its root from it.
    """
    words: list[str] = []
    for word in arguments:
        if words and words[-1] == "--reports-dir":
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


def _reason(output: str) -> str:
    """Return why a collection failed, from what pytest wrote."""
    said = output.splitlines()
    wrong = [line.partition("error: ")[2] for line in said if "(): error: " in line]
    wrong += [line for line in said if line.startswith(("ERROR", "E  "))]
    refused = [line for line in said if "Did you mean" in line]
    return " ".join((refused or wrong or said[-1:])[0].removeprefix("ERROR: ").split()).rstrip(".")


def register_own() -> None:
    """Load the conftest of the folder that the command is run in: it may register studies."""
    if Path("conftest.py").exists():
        collect([".", "--ignore-glob=*"])
