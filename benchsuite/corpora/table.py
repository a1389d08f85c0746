"""One data file opened: its columns first, then its rows, whatever its format and encoding."""

import codecs
import csv
import gzip
import json
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchsuite.corpora.pointers import refuse_pointer
from benchsuite.errors import BenchsuiteError

Row = dict[str, Any]

TEXT_COLUMN = "text"  # what the rows of a plain text file are called
PACKED = ".gz"


def _with_packed(*endings: str) -> tuple[str, ...]:
    return (*endings, *(f"{ending}{PACKED}" for ending in endings))


# The endings of files of lines, each packed or not.
JSONS = _with_packed(".jsonl", ".json")
TABLES = _with_packed(".csv", ".tsv")
TEXTS = _with_packed(".txt", ".raw", ".tokens")
COLUMNAR = (".parquet", ".arrow")
ROWS = (*JSONS, *TABLES, *COLUMNAR)
# UTF-32's mark begins with UTF-16's, so it is asked first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Where authors (SQuAD, TriviaQA, BioASQ) keep their rows: in one object, under one of these.
_LISTS = ("data", "Data", "questions")


@dataclass(frozen=True)
class Table:
    """A data file: ``columns`` are its header's, its schema's or its first row's.

    ``read(columns)`` yields each row's number, from 1, and the row with at least those of
    ``columns`` that it has. ``first_line`` is a CSV file's, which may be data and no header.
    """

    file: Path
    columns: tuple[str, ...]
    read: Callable[[Collection[str]], Iterable[tuple[int, Row]]] = field(repr=False)
    first_line: tuple[str, ...] = ()


def opened(file: Path) -> Table:
    """Return a file as a table. Raises ``BenchsuiteError`` naming the line that is damaged."""
    refuse_pointer(file)
    if file.name.endswith(COLUMNAR):
        return _columnar(file)
    if file.name.endswith(TEXTS):
        return Table(file, (TEXT_COLUMN,), lambda _: enumerate(_text_rows(file), start=1))
    if file.name.endswith(TABLES):
        return _delimited(file)
    return _json(file)


def whole_text(file: Path) -> str:
    """Return a text file, packed or not, with plain line ends and without its byte order mark."""
    refuse_pointer(file)
    return "".join(line for _, line in _lines(file)).replace("\r\n", "\n").replace("\r", "\n")


def unpacked(file: Path) -> Path:
    """Return a file's name without the ending that says it is packed."""
    return file.with_suffix("") if file.suffix == PACKED else file


def without_header(table: Table, columns: Collection[str]) -> Table:
    """Return a CSV file that has no header as a table of these columns."""
    return Table(table.file, tuple(columns), lambda _: _delimited_rows(table.file, tuple(columns)))


def _columnar(file: Path) -> Table:
    import pyarrow
    from pyarrow import ipc, parquet

    if file.name.endswith(".parquet"):
        columns = tuple(parquet.ParquetFile(file).schema_arrow.names)
    else:
        columns = tuple(ipc.open_stream(pyarrow.memory_map(str(file))).schema.names)

    def rows(wanted: Collection[str]) -> Iterator[tuple[int, Row]]:
        names = [name for name in columns if name in wanted]
        if file.name.endswith(".parquet"):
            batches = parquet.ParquetFile(file).iter_batches(columns=names)
        else:
            stream = ipc.open_stream(pyarrow.memory_map(str(file)))
            batches = (batch.select(names) for batch in stream)
        number = 0
        for batch in batches:
            for row in batch.to_pylist():
                number += 1
                yield number, row

    return Table(file, columns, rows)


def _text_rows(file: Path) -> Iterator[Row]:
    # The raw WikiText files keep their line ends in the hub's rows, and blank lines are empty
    # there; a perplexity from the raw files must read the same text, whatever system copied them.
    raw = unpacked(file).suffix != ".txt"
    for _, line in _lines(file):
        text = line.rstrip("\r\n")
        if raw:
            text = text + "\n" * line.endswith("\n") if text.strip() else ""
        yield {TEXT_COLUMN: text}


