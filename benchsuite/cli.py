"""The ``benchsuite`` command: what there is, what is done, what it says."""

import argparse
import contextlib
import io
import json
import sys
import tempfile
import textwrap
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


def list_studies(arguments: Sequence[str]) -> int:
    """Print the studies: question, axes, seeds, parameters; a named one with its methods."""
    words = list(arguments)
    named = []
    while words and not words[0].startswith("-") and not Path(words[0].split("::")[0]).exists():
        named.append(words.pop(0))
    collected = collect(words)
    chosen = [study(name).name for name in named]
    by_study = Counter(cell.study for _, cell, _ in collected.cells)
    for name in chosen or collected.studies():
        declared = study(name)
        print(f"{name}: {declared.question}")
        for axis, values in declared.axes.items():
            print(f"  {axis:<10} {', '.join(values)}")
        print(f"  {'seeds':<10} {', '.join(map(str, declared.seeds))}")
        settings = (f"{k}={v!r}" for k, v in declared.parameters.items())
        print(f"  {'parameters':<10} {', '.join(settings)}")
        print(f"  {by_study[name]} cells selected\n")
        for method in declared.axes.get("method", ()) if chosen else ():
            if declared.describe(method):
                print(f"{method}\n{textwrap.indent(declared.describe(method), '    ')}")
    if chosen:
        return 0
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
    """Write the report over the stored records, or over those of any reports folders named.

    `benchsuite report machine_a machine_b --reports-dir=both` brings several machines' records
    together, the study documents' own files among them; where two records of a cell differ, the
    first folder's counts and the report says so.
    """
    from benchsuite.results import judge

    folders = [word for word in arguments if _holds_records(word)]
    if folders:
        return _report_folders(folders, [word for word in arguments if word not in folders])
    collected = collect(arguments)
    if collected.bench is None:
        return 0
    outcome = judge(collected.bench, collected.studies(), figures=True)
    print(outcome.page)
    return 0


def _holds_records(word: str) -> bool:
    from benchsuite.reporting.load import record_files

    return Path(word).is_dir() and next(record_files(word), None) is not None


def _report_folders(folders: Sequence[str], arguments: Sequence[str]) -> int:
    from benchsuite.reporting import write_report
    from benchsuite.sources import judged

    options = argparse.ArgumentParser(prog="benchsuite report DIR ...", add_help=False)
    options.add_argument("--reports-dir", type=Path, default=Path(folders[0]))
    chosen, unknown = options.parse_known_args(arguments)
    for word in unknown:
        if word.startswith("-"):
            raise UsageError(f"{word} does not go with folders", fix="give --reports-dir at most")
        if not Path(word).is_dir():
            raise UsageError(
                f"{word} is no folder", fix="name folders that a run had as its --reports-dir"
            )
        print(f"{word} holds no records")
    target = chosen.reports_dir
    _register_own()
    sources, results = judged(folders, target)
    for note in sources.notes:
        print(note)
    print(f"{len(sources.conflicts)} conflicts, {sources.agreeing} further records agree")
    print(write_report(target, results, columns=sources.columns, figures=True))
    return 0


def _register_own() -> None:
    """Load the conftest of the folder that the command is run in: it may register studies."""
    if Path("conftest.py").exists():
        collect([".", "--ignore-glob=*"])


def diff(arguments: Sequence[str]) -> int:
    """Say what changed from one reports folder to another: `benchsuite diff OLD NEW`.

    Per cell, method and claim, and whether by more than the seeds' noise; timings are compared on
    equal devices alone. Status 1 if a metric, a claim or a cell is worse.
    """
    from benchsuite.reporting.diff import differences
    from benchsuite.sources import judged

    if len(arguments) != 2:
        raise UsageError("diff compares two folders", fix="write benchsuite diff OLD NEW")
    _register_own()
    (old, before), (new, after) = (judged([folder]) for folder in arguments)
    for note in [*old.notes, *new.notes]:
        print(note)
    found = differences(before, after)
    print("\n".join(map(str, found)))
    return int(any(difference.worse for difference in found))


