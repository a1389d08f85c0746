"""The ``benchsuite`` command: what there is, what is done, what it says."""

import argparse
import contextlib
import io
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchsuite import catalog, items
from benchsuite.cell import Cell
from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.session import Bench
from benchsuite.study import study


class _Collected:
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


def collect(arguments: Sequence[str]) -> _Collected:
    """Collect as ``pytest`` would; the arguments are pytest's own (-k, -m, --reports-dir, ...)."""
    collected = _Collected()
    # Without a path of the user's own, pytest falls back on testpaths.
    command = ["--collect-only", "-q", "-o", "testpaths=benchmarks"]
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        status = pytest.main([*command, *arguments], plugins=[collected])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise UsageError(
            f"pytest could not collect the cells: {_reason(output.getvalue())}",
            fix="run this from the folder that holds `benchmarks`, or name the test files",
        )
    return collected


def _reason(output: str) -> str:
    lines = [line for line in output.splitlines() if line.startswith(("ERROR", "E  "))]
    return " ".join((lines or output.splitlines()[-1:])[0].split())


def list_studies(arguments: Sequence[str]) -> int:
    """Print the studies: question, axes, seeds, parameters."""
    collected = collect(arguments)
    by_study = Counter(cell.study for _, cell, _ in collected.cells)
    for name in collected.studies():
        declared = study(name)
        print(f"{name}: {declared.question}")
        for axis, values in declared.axes.items():
            print(f"  {axis:<10} {', '.join(values)}")
        print(f"  {'seeds':<10} {', '.join(map(str, declared.seeds))}")
        settings = (f"{k}={v!r}" for k, v in declared.parameters.items())
        print(f"  {'parameters':<10} {', '.join(settings)}")
        print(f"  {by_study[name]} cells selected\n")
    for kind, table in catalog.TABLES.items():
        print(f"{kind}: {', '.join(table)}")
    return 0


def status(arguments: Sequence[str]) -> int:
    """Print which cells are done, stale, failed, running or missing."""
    collected = collect(arguments)
    if collected.bench is None:
        return 0
    bench = collected.bench
    running = {m["nodeid"] for m in bench.store.running_markers()}
    states: dict[str, list[str]] = {}
    for nodeid, cell, path in collected.cells:
        decision = bench.decide(cell, path)
        state = {"cached": "done"}.get(decision.state, decision.state)
        if nodeid in running and state != "done":
            state = "running"
        note = ""
        if decision.error is not None:
            note = f": {decision.error}"
        elif decision.reasons:
            note = f": changed {', '.join(decision.reasons)}"
        elif state == "failed" and decision.record:
            note = f": {decision.record['error']['message'].splitlines()[-1][:120]}"
        states.setdefault(state, []).append(f"{cell.study}/{cell.id}{note}")
    for state in ("running", "failed", "blocked", "stale", "missing"):
        for line in states.get(state, []):
            print(f"{state:<8} {line}")
    print(", ".join(f"{len(found)} {state}" for state, found in states.items()) or "no cells")
    for moved in bench.store.moved_aside:
        print(f"moved aside: {moved}")
    return 0


def claims(arguments: Sequence[str]) -> int:
    """Judge stored records without running anything; status 1 if a claim is violated."""
    from benchsuite.results import judge

    collected = collect(arguments)
    if collected.bench is None or not collected.cells:
        print("no cells selected")
        return 0
    outcome = judge(collected.bench, collected.studies(), verbose=True)
    for text, _ in outcome.lines:
        print(text)
    return int(outcome.fails(strict=True))


def report(arguments: Sequence[str]) -> int:
    """Write the report over the stored records and print where it is."""
    from benchsuite.results import judge

    collected = collect(arguments)
    if collected.bench is None:
        return 0
    outcome = judge(collected.bench, collected.studies())
    print(outcome.page)
    return 0


def check(arguments: Sequence[str]) -> int:
    """Say which numbers of a summary cannot belong together; status 1 if there are any."""
    from benchsuite.reporting import check_summary

    findings = [finding for name in arguments for finding in check_summary(_json_of(Path(name)))]
    for finding in findings:
        print(f"{finding.where}: {finding.message}")
    return int(bool(findings))


def _json_of(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", fix="check the path") from error
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}", fix="give a summary_stats.json") from error


_COMMANDS: dict[str, Any] = {
    "list": list_studies,
    "status": status,
    "claims": claims,
    "report": report,
    "check": check,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; errors that a user can mend are one paragraph and status 4."""
    parser = argparse.ArgumentParser(
        prog="benchsuite",
        description="What there is, what is done, and what it says.",
        epilog="Further arguments of list, status, claims and report are pytest's: "
        "-k EXPR, -m EXPR, --reports-dir DIR, --set STUDY.PARAMETER=VALUE.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, function in _COMMANDS.items():
        commands.add_parser(name, help=function.__doc__.splitlines()[0], add_help=False)
    chosen, rest = parser.parse_known_args(arguments)
    if {"-h", "--help"} & set(rest):
        print(f"benchsuite {chosen.command}: {_COMMANDS[chosen.command].__doc__}\n{parser.epilog}")
        return 0
    try:
        return int(_COMMANDS[chosen.command](rest))
    except BenchsuiteError as error:
        print(f"benchsuite {chosen.command}: {error}", file=sys.stderr)
        return int(pytest.ExitCode.USAGE_ERROR)


if __name__ == "__main__":
    sys.exit(main())