def _json(file: Path) -> Table:
    """Return JSON lines, or one document: an array of rows, or an object that holds one."""
    first = next(((n, line) for n, line in _lines(file) if line.strip()), None)
    if first is None:
        return Table(file, (), lambda _: iter(()))
    row = _parsed(first[1])
    lines = Table(file, tuple(row), lambda _: _json_lines(file)) if isinstance(row, dict) else None
    if lines and _held(row) is None:
        return lines
    whole = "".join(line for _, line in _lines(file))
    try:
        document = json.loads(whole)
    except (ValueError, RecursionError) as error:
        if lines:
            return lines
        if isinstance(error, json.JSONDecodeError) and first[1].lstrip()[0] == "[":
            place = f"line {error.lineno}: the array is damaged there, or ends: {error.msg}"
            raise _damaged(file, place) from None
        raise _not_an_object(file, *first) from None
    rows = _held(document) if isinstance(document, dict) else document
    if rows is None:
        rows = [document]
    if not isinstance(rows, list):
        raise _not_an_object(file, *first)
    for number, item in enumerate(rows, start=1):
        if not isinstance(item, dict):
            raise BenchsuiteError(
                f"row {number} is a {type(item).__name__}, not a JSON object",
                where=str(file),
                fix='Expected a list of rows, one {"column": value, ...} each',
            )
    return Table(file, tuple(rows[0]) if rows else (), lambda _: enumerate(rows, start=1))


def _held(document: Row) -> list[Any] | None:
    for key in _LISTS:
        rows = document.get(key)
        if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows):
            return rows
    return None


def _json_lines(file: Path) -> Iterator[tuple[int, Row]]:
    number = 0
    for place, line in _lines(file):
        if not line.strip():
            continue
        row = _parsed(line)
        if not isinstance(row, dict):
            raise _not_an_object(file, place, line)
        number += 1
        yield number, row


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _not_an_object(file: Path, number: int, line: str) -> BenchsuiteError:
    cut = "" if line.endswith("\n") else " and has no line end: the file may be cut off there"
    return BenchsuiteError(
        f"line {number} is not a JSON object{cut}",
        where=str(file),
        fix='Expected JSON lines, one {"column": value, ...} each, or one list of them',
    )


def _delimited(file: Path) -> Table:
    header = next((cells for _, cells in _cells(file)), ())
    columns = tuple(name.strip() for name in header)
    while columns and not columns[-1]:
        columns = columns[:-1]
    return Table(file, columns, lambda _: _delimited_rows(file, columns, skip=1), tuple(header))


def _delimited_rows(
    file: Path, columns: tuple[str, ...], skip: int = 0
) -> Iterator[tuple[int, Row]]:
    twice = [name for name in columns if name and columns.count(name) > 1]
    if skip and twice:
        raise _damaged(file, f"two of its columns are called {twice[0]!r}")
    for number, (line, cells) in enumerate(_cells(file), start=1 - skip):
        if number < 1:
            continue
        while len(cells) > len(columns) and not cells[-1]:
            cells = cells[:-1]
        if len(cells) != len(columns):
            raise _damaged(
                file, f"row {number} (to line {line}) has {len(cells)} cells, not {len(columns)}"
            )
        yield number, dict(zip(columns, cells, strict=True))


def _cells(file: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield the line that each row of a CSV or TSV file ends in, and its cells."""
    delimiter = "\t" if unpacked(file).suffix == ".tsv" else ","
    csv.field_size_limit(sys.maxsize)  # a cell may be a whole document: Python's is 128 KiB
    reader = csv.reader((line for _, line in _lines(file)), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, tuple(cells)
    except csv.Error as error:
        raise _damaged(file, f"line {reader.line_num} cannot be read: {error}") from None


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield a text file's lines with their line ends, from 1; a byte order mark is no part of them.

    A byte that is no text is kept as half a surrogate, which tells it from all that can be decoded.
    """
    opens: Callable[..., Any] = gzip.open if file.name.endswith(PACKED) else open
    with opens(file, "rb") as stream:
        head = stream.read(4)
    encoding = next((name for mark, name in _MARKS if head.startswith(mark)), "utf-8")
    with opens(file, "rt", encoding=encoding, errors="surrogateescape", newline="\n") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.isascii():
                _check_decoded(file, number, line)
            yield number, line


def _check_decoded(file: Path, number: int, line: str) -> None:
    try:
        line.encode()
    except UnicodeEncodeError as error:
        byte = ord(line[error.start]) - 0xDC00
        raise BenchsuiteError(
            f"line {number} is not UTF-8 text: byte 0x{byte:02x} after {error.start} characters",
            where=str(file),
            fix="Convert the file to UTF-8, or copy or download it again",
        ) from None


def _damaged(file: Path, what: str) -> BenchsuiteError:
    return BenchsuiteError(what, where=str(file), fix="Copy or download the file again")
