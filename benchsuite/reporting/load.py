"""Records and their items as pandas frames: ours, and the source documents' own JSON.

What their columns mean, and in which unit: `benchsuite.reporting.frame_columns`.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.printable import without_surrogates
from benchsuite.records.columns import read_columns
from benchsuite.records.documents import outcome_of
from benchsuite.records.files import sha256
from benchsuite.records.forms import SEAL, flat
from benchsuite.records.reading import DocumentFile, read_file
from benchsuite.records.record import Record
from benchsuite.study import ACCURACY, PERPLEXITY, names, study

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow

OF, PLACE = "items.of", "items.place"
"""Columns of items: what kind an item is, and its place among its record's of that kind."""


def load_records(*directories: str | Path) -> "pd.DataFrame":
    """Return one row per record found under the directories (default ``reports``).

    Nested objects become columns with dots: ``cell.axes.seed``, ``environment.device_kind``,
    ``cell.study``. A record that is there twice, in the store and in the exported view, is one
    row. ``frame.attrs["unreadable"]`` lists files that could not be read, with the reason. A
    directory that is none is a ``UsageError``.
    """
    import pandas as pd

    unreadable: list[str] = []
    frame = pd.DataFrame(list(record_rows(*directories, unreadable=unreadable)))
    frame.attrs["unreadable"] = unreadable
    return frame


def load_items(*directories: str | Path) -> "pd.DataFrame":
    """Return one row per item of every record found under the directories (default ``reports``).

    The columns are the record's own (``correct``, ``chunk_nll``), behind those that say whose the
    item is: ``cell.study``, ``cell.axes.model`` and the other axes, ``weights`` and
    ``record_sha256``, by which `load_records` has the rest of the record. ``items.of`` is the kind,
    the first of the columns that the record was given together (``question``, ``chunk``), and
    ``items.place`` counts from 0 within it. What an item of another kind has not is missing:
    truth values and whole numbers are of pandas' own types, which can be missing. A column that
    is text in one record and a number in another is text. ``frame.attrs["unreadable"]`` lists
    records and side files that could not be read, with the reason. A directory that is none is a
    ``UsageError``.
    """
    import pandas as pd
    import pyarrow

    unreadable: list[str] = []
    types: dict[Any, Any] = {pyarrow.bool_(): pd.BooleanDtype(), pyarrow.int64(): pd.Int64Dtype()}
    frame = items_table(*directories, unreadable=unreadable).to_pandas(types_mapper=types.get)
    frame.attrs["unreadable"] = unreadable
    return frame


