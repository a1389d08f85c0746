"""``benchsuite reproduce``: measure a record's cell again, and name what differs."""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchsuite.commands.collecting import pytest_words, register_own
from benchsuite.errors import BenchsuiteError, CorruptRecord, UsageError
from benchsuite.records.record import Record, verify
from benchsuite.reporting.load import flatten
from benchsuite.study import study, under_todays_names

# What a second measurement may differ in without being another measurement.
_ASIDE = ("cell", "fingerprint", "environment", "timings", "items", "error", "started_at")
_NOT_NUMBERS = ("_time_sec", "_seconds", "_per_second", "_memory_bytes", "_sha256", "_digest")


def reproduce(arguments: Sequence[str]) -> int:
    """Measure a record's cell again and name what differs: `benchsuite reproduce RECORD.json`.

    Status 0 if the measured bits are the same. Further arguments are pytest's, as in --local
    NAME=PATH; --reports-dir DIR keeps the new record there instead of in a temporary folder.
    """
    options = argparse.ArgumentParser(prog="benchsuite reproduce", add_help=False)
    options.add_argument("record", type=Path)
    options.add_argument("--reports-dir", type=Path)
    chosen, further = options.parse_known_args(arguments)
    register_own()
    old = read(chosen.record)
    folder = chosen.reports_dir or Path(tempfile.mkdtemp(prefix="benchsuite-"))
    new = measure(old, folder.resolve(), further)
    for line in compared(old, new):
        print(line)
    same = is_equal(old, new)
    print(f"{old['cell']['id']}: {'bit-identical' if same else 'not the same bits'} ({folder})")
    return int(not same)


def read(path: Path) -> Record:
    """Return the record to reproduce; a file that is none, or was edited, is a usage error."""
    try:
        record = verify(json.loads(path.read_bytes()), path)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", fix="check the path") from error
    except (ValueError, CorruptRecord) as error:
        what = error.what if isinstance(error, CorruptRecord) else str(error)
        raise UsageError(
            f"{path} is not a whole record: {what}",
            fix="name a file of reports/store/records or reports/STUDY/raw_runs",
        ) from error
    return record


def arguments_of(record: Record) -> list[str]:
    """Return the pytest arguments that select the record's cell with its parameters."""
    facts = under_todays_names(record["cell"])
    declared, axes = study(facts["study"]), facts["axes"]
    words = ["-m", f"cell({', '.join(f'{k}={v!r}' for k, v in _marks(facts).items())})"]
    words.append(f"--seeds={axes['seed']}")
    now = next(
        (c for c in declared.cells(seeds=(axes["seed"],)) if dict(c.axes) == dict(axes)), None
    )
    if now is None:
        raise UsageError(
            f"study {declared.name} has no cell {facts['id']} any more",
            fix="reproduce it with the version that wrote the record: "
            f"{record['environment'].get('benchsuite')}",
        )
    for name, value in facts["parameters"].items():
        if name in now.parameters and _plain(now.parameters[name]) != value:
            words.append(f"--set={declared.name}.{name}={value}")
    if record.get("weights") == "random":
        words.append("--weights=random")
    words.append(f"--device={record['environment']['device_kind']}")
    words.append(f"--cell-threads={record['environment']['threads']}")
    return words


def measure(record: Record, reports: Path, further: Sequence[str]) -> Record:
    """Run the record's cell in a process of its own and return the new record.

    ``further`` are pytest's: ``--local NAME=PATH`` for a model that came from a folder.
    """
    words = [*arguments_of(record), f"--reports-dir={reports}", "--rerun", *further]
    command = [sys.executable, "-m", "pytest", "-q", *pytest_words(words)]
    before = set(reports.glob("store/records/*.json"))
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    made = [
        found
        for path in sorted(set(reports.glob("store/records/*.json")) - before)
        if (found := json.loads(path.read_bytes()))["outcome"] == "passed"
    ]
    if len(made) != 1:
        raise BenchsuiteError(
            f"the cell {record['cell']['id']} left {len(made)} records",
            fix=f"see what pytest said:\n{ran.stdout[-3000:]}",
        )
    return made[0]


def compared(old: Record, new: Record) -> Iterator[str]:
    """Yield what differs, a line each: versions and device, then numbers, then digests."""
    for name, was, now in _unequal(old["environment"], new["environment"]):
        yield f"environment {name}: {was} before, {now} now"
    for name in ("inputs", "code"):
        if old["fingerprint"][name] != new["fingerprint"][name]:
            yield f"{name}: another digest, so not the same {name}"
    for name, was, now in _unequal(_numbers(old), _numbers(new)):
        if isinstance(was, float | int) and isinstance(now, float | int):
            relative = f", {(now - was) / abs(was):+.2g} relative" if was else ""
            yield f"{name}: {was!r} before, {now!r} now ({now - was:+.3g}{relative})"
        else:
            yield f"{name}: {was} before, {now} now"
    for name, was, now in _unequal(_digests(old), _digests(new)):
        yield f"bits of {name}: {str(was)[:12]} before, {str(now)[:12]} now"


def is_equal(old: Record, new: Record) -> bool:
    """Say whether the measured bits are the same."""
    return old["results_sha256"] == new["results_sha256"]


def _marks(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {"study": facts["study"], **facts["axes"]}


def _plain(value: Any) -> Any:
    """Return a value as JSON would give it back."""
    return json.loads(json.dumps(value, default=str))


def _numbers(record: Record) -> dict[str, Any]:
    return {
        k: v
        for k, v in flatten({k: v for k, v in record.items() if k not in _ASIDE}).items()
        if not k.endswith(_NOT_NUMBERS)
    }


def _digests(record: Record) -> dict[str, Any]:
    names = ("weights_digest", "weights_sha256", "results_sha256")
    return {name: record.get(name) for name in names}


def _unequal(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in dict.fromkeys((*old, *new)):
        if old.get(name) != new.get(name):
            yield name, old.get(name), new.get(name)
