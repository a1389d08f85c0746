"""The text that both models read."""

import csv
import gzip
import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from benchsuite.comparing.texts import open_text
from benchsuite.errors import BenchsuiteError

ROWS = ["A first text,\nof two lines.", "", 'A "second" one.']


def lines(path, rows):
    path.write_text("".join(json.dumps({"id": 1, "text": row}) + "\n" for row in rows))


def table(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["text"], *([row] for row in rows)])


WRITERS = {
    "rows.jsonl": lines,
    "rows.json": lambda path, rows: path.write_text(json.dumps([{"text": row} for row in rows])),
    "rows.csv": lambda path, rows: table(path, filter(None, rows)),
    "rows.parquet": lambda path, rows: parquet.write_table(pa.table({"text": rows}), path),
}


def test_a_byte_order_mark_is_no_text(tmp_path):
    plain, marked = tmp_path / "plain.txt", tmp_path / "marked.txt"
    plain.write_bytes(b"Some text.\n")
    marked.write_bytes("\ufeffSome text.\n".encode())
    assert open_text(str(marked)).digest == open_text(str(plain)).digest


@pytest.mark.parametrize("name", WRITERS)
def test_rows_are_read_and_not_the_marks_around_them(name, tmp_path):
    WRITERS[name](tmp_path / name, ROWS)
    kept = ROWS if name != "rows.csv" else filter(None, ROWS)  # a blank line there is no row
    assert open_text(str(tmp_path / name)).joined == "\n\n".join(kept)


def test_rows_without_a_text_are_named(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"content": "Some text."}\n')
    with pytest.raises(BenchsuiteError, match="no column 'text': the file has the columns 'conten"):
        open_text(str(tmp_path / "rows.jsonl"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("README", b"One.\nTwo.\n"),
        ("a.md", b"\xef\xbb\xbfOne.\r\nTwo.\r\n"),
        ("a.txt", b"One.\rTwo.\r"),
        ("wide.txt", "\ufeffOne.\nTwo.\n".encode("utf-16-le")),
        ("a.txt.gz", gzip.compress(b"One.\nTwo.\n", mtime=0)),
    ],
)
def test_a_plain_text_is_the_same_in_whatever_form(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    assert open_text(str(tmp_path / name)).joined == "One.\nTwo.\n"


@pytest.mark.parametrize("content", [b"caf\xe9\n", b"a\0b\n"])
def test_what_is_no_text_is_named(content, tmp_path):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(BenchsuiteError, match=r"is not UTF-8 text|the character NUL"):
        open_text(str(tmp_path / "a.txt"))
