"""Rows out of parquet, Arrow, JSON lines and text files, with errors that name file and column."""

import gzip
import json
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from benchsuite.errors import BenchsuiteError

TEXT_COLUMN = "text"  # what the rows of a plain text file are called


def read_column(files: list[Path], column: str, limit: int | None = None) -> Iterator[str]:
    """Yield one text column of all files in order, at most ``limit`` rows.

    Raises ``BenchsuiteError`` naming the file, the columns found and the one expected.
    """

    def rows() -> Iterator[str]:
        for file in files:
            for number, row in enumerate(read_rows(file, [column]), start=1):
                if not isinstance(row[column], str):
                    raise BenchsuiteError(
                        f"row {number}: column {column!r} holds a {type(row[column]).__name__}, "
                        "not text",
                        where=str(file),
                        fix="Expected one string per row",
                    )
                yield row[column]

    return islice(rows(), limit)


def read_rows(
    file: Path, columns: list[str], optional: Collection[str] = ()
) -> Iterator[dict[str, Any]]:
    """Yield a file's rows as dictionaries that hold ``columns``, and ``optional`` where there.

    Raises ``BenchsuiteError`` naming the file for damage, a missing column or text not in UTF-8.
    """
    try:
        if file.name.endswith((".parquet", ".arrow")):
            yield from _from_table(file, columns, optional)
        elif file.name.endswith((".txt", ".raw", ".tokens")):
            _require(file, columns, [TEXT_COLUMN])
            yield from _from_lines(file)
        else:
            yield from _from_json(file, columns)
    except UnicodeDecodeError as error:
        raise BenchsuiteError(
            f"the file is not UTF-8 text: {error.reason} at byte {error.start} of what was read",
            where=str(file),
            fix="Convert it to UTF-8, or copy or download it again",
        ) from error
    # Of pyarrow, gzip and the file system: damage that shows while reading.
    except (OSError, EOFError, ValueError) as error:
        raise BenchsuiteError(
            f"the file cannot be read: {(str(error) or type(error).__name__).splitlines()[0]}",
            where=str(file),
            fix="Copy or download it again",
        ) from error


def _from_table(
    file: Path, columns: list[str], optional: Collection[str]
) -> Iterator[dict[str, Any]]:
    import pyarrow
    from pyarrow import ipc, parquet

    if file.name.endswith(".parquet"):
        source = parquet.ParquetFile(file)
        _require(file, columns, source.schema_arrow.names)
        names = columns + [name for name in source.schema_arrow.names if name in optional]
        batches = source.iter_batches(columns=names)
    else:
        source = ipc.open_stream(pyarrow.memory_map(str(file)))
        _require(file, columns, source.schema.names)
        names = columns + [name for name in source.schema.names if name in optional]
        batches = (batch.select(names) for batch in source)
    for batch in batches:
        yield from batch.to_pylist()


def _from_lines(file: Path) -> Iterator[dict[str, Any]]:
    # The raw WikiText files keep their line ends in the hub's rows, and blank lines are empty
    # there; a perplexity from the raw files must read the same text.
    raw = file.suffix in (".raw", ".tokens")
    with file.open(encoding="utf-8", newline="\n") as stream:
        for line in stream:
            yield {TEXT_COLUMN: (line if line.strip() else "") if raw else line.rstrip("\r\n")}


def _from_json(file: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    opened = gzip.open if file.name.endswith(".gz") else open
    with opened(file, "rt", encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            row = _parsed(file, number, line)
            _require(file, columns, list(row), row=number)
            yield row


def _parsed(file: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise BenchsuiteError(
            f"line {number} is not a JSON object",
            where=str(file),
            fix='Expected JSON lines, one {"column": value, ...} each',
        )
    return row


def _require(file: Path, columns: list[str], found: list[str], row: int | None = None) -> None:
    missing = [column for column in columns if column not in found]
    if missing:
        at = f"row {row} has" if row else "the file has"
        raise BenchsuiteError(
            f"no column {missing[0]!r}: {at} the columns {', '.join(map(repr, found))}",
            where=str(file),
            fix=f"Expected {', '.join(map(repr, columns))}",
        )
