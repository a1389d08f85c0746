"""Two evaluations that are done, item by item: nothing is run.

Read are lm-eval's ``--log_samples`` files (a file of one task, or a folder of them), Inspect's logs
(``.json``, or ``.eval``, a zip of JSON) and two columns of one's own (CSV or JSON lines). Items are
paired by their ids. What one side alone has is named and left out.
"""

import csv
import hashlib
import io
import json
import math
import os
import re
import struct
import sys
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchsuite.comparing.pairs import PairedItems
from benchsuite.comparing.senses import kind_of_values
from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.printable import count

# Of a task's metrics those are judged of which it is known that more is better, up to 1.
KNOWN = {"acc", "acc_norm", "acc_bytes", "acc_all", "accuracy", "exact_match", "em", "f1"}
KNOWN |= {"pass@1", "mc1", "mc2", "prompt_level_strict_acc", "prompt_level_loose_acc"}
# samples_arc_easy_2026-11-26T12-00-00.000000.jsonl
_TASK = re.compile(r"samples_(.+?)(?:_\d{4}-\d\d-\d\dT[\d.-]+)?\.jsonl$")
_ZSTANDARD = 93
# Inspect's grades: correct, partly so, incorrect, no answer.
_GRADES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}


@dataclass
class Samples:
    """One evaluation's values, by metric (``arc_easy/acc``) and item id.

    ``questions`` are digests of what was asked, by task and id, where the log has them.
    ``left_out`` says which metrics are not judged.
    """

    values: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    questions: dict[str, str] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Paired:
    """Two evaluations' common items by metric, one a task, and in words what was not compared."""

    items: tuple[PairedItems, ...]
    notes: tuple[str, ...]


def paired(
    base: Path, candidate: Path, *, columns: tuple[str, str] | None = None, metric: str = ""
) -> Paired:
    """Return the items that both evaluations have.

    ``columns`` are one's own files' id and value. ``metric`` keeps one of several: ``acc_norm``.
    """
    # A file that has been renamed is of the task that the other's name tells.
    one, other = _task_of(base), _task_of(candidate)
    first = _read(base, columns, metric, one or other)
    second = _read(candidate, columns, metric, other or one)
    _same_questions(first, second)
    notes = [f"{name}: not judged" for name in sorted(first.left_out | second.left_out)]
    found = []
    for name in sorted(set(first.values) | set(second.values)):
        a, b = first.values.get(name, {}), second.values.get(name, {})
        common = [key for key in a if key in b]
        for side, alone in (("base", a.keys() - b.keys()), ("candidate", b.keys() - a.keys())):
            if alone:
                notes.append(f"{name}: {_some(alone)} only in the {side}, left out")
        if common:
            x, y = (np.array([values[key] for key in common]) for values in (a, b))
            kind = kind_of_values(name, x, y) + _label(name, first)
            found.append(PairedItems(kind, tuple(common), x, y))
    if not found:
        raise BenchsuiteError(
            f"{base} and {candidate} have no item in common" + "".join(f"; {n}" for n in notes[:3]),
            fix="give two evaluations of one task, whose items have the same ids",
        )
    return Paired(tuple(found), tuple(notes))


def _read(path: Path, columns: tuple[str, str] | None, metric: str, task: str) -> Samples:
    found = Samples()
    if columns:
        _own_columns(path, columns, found)
    elif path.is_dir():
        files = sorted(path.rglob("samples_*.jsonl"))
        if not files:
            raise UsageError(
                f"{path} holds no samples_*.jsonl",
                fix="give the folder that lm-eval wrote with --log_samples, or one file of it",
            )
        for file in files:
            _lm_eval(file, metric, found, _task_of(file))
    elif path.suffix in (".eval", ".json"):
        _inspect(path, metric, found)
    else:
        _lm_eval(path, metric, found, task)
    if not found.values and not found.left_out:
        raise UsageError(f"{path} holds no item", fix="give an evaluation that has run")
    return found


# --- lm-eval


def _task_of(path: Path) -> str:
    """Return the task that the name of a file of lm-eval's tells, or nothing."""
    named = _TASK.match(path.name)
    return named[1] if named else ""


