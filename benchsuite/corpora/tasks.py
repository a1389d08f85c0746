"""Task sets: questions, choices and problems, in one schema each whatever their source."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchsuite import catalog
from benchsuite.catalog import Sources, TaskEntry
from benchsuite.corpora import files, hub, public
from benchsuite.corpora.rows import read_rows
from benchsuite.embedded.schema import Choice, Item, Problem, Question
from benchsuite.errors import BenchsuiteError

SCHEMAS: dict[str, type] = {"question": Question, "choice": Choice, "problem": Problem}


@dataclass(frozen=True)
class TaskSet:
    """One split of a task.

    ``items`` are all of one schema: ``Question``, ``Choice`` or ``Problem``. ``digest`` is pinned
    for an embedded task and the sha256 of the items otherwise. ``source`` is ``embedded``, ``hub``
    or ``local``; ``revision`` is the hub's commit hash, the digest of the local files, or empty.
    """

    name: str
    split: str
    items: tuple[Item, ...] = field(repr=False)
    digest: str
    source: str
    revision: str = ""


def load_task(name: str, split: str, sources: Sources = Sources()) -> TaskSet:
    """Return one split of a catalogued task.

    An embedded task is generated. A task from a folder or the hub has parquet or JSON-lines files
    with the columns of its public set (``public.ADAPTERS``), or else with the fields of its schema
    (``id``, ``question``, ...; those with a default may be left out). Raises ``BenchsuiteError``
    naming the file, the columns found and those expected.
    """
    entry, local = catalog.task(name), sources.folder(name)
    if local is None and entry.embedded:
        from benchsuite.embedded import tasks

        return TaskSet(
            name, split, tuple(tasks.items(name, split)), tasks.digest(name, split), "embedded"
        )
    if local is not None:
        found = files.find(local, split, config=entry.config, hub_id=entry.hub_id)
        source, revision = "local", files.digest(found, _read(entry))
    else:
        snapshot = hub.fetch(entry, split)
        found, source, revision = snapshot.files, "hub", snapshot.commit
    adapter, part = public.ADAPTERS.get(entry.hub_id), hub.PARTS.get(entry.hub_id)
    if adapter:
        limit = part.rows if part else None
        items = tuple(public.items(adapter, found, f"{name}-{split}", limit))
    else:
        items = tuple(_items(found, SCHEMAS[entry.schema]))
    if not items:
        raise BenchsuiteError(
            f"the {split} split of task {name!r} has no items",
            where=", ".join(map(str, found)),
            fix="Give files with one item per row",
        )
    return TaskSet(name, split, items, items_digest(items), source, revision)


def task_digest(name: str, split: str, sources: Sources = Sources()) -> str:
    """Return what identifies a task's items, cheaply enough to be asked at collection.

    As ``text_digest``: the pinned digest, the sha256 of the local files, or the hub's commit.
    """
    entry, local = catalog.task(name), sources.folder(name)
    if local is not None:
        found = files.find(local, split, config=entry.config, hub_id=entry.hub_id)
        return files.digest(found, _read(entry))
    if entry.embedded:
        from benchsuite.embedded import tasks

        return tasks.digest(name, split)
    return hub.digest(entry, _read(entry))


def items_digest(items: Iterable[Item]) -> str:
    """Return the sha256 hex digest of items: each one's fields as one line of JSON."""
    total = hashlib.sha256()
    for item in items:
        line = json.dumps(dataclasses.asdict(item), sort_keys=True)
        total.update(line.encode() + b"\n")
    return total.hexdigest()


def _read(entry: TaskEntry) -> str:
    """Say what is taken from a set's files: the schema, of columns that its hub id decides."""
    return f"{entry.schema} of {entry.hub_id or 'its own columns'}"


def _items(found: list[Path], schema: type) -> Iterator[Item]:
    fields = dataclasses.fields(schema)
    required = [f.name for f in fields if f.default is dataclasses.MISSING]
    optional = [f.name for f in fields if f.name not in required]
    for file in found:
        for number, row in enumerate(read_rows(file, required, optional), start=1):
            values = {f.name: row[f.name] for f in fields if f.name in row}
            for f in fields:
                if f.name in values:
                    values[f.name] = _checked(values[f.name], f.type, f.name, file, number)
            yield _possible(schema(**values), file, number)


def _possible(item: Item, file: Path, number: int) -> Item:
    if isinstance(item, Choice) and not 0 <= item.answer < len(item.choices):
        raise BenchsuiteError(
            f"row {number}: 'answer' is {item.answer}, and there are {len(item.choices)} choices",
            where=str(file),
            fix="Expected the index of the right choice, counted from 0",
        )
    return item


def _checked(value: Any, kind: Any, name: str, file: Path, number: int) -> Any:
    """Return a field's value with lists made tuples; a wrong type is an error naming the row."""
    if kind == tuple[str, ...] and isinstance(value, list):
        value = tuple(value)
    right = (
        isinstance(value, tuple) and all(isinstance(part, str) for part in value)
        if kind == tuple[str, ...]
        else type(value) is kind
    )
    if not right:
        expected = "a list of strings" if kind == tuple[str, ...] else f"a {kind.__name__}"
        raise BenchsuiteError(
            f"row {number}: {name!r} is {value!r}, not {expected}",
            where=str(file),
            fix=f"Expected {expected}",
        )
    return value