def record_rows(*directories: str | Path, unreadable: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of `load_records`; what cannot be read is added to ``unreadable``.

    No frame holds a path that is no UTF-8: it has U+FFFD for what is none.
    """
    for path, found in _records(directories, unreadable):
        row = {**flat(found), SEAL: found.sha256} if isinstance(found, Record) else found
        yield {**flatten(row), "path": without_surrogates(str(path))}


def items_table(*directories: str | Path, unreadable: list[str]) -> "pyarrow.Table":
    """Return the rows of `load_items` as an Arrow table."""
    import pyarrow

    tables = [
        pyarrow.table({**_whose(record, kind, n), **_apart(record, columns)})
        for path, record in _records(directories, unreadable)
        if isinstance(record, Record) and record.items is not None
        for kind, n, columns in tables_of(record, _side_file(path, record, unreadable))
    ]
    if not tables:
        return pyarrow.table({})
    return pyarrow.concat_tables(_alike(tables), promote_options="permissive")


def tables_of(
    record: Record, columns: Mapping[str, Any]
) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Yield (kind, length, columns) of each kind of item in a record's side file.

    Columns that the record was given together are equally long and follow one another. A column of
    names by which metrics pair items (``chunk``, ``question``) begins another kind even at the same
    length, unless it only tells more of those that the kind is named by (``question_id``).
    """
    known = study(record.cell.study).metrics if record.cell.study in names() else ()
    ids = {metric.ids for metric in (PERPLEXITY, ACCURACY, *known)}
    kind, table = "", dict[str, Any]()
    for name, values in columns.items():
        if table and (len(values) != len(table[kind]) or _begins(name, kind, ids)):
            yield kind, len(table[kind]), table
            table = {}
        kind = kind if table else name
        table[name] = values
    if table:
        yield kind, len(table[kind]), table


def _begins(name: str, kind: str, ids: Collection[str]) -> bool:
    return name in ids and not kind.startswith(name)


def record_files(*directories: str | Path) -> Iterator[Path]:
    """Yield the record files under each directory, which may be a record folder itself.

    The views that a store exports are left out: they show records that it holds.
    """
    for directory in map(Path, directories):
        found = set(directory.rglob("store/records/*.json"))
        stores = {path.parents[2] for path in found}
        views = directory.rglob("raw_runs/*.json")
        found |= {path for path in views if not stores & set(path.parents)}
        if directory.name in ("records", "raw_runs"):
            found |= set(directory.glob("*.json"))
        yield from sorted(found)


def flatten(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested objects as one level with dotted names."""
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _records(
    directories: Sequence[str | Path], unreadable: list[str]
) -> Iterator[tuple[Path, Record | dict[str, Any]]]:
    """Yield each file with its record, once, or with the object of a source document's own file."""
    seen: set[tuple[str, ...]] = set()
    named = directories or ("reports",)
    for directory in named:
        if not str(directory).strip() or not Path(directory).is_dir():
            raise UsageError(f"there is no folder {directory!s:.200}", fix="name a reports folder")
    for path in record_files(*named):
        try:
            record = read_file(path)
        except DocumentFile as found:
            yield path, {**found.body, "outcome": outcome_of(found.body)}
        except BenchsuiteError as error:
            unreadable.append(f"{path}: {error.what}")
        except OSError as error:
            unreadable.append(f"{path}: {error.strerror}")
        else:
            identity = (record.fingerprint.value, record.started_at, record.results_sha256)
            if identity not in seen:
                seen.add(identity)
                yield path, record


def _side_file(path: Path, record: Record, unreadable: list[str]) -> Mapping[str, Any]:
    assert record.items is not None
    side = path.parent / record.items.file
    try:
        if record.items.sha256 in (None, sha256(side)):
            return read_columns(side)
        unreadable.append(f"{side}: it was changed after it was written")
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        unreadable.append(f"{side}: {error}")
    return {}


def _whose(record: Record, kind: str, n: int) -> dict[str, Any]:
    """Return the columns that say whose ``n`` items of a kind are."""
    axes = {f"cell.axes.{name}": value for name, value in record.cell.axes.items()}
    facts = {"cell.study": record.cell.study, **axes}
    facts |= {"weights": record.source.weights or "unknown", SEAL: record.sha256, OF: kind}
    return {**{name: [value] * n for name, value in facts.items()}, PLACE: range(n)}


def _apart(record: Record, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item's own columns, renamed where they would stand in the place of another."""
    taken = _whose(record, "", 0)
    return {f"item.{n}" if n in taken else n: values for n, values in columns.items()}


def _alike(tables: Sequence["pyarrow.Table"]) -> list["pyarrow.Table"]:
    """Return tables whose columns can be joined: what is a text anywhere is a text everywhere."""
    import pyarrow

    kinds: dict[str, set[str]] = {}
    for table in tables:
        for field in table.schema:
            kinds.setdefault(field.name, set()).add(_family(field.type))
    mixed = {name for name, found in kinds.items() if len(found) > 1}
    if not mixed:
        return list(tables)
    return [
        pyarrow.table({n: _texts(table[n]) if n in mixed else table[n] for n in table.column_names})
        for table in tables
    ]


def _texts(column: Any) -> list[str]:
    return [value if isinstance(value, str) else json.dumps(value) for value in column.to_pylist()]


def _family(kind: Any) -> str:
    import pyarrow.types

    if pyarrow.types.is_boolean(kind):
        return "truth value"
    return "text" if pyarrow.types.is_string(kind) else "number"
