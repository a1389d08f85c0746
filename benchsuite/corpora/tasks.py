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
from benchsuite.corpora import files, forms, hub, public
from benchsuite.corpora.rows import read_rows
from benchsuite.corpora.sound import answerable, each_once, in_digits
from benchsuite.embedded.schema import Choice, Item, Problem, Question, item_dict
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

    @property
    def questions(self) -> tuple[Item, ...]:
        """The items to ask, each once; two different ones of one id are a ``BenchsuiteError``."""
        try:
            return each_once(self.items)
        except ValueError as error:
            raise BenchsuiteError(
                f"the {self.split} split of task {self.name!r} cannot be asked: {error}",
                fix="Give each item an id of its own",
            ) from None


def load_task(name: str, split: str, sources: Sources = Sources()) -> TaskSet:
    """Return one split of a catalogued task, from the place that ``sources`` names or the hub.

    An embedded task is generated. A task from a folder, a file or the hub has one of the forms of
    its public set (``public.ADAPTERS``), or else the fields of its schema (``id``, ``question``,
    ...; those with a default may be left out). ``split`` may join two, ``train+test``. Raises
    ``BenchsuiteError`` naming the file, the columns found and those expected, and
    ``files.MissingSplit``.
    """
    entry, place = catalog.task(name), sources.folder(name)
    if place is None and entry.embedded:
        from benchsuite.embedded import tasks

        return TaskSet(
            name, split, tuple(tasks.items(name, split)), tasks.digest(name, split), "embedded"
        )
    if place is not None:
        found = _local_files(entry, place, split)
        source, revision = "local", files.digest(found, _read(entry))
    else:
        snapshots = [hub.fetch(entry, part) for part in split.split("+")]
        found = [file for snapshot in snapshots for file in snapshot.files]
        source, revision = "hub", snapshots[0].commit
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


def worked_examples(
    name: str, asked: TaskSet, n: int, sources: Sources = Sources()
) -> tuple[tuple[Item, ...], str]:
    """Return what ``n`` worked examples of a task are chosen from, and the split it is.

    That is the catalogued split of examples. Where the set has none, or is asked in it, it is the
    asked split: then what is chosen must be left out of the questions. None are wanted: ``((),
    "")``.
    """
    if not n:
        return (), ""
    split = catalog.task(name).examples
    if split in asked.split.split("+"):
        return asked.items, asked.split
    try:
        return load_task(name, split, sources).items, split
    except files.MissingSplit:
        return asked.items, asked.split


def task_digest(name: str, split: str, sources: Sources = Sources()) -> str:
    """Return what identifies a task's items, cheaply enough to be asked at collection.

    As ``text_digest``: the pinned digest, the sha256 of the local files, or the hub's commit.
    """
    entry, local = catalog.task(name), sources.folder(name)
    if local is not None:
        return files.digest(_local_files(entry, local, split), _read(entry))
    if entry.embedded:
        from benchsuite.embedded import tasks

        return tasks.digest(name, split)
    return hub.digest(entry, _read(entry))


def _local_files(entry: TaskEntry, local: Path, split: str) -> list[Path]:
    """Return the files of a split, or of several that are joined with a plus sign.

    One file of all a set's problems is the split that the catalogue asks, a joined one too.
    """
    adapter = public.ADAPTERS.get(entry.hub_id)
    kind: dict[str, Any] = {
        "config": entry.config,
        "hub_id": entry.hub_id,
        "per_subject": adapter is not None and adapter.per_subject,
        "partial": entry.hub_id in hub.PARTS,
    }
    parts = split.split("+")
    if len(parts) == 1:
        return files.find(local, split, alone=entry.split, **kind)
    try:
        return [file for part in parts for file in files.find(local, part, **kind)]
    except files.MissingSplit:
        return files.find(local, split, alone=entry.split, **kind)


def items_digest(items: Iterable[Item]) -> str:
    """Return the sha256 hex digest of items: each one's fields as one line of JSON."""
    total = hashlib.sha256()
    for item in items:
        line = json.dumps(item_dict(item), sort_keys=True)
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
        cells = file.name.endswith(files.TABLES)
        for number, row in read_rows(file, required, optional):
            values = {}
            for f in fields:
                if f.name in row:
                    value = _from_cell(row[f.name], f.type) if cells else row[f.name]
                    values[f.name] = _checked(value, f.type, f.name, file, number)
            try:
                yield answerable(_possible(schema(**values)))
            except ValueError as error:
                raise forms.unexpected(file, number, error, (*required, *optional)) from None


def _possible(item: Item) -> Item:
    """Return an item of a set's own columns; ``ValueError`` where its answer cannot be one."""
    if isinstance(item, Choice) and not 0 <= item.answer < len(item.choices):
        raise ValueError(
            f"'answer' is {item.answer}, and there are {len(item.choices)} choices, counted from 0"
        )
    if isinstance(item, Problem):
        answer = in_digits(item.answer)
        if answer is None:
            raise ValueError(f"'answer' is {item.answer[:40]!r}, not a number in digits")
        return dataclasses.replace(item, answer=answer)
    return item


def _from_cell(cell: str, kind: Any) -> Any:
    """Return what a CSV file's cell says where a field is no text: lists are written as JSON."""
    if kind is str:
        return cell
    try:
        return json.loads(cell.lower() if kind is bool else cell)
    except ValueError:
        return cell


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
