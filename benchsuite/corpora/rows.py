"""Rows out of data files, in one of the forms that are known, with errors that name the row."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from benchsuite.corpora.table import Row, Table, opened, whole_text
from benchsuite.errors import BenchsuiteError


def read_column(files: list[Path], column: str, limit: int | None = None) -> Iterator[str]:
    """Yield one text column of all files in order, at most ``limit`` rows.

    Raises ``BenchsuiteError`` naming the file, the columns found and the one expected.
    """

    def rows() -> Iterator[str]:
        for file in files:
            for number, row in read_rows(file, [column]):
                if not isinstance(row[column], str):
                    raise BenchsuiteError(
                        f"row {number}: column {column!r} holds a {type(row[column]).__name__}, "
                        "not text",
                        where=str(file),
                        fix="Expected one string per row",
                    )
                yield row[column]

    return islice(rows(), limit)


def read_text(file: Path) -> str:
    """Return a file of plain text. Raises ``BenchsuiteError`` for what no tokenizer takes."""
    with readable(file):
        text = whole_text(file)
    if (wrong := _unwritable(text)) is not None:
        raise BenchsuiteError(f"it holds {wrong}", str(file), "Give a plain text")
    return text


def read_rows(
    file: Path, columns: Sequence[str], optional: Collection[str] = ()
) -> Iterator[tuple[int, Row]]:
    """Yield the number, from 1, of each row of a file, and the row with ``columns``.

    ``optional`` ones are there where the file has them. Raises ``BenchsuiteError`` naming the file
    for damage, a missing column and text that no tokenizer takes.
    """
    with readable(file):
        table = opened(file)
        if table.columns:
            require(file, columns, table.columns)
        yield from checked(table, columns, optional)


def checked(
    table: Table, columns: Sequence[str], optional: Collection[str] = ()
) -> Iterator[tuple[int, Row]]:
    """Yield a table's numbered rows; every one has ``columns``, and text that can be written.

    ``BenchsuiteError`` names the row and the column of one that has not.
    """
    wanted = {*columns, *optional}
    for number, row in table.read(wanted):
        if not row.keys() >= set(columns):
            require(table.file, columns, row, row=number)
        for column in wanted & row.keys():
            if (wrong := _unwritable(row[column])) is not None:
                raise BenchsuiteError(
                    f"row {number}: column {column!r} holds {wrong}",
                    where=str(table.file),
                    fix="Correct that row or leave it out",
                )
        yield number, row


def require(
    file: Path, columns: Sequence[str], found: Collection[str], row: int | None = None
) -> None:
    """Raise ``BenchsuiteError`` for a missing column, naming those found and those expected."""
    missing = [column for column in columns if column not in found]
    if missing:
        at = f"row {row} has" if row else "the file has"
        raise BenchsuiteError(
            f"no column {missing[0]!r}: {at} the columns {', '.join(map(repr, found))}",
            where=str(file),
            fix=f"Expected {', '.join(map(repr, columns))}",
        )


@contextmanager
def readable(file: Path) -> Iterator[None]:
    """Turn damage that shows while reading into a ``BenchsuiteError`` that names the file."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise BenchsuiteError(
            f"the file is no {error.encoding} text: {error.reason} at byte {error.start} of what "
            "was read",
            where=str(file),
            fix="Convert it to UTF-8, or copy or download it again",
        ) from error
    # Of pyarrow, gzip and the file system.
    except (OSError, EOFError, ValueError) as error:
        raise BenchsuiteError(
            f"the file cannot be read: {(str(error) or type(error).__name__).splitlines()[0]}",
            where=str(file),
            fix="Copy or download it again",
        ) from error


def _unwritable(value: Any) -> str | None:
    """Say what in a value's texts cannot be written as UTF-8 and read by a tokenizer, if any is."""
    if isinstance(value, str):
        if "\0" in value:
            return f"the character NUL in {value[:40]!r}"
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                half = value[error.start]
                return f"half of a character, {half!r}, after {error.start} characters"
        return None
    parts = value.values() if isinstance(value, dict) else value
    if isinstance(value, dict | list):
        return next((wrong for part in parts if (wrong := _unwritable(part))), None)
    return None
