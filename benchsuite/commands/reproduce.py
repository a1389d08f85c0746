"""``benchsuite reproduce``: measure a record's cell again, and name what differs."""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchsuite import catalog
from benchsuite.commands.collecting import collect, pytest_words, register_own
from benchsuite.commands.parser import Parser
from benchsuite.errors import BenchsuiteError, CorruptRecord, UsageError
from benchsuite.harness import given
from benchsuite.printable import count
from benchsuite.records.reading import read_file
from benchsuite.records.record import CellFacts, Record
from benchsuite.reporting.load import flatten
from benchsuite.study import names, study
from benchsuite.study.parameter import as_setting

_DIGEST = re.compile("[0-9a-f]{40,}")

# What the project's ini file sets is not what the record was measured under.
_UNSET = ("set=", "seeds=", "tour=false", "downstream=", "plan=", "until_decided=0")


def reproduce(arguments: Sequence[str]) -> int:
    """Measure a record's cell again and name what differs; status 0 if the bits are the same.

    Further arguments are pytest's: the file of the benchmark, where it does not lie in the folder
    benchmarks; --local NAME=PATH or --model NAME=SOURCE for a model that came from a folder. The
    new record is kept in a temporary folder, or in that of --reports-dir.
    """
    parser = Parser(reproduce)
    parser.add_argument("record", type=Path, metavar="RECORD.json", help="a record of a store")
    parser.add_argument("--reports-dir", type=Path, metavar="DIR", help="where the new one is kept")
    chosen, further = parser.parse_known_args(arguments)
    register_own()
    join_named(further)
    old = read(chosen.record)
    if old.cell.study not in names():
        collect(further)  # a conftest further down may register it, or the file that is named
    folder = chosen.reports_dir or Path(tempfile.mkdtemp(prefix="benchsuite-"))
    new = measure(old, folder.resolve(), further)
    for line in compared(old, new):
        print(line)
    same = is_equal(old, new)
    print(f"{old.cell.id}: {'bit-identical' if same else 'not the same bits'} ({folder})")
    return int(not same)


def join_named(words: Sequence[str]) -> None:
    """Let the studies have the models that ``--model NAME=SOURCE`` names among pytest's words."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--model", action="append", default=[])
    entries, _ = given.read(parser.parse_known_args(words)[0].model, Path.cwd())
    for entry in entries.values():
        catalog.register(entry)
    given.join(entries)


def read(path: Path) -> Record:
    """Return the record to reproduce; a file that is none, or was edited, is a usage error."""
    try:
        record = read_file(path)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", fix="check the path") from error
    except CorruptRecord as error:
        raise UsageError(
            f"{path} is not a whole record: {error.what}",
            fix="name a file of reports/store/records or reports/STUDY/raw_runs",
        ) from error
    return record


def arguments_of(record: Record) -> list[str]:
    """Return the pytest arguments that select the record's cell with its parameters."""
    facts = record.cell
    declared, axes = study(facts.study), facts.axes
    marks = {"study": facts.study, **axes}
    words = ["-m", f"cell({', '.join(f'{k}={v!r}' for k, v in marks.items())})"]
    words.append(f"--seeds={axes['seed']}")
    now = next(
        (c for c in declared.cells(seeds=(axes["seed"],)) if dict(c.axes) == dict(axes)), None
    )
    known = facts.model in catalog.MODELS
    if now is None and not (known and facts.model in declared.axes["model"]):
        source = "" if known else "=SOURCE"
        raise UsageError(
            f"the record is of {facts.model}, which was named on the command line or by a conftest",
            fix=f"name it again: benchsuite reproduce RECORD.json --model {facts.model}{source}",
        )
    if now is None:
        raise UsageError(
            f"study {declared.name} has no cell {facts.id} any more",
            fix="reproduce it with the version that wrote the record: "
            f"{record.environment.get('benchsuite')}",
        )
    for name, value in facts.parameters.items():
        if name in now.parameters and CellFacts.of(now).parameters[name] != value:
            words.append(f"--set={as_setting(declared.name, name, value)}")
    words.append(f"--weights={'random' if record.source.weights == 'random' else 'hub'}")
    words.append(f"--device={record.device_kind}")
    words.append(f"--cell-threads={record.environment.get('threads', 1)}")
    words.append(f"--gpus-per-cell={record.environment.get('gpus', 1)}")
    return [*words, *(part for setting in _UNSET for part in ("-o", f"benchsuite_{setting}"))]


def measure(record: Record, reports: Path, further: Sequence[str]) -> Record:
    """Run the record's cell in a process of its own and return the new record.

    ``further`` are pytest's: ``--local NAME=PATH`` for a model that came from a folder.
    """
    words = [*arguments_of(record), f"--reports-dir={reports}", "--rerun", *further]
    command = [sys.executable, "-m", "pytest", "-q", *pytest_words(words)]
    before = set(reports.glob("store/records/*.json"))
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    new = sorted(set(reports.glob("store/records/*.json")) - before)
    made = [found for path in new if (found := read_file(path)).passed]
    if ran.returncode == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise UsageError(
            f"the benchmarks here have no cell {record.cell.id} of study {record.cell.study}",
            fix="name the file that has: benchsuite reproduce RECORD.json FILE",
        )
    if len(made) != 1:
        raise BenchsuiteError(
            f"the cell {record.cell.id} left {count(len(made), 'record')}",
            fix=f"see what pytest said:\n{ran.stdout[-3000:]}",
        )
    return made[0]


def compared(old: Record, new: Record) -> Iterator[str]:
    """Yield what differs, a line each: versions and device, then numbers, then digests."""
    for name, was, now in _unequal(old.environment, new.environment):
        yield f"environment {name}: {was} before, {now} now"
    for name in ("inputs", "code"):
        if getattr(old.fingerprint, name) != getattr(new.fingerprint, name):
            yield f"{name}: another digest, so not the same {name}"
    measured = [flatten({**r.cell.parameters, **r.values}) for r in (old, new)]
    differing = list(_unequal(*measured))
    for name, was, now in differing:
        if _is_number(was) and _is_number(now):
            relative = f", {(now - was) / abs(was):+.2g} relative" if was else ""
            yield f"{name}: {was!r} before, {now!r} now ({now - was:+.3g}{relative})"
        elif not _is_digest(was) and not _is_digest(now):
            yield f"{name}: {was} before, {now} now"
    digests = [(name, was, now) for name, was, now in differing if _is_digest(was)]
    digests.append(("weights_digest", old.source.weights_digest, new.source.weights_digest))
    digests.append(("results_sha256", old.results_sha256, new.results_sha256))
    for name, was, now in digests:
        if was != now:
            yield f"bits of {name}: {str(was)[:12]} before, {str(now)[:12]} now"


def is_equal(old: Record, new: Record) -> bool:
    """Say whether the measured bits are the same."""
    return old.results_sha256 == new.results_sha256


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _unequal(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in dict.fromkeys((*old, *new)):
        if old.get(name) != new.get(name):
            yield name, old.get(name), new.get(name)