def reproduce(arguments: Sequence[str]) -> int:
    """Measure a record's cell again and name what differs: `benchsuite reproduce RECORD.json`.

    Status 0 if the measured bits are the same. Further arguments are pytest's, as in --local
    NAME=PATH; --reports-dir DIR keeps the new record there instead of in a temporary folder.
    """
    from benchsuite import reproduce as again

    options = argparse.ArgumentParser(prog="benchsuite reproduce", add_help=False)
    options.add_argument("record", type=Path)
    options.add_argument("--reports-dir", type=Path)
    chosen, further = options.parse_known_args(arguments)
    _register_own()
    old = again.read(chosen.record)
    folder = chosen.reports_dir or Path(tempfile.mkdtemp(prefix="benchsuite-"))
    new = again.measure(old, folder.resolve(), further)
    for line in again.compared(old, new):
        print(line)
    same = again.is_equal(old, new)
    print(f"{old['cell']['id']}: {'bit-identical' if same else 'not the same bits'} ({folder})")
    return int(not same)


def estimate(arguments: Sequence[str]) -> int:
    """Say how long the selected cells will take here, the memory of each, and what cannot run."""
    from benchsuite.scheduling.forecast import forecast

    collected = collect(arguments)
    if collected.bench is None or not collected.cells:
        print("no cells selected")
        return 0
    for line in forecast(collected.bench, [(cell, path) for _, cell, path in collected.cells]):
        print(line)
    return 0


def verify(arguments: Sequence[str]) -> int:
    """Load a quantized checkpoint and try it: verify CHECKPOINT; status 1 if it does not work."""
    from benchsuite.evaluation import checkpoints

    if len(arguments) != 1:
        raise UsageError("verify takes one folder", fix="benchsuite verify CHECKPOINT")
    found = checkpoints.verify(checkpoints.open_model(arguments[0]))
    ratio = found.original_bytes / found.size_bytes
    print(f"quantized layers   {found.n_layers}")
    print(f"size               {found.size_bytes / 1e6:.2f} MB, compression {ratio:.2f}")
    if found.perplexity is not None:
        print(f"perplexity         {found.perplexity:.4g} on the embedded text")
    print(f"generates          {' '.join(found.text.split())[:60]!r}")
    for fault in found.faults:
        print(f"fault              {fault}")
    print("verified" if not found.faults else "not verified")
    return int(bool(found.faults))


def compare(arguments: Sequence[str]) -> int:
    """Compare two checkpoints, or one with its baseline: compare A [B]."""
    from benchsuite.evaluation import checkpoints

    if len(arguments) not in (1, 2):
        raise UsageError("compare takes one or two models", fix="benchsuite compare A [B]")
    first = checkpoints.open_model(arguments[-1])
    if len(arguments) == 1:
        second, first = first, checkpoints.open_model(checkpoints.baseline_of(first))
    else:
        second, first = first, checkpoints.open_model(arguments[0])
    found = checkpoints.compare(first, second)
    rows = zip((first.name, second.name), found.size_bytes, found.perplexity, strict=True)
    for letter, (name, size, value) in zip("AB", rows, strict=True):
        print(f"{letter}  {size / 1e6:10.2f} MB  perplexity {value:9.4f}  {name}")
    print(f"KL(A || B)          {found.kl:.5f} nats per token")
    print(f"same prediction     {found.agreement:.2%} of positions")
    print(f"same greedy tokens  {found.same_tokens:.1f} of {checkpoints.NEW_TOKENS}")
    print("weights, ||B - A|| / ||A|| (AWQ and SmoothQuant rescale columns, QuaRot rotates):")
    for name, off in sorted(found.layers.items(), key=lambda item: -item[1]):
        print(f"  {off:8.4f}  {name}")
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
    "estimate": estimate,
    "diff": diff,
    "reproduce": reproduce,
    "check": check,
    "verify": verify,
    "compare": compare,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; errors that a user can mend are one paragraph and status 4."""
    parser = argparse.ArgumentParser(
        prog="benchsuite",
        description="What there is, what is done, and what it says.",
        epilog="Further arguments of list, status, claims, report and estimate are pytest's: "
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