def _lm_eval(path: Path, metric: str, found: Samples, task: str) -> None:
    for where, row in _rows(path):
        if "doc_id" not in row:
            raise UsageError(
                f"{where} has no doc_id: it is not lm-eval's",
                fix="name the columns of your own file: --columns ID,VALUE",
            )
        # Older versions do not list their metrics: all numbers but the id are.
        names = row.get("metrics") or [k for k, v in row.items() if k in KNOWN and _is_number(v)]
        key = str(row["doc_id"])
        if row.get("doc_hash"):
            found.questions[f"{task}/{key}"] = str(row["doc_hash"])
        for name in names:
            rule = row.get("filter") or "none"
            shown = (f"{task}/" if task else "") + name + ("" if rule == "none" else f",{rule}")
            _take(found, shown, name, key, row.get(name), metric, where)


def _take(
    found: Samples, shown: str, name: str, key: str, value: Any, metric: str, where: str
) -> None:
    """Keep one value, or note that its metric is not judged."""
    wanted = name == metric or shown.rpartition("/")[2] == metric if metric else name in KNOWN
    if not wanted or not _is_number(value):
        if not metric or wanted:
            found.left_out.add(shown)
        return
    if key in found.values[shown]:
        raise UsageError(
            f"{where}: the item {key} of {shown} is there twice",
            fix="keep one run in the file, or one file of the task in the folder",
        )
    found.values[shown][key] = _as_float(value)


# --- Inspect


def _inspect(path: Path, metric: str, found: Samples) -> None:
    log, samples = _zipped(path) if path.suffix == ".eval" else _whole(path)
    task = str((log.get("eval") or {}).get("task") or path.stem).rpartition("/")[2]
    epochs: dict[tuple[str, str], list[float]] = defaultdict(list)
    for sample in samples:
        if sample.get("input"):
            found.questions[f"{task}/{sample.get('id')}"] = _digest_of(sample["input"])
        for scorer, score in (sample.get("scores") or {}).items():
            for name, value in _grades(scorer, score.get("value")):
                if metric and metric != name:
                    continue
                if value is None:
                    found.left_out.add(f"{task}/{name}")
                else:
                    epochs[f"{task}/{name}", str(sample.get("id"))].append(value)
    for (name, key), values in epochs.items():
        # An item that was asked in several epochs counts once, by its mean.
        found.values[name][key] = math.fsum(values) / len(values)


def _digest_of(asked: Any) -> str:
    """Return the digest of a sample's input: a text, or messages, whose own ids are drawn anew.

    Inspect numbers samples by their place where a data set has no ids, so that in another version,
    or shuffled, they are other questions.
    """
    if isinstance(asked, list):
        asked = [[m.get("role"), m.get("content")] for m in asked if isinstance(m, Mapping)]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _grades(scorer: str, value: Any) -> Iterator[tuple[str, float | None]]:
    """Yield a scorer's values, of which it may have several; None for one that is no number."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _grades(f"{scorer}.{name}", part)
    elif isinstance(value, str):
        yield scorer, _GRADES.get(value.upper(), _as_number(value))
    else:
        yield scorer, _as_float(value) if _is_number(value) else None


def _whole(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    log = _json(_text(path), str(path))
    if not isinstance(log, dict) or not isinstance(log.get("samples"), list):
        raise UsageError(
            f"{path} is not a log of Inspect's: it has no samples",
            fix="give a log written with its samples, or name the columns of your own: --columns",
        )
    return log, log["samples"]


def _zipped(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            parts = [n for n in names if n.startswith("samples/") and n.endswith(".json")]
            head = "header.json" if "header.json" in names else "_journal/start.json"
            log = _json(_member(archive, head), f"{path}: {head}")
            samples = [_json(_member(archive, name), f"{path}: {name}") for name in parts]
    except (OSError, KeyError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        if isinstance(error, FileNotFoundError):
            raise UsageError(f"there is no {path}", fix="name a file or a folder") from None
        raise BenchsuiteError(
            f"{path} cannot be read as Inspect's: {error}",
            fix="write it as JSON: inspect log convert --to json --output-dir FOLDER FILE",
        ) from error
    return log, samples


def _member(archive: zipfile.ZipFile, name: str) -> str:
    """Return a file of an archive; Inspect packs them by Zstandard, which zipfile cannot read."""
    found = archive.getinfo(name)
    if found.compress_type != _ZSTANDARD:
        return archive.read(name).decode()
    import pyarrow

    with open(str(archive.filename), "rb") as file:
        file.seek(found.header_offset)
        # The local header's 30 bytes end in the lengths of the name and of what is extra.
        header = file.read(30)
        file.seek(sum(struct.unpack("<HH", header[26:30])), os.SEEK_CUR)
        packed = pyarrow.BufferReader(file.read(found.compress_size))
    with pyarrow.CompressedInputStream(packed, "zstd") as stream:
        text = stream.read()
    if len(text) != found.file_size or zlib.crc32(text) != found.CRC:
        raise ValueError(f"{name} is damaged")
    return text.decode()


# --- two columns of one's own


def _own_columns(path: Path, columns: tuple[str, str], found: Samples) -> None:
    key, value = columns
    for where, row in _table(path):
        for column in columns:
            if column in row and row[column] is None:
                raise UsageError(
                    f"{where} has nothing in {column!r}", fix="leave that item out on both sides"
                )
            if column not in row:
                raise UsageError(
                    f"{where} has no column {column!r}",
                    fix=f"it has {', '.join(map(str, row))}; name two of them: --columns ID,VALUE",
                )
        number = row[value]
        number = _as_float(number) if _is_number(number) else _as_number(str(number))
        if number is None:
            raise UsageError(
                f"{where}: {row[value]!r} is no number", fix="give 0 and 1, or a score"
            )
        name = str(row[key])
        if name in found.values[value]:
            raise UsageError(f"{where}: the id {name} is there twice", fix="give each item once")
        found.values[value][name] = number


def _table(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if path.suffix not in (".csv", ".tsv"):
        yield from _rows(path)
        return
    # A field may hold lines and whatever else str.splitlines would break at, and be a whole prompt.
    lines = io.StringIO(_text(path), newline="")
    csv.field_size_limit(sys.maxsize)
    reader = csv.DictReader(lines, delimiter="\t" if path.suffix == ".tsv" else ",")
    names = [name.strip() for name in reader.fieldnames or ()]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"{path} has two columns {twice!r}", fix="give each a name of its own")
    reader.fieldnames = names
    try:
        for row in reader:
            yield f"{path}:{reader.line_num}", row
    except csv.Error as error:
        raise UsageError(
            f"{path}:{reader.line_num}: {error}", fix="give it as JSON lines"
        ) from None


# --- what all of them share


def _label(name: str, samples: Samples) -> str:
    """Return what follows the kind: the task alone where it has one metric."""
    task = name.partition("/")[0]
    alone = sum(other.partition("/")[0] == task for other in samples.values) == 1
    return f":{task if alone else name}"


def _same_questions(first: Samples, second: Samples) -> None:
    common = first.questions.keys() & second.questions.keys()
    other = sorted(key for key in common if first.questions[key] != second.questions[key])
    if other:
        raise UsageError(
            f"{len(other)} of {len(common)} ids stand for other questions on either side, "
            f"the first is {other[0]}",
            fix="evaluate both on the same version of the task",
        )


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a file of JSON lines, each with its place."""
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    row = _json(line, f"{path}:{number}")
                    if not isinstance(row, dict):
                        raise UsageError(
                            f"{path}:{number} is no JSON object", fix="give one object a line"
                        )
                    yield f"{path}:{number}", row
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UsageError:
    why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
    return UsageError(f"cannot read {path}: {why}", fix="name a file, or lm-eval's folder")


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON: {error}", fix="give the file as written") from error


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float))


def _as_float(number: float) -> float:
    """Return a number as a double; a whole one beyond doubles is infinite, which is told later."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _as_number(text: str) -> float | None:
    if text.strip().lower() in ("true", "false"):
        return float(text.strip().lower() == "true")
    try:
        return float(text)
    except ValueError:
        return None


def _some(keys: Any) -> str:
    """Return how many items, and the names of the first of them."""
    names = sorted(keys)
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"{count(len(names), 'item')} ({shown})"
