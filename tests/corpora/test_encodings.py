"""Texts as people have them: byte order marks, line ends, half characters, cut-off files."""

import csv
import io
import json

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from benchsuite.corpora import load_text
from benchsuite.corpora.table import opened
from benchsuite.errors import BenchsuiteError
from tests.corpora.local import at

ROWS = ["An owl sees ☾.", "It flies, at night."]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-32"]


def _delimited(rows, delimiter=","):
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerows([["n", "text"], *([i, row] for i, row in enumerate(rows))])
    return text.getvalue()


def _lines(rows):
    return "".join(json.dumps({"text": row}, ensure_ascii=False) + "\n" for row in rows)


WRITTEN = {
    "txt": lambda rows: "".join(f"{row}\n" for row in rows),
    "raw": lambda rows: "".join(f"{row}\n" for row in rows),
    "jsonl": _lines,
    "json": lambda rows: json.dumps([{"text": row} for row in rows], indent=1),
    "csv": _delimited,
    "tsv": lambda rows: _delimited(rows, "\t"),
}


def _read(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    return load_text("wikitext2", "train", at("wikitext2", tmp_path))


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("ending", WRITTEN)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_format_is_read_in_every_encoding(end, ending, encoding, tmp_path):
    text = WRITTEN[ending](ROWS).replace("\r\n", "\n").replace("\n", end)
    corpus = _read(tmp_path, f"train.{ending}", text.encode(encoding))

    expected = [f"{row}\n" for row in ROWS] if ending == "raw" else ROWS
    assert corpus.documents == tuple(expected)


@pytest.mark.parametrize("tail", ["\n", "\r\n\r\n", "  \n"])
@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "tsv"])
def test_empty_last_lines_are_no_rows(ending, tail, tmp_path):
    text = WRITTEN[ending](ROWS) + tail
    assert _read(tmp_path, f"train.{ending}", text.encode()).documents == tuple(ROWS)


def test_empty_cells_at_the_end_of_csv_rows_are_no_columns(tmp_path):
    assert _read(tmp_path, "train.csv", b"n,text,,\n1,one,,\n2,two\n").documents == ("one", "two")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.jsonl", '{"text": "a"}\n{"text": "hal', "line 2 is not a JSON object and has no"),
        ("train.json", '[{"text": "a"},\n {"text": "b"},]', "line 2: the array is damaged there"),
        ("train.json", '[{"text": "a"},\n {"text": ', "line 2: the array is damaged there"),
        ("train.json", '[{"text": "a"}, 3]', "row 2 is a int, not a JSON object"),
        ("train.csv", "n,text\n1,a\n2,b,c\n", r"row 2 \(to line 3\) has 3 cells, not 2"),
        ("train.csv", "n,text\n1,a\n2", r"row 2 \(to line 3\) has 1 cells, not 2"),
        ("train.csv", 'n,text\n1,a\n2,"b', "line 3 cannot be read: unexpected end of data"),
        ("train.csv", "n,body\n1,a\n", "no column 'text': the file has the columns 'n', 'body'"),
        ("train.jsonl", '{"text": "a"}\n{"txt": "b"}', "no column 'text': row 2 has .* 'txt'"),
        ("train.jsonl", '{"text": "a"}\n{"text": null}', "row 2: .* holds a NoneType, not text"),
        ("train.jsonl", '{"text": "a"}\n{"text": "b\\u0000"}', "row 2: .*the character NUL"),
        (
            "train.jsonl",
            '{"text": "a"}\n{"text": "an \\ud83d"}',
            r"row 2: column 'text' holds half of a character, .*d83d.*, after 3 characters",
        ),
        ("train.txt", "one\ntwo\0\n", "row 2: column 'text' holds the character NUL"),
        ("train.csv", "n,text\n1,one\0\n", "row 1: column 'text' holds the character NUL"),
        ("train.txt", b"one\ntw\xff\n", "line 2 is not UTF-8 text: byte 0xff after 2 characters"),
        ("train.raw", b"\xed\xa0\xbd\n", "line 1 is not UTF-8 text: byte 0xed"),
        ("train.csv", b"n,text\n1,\xe9t\xe9\n", "line 2 is not UTF-8 text: byte 0xe9"),
        ("train.json", b'[{"text": "\xff"}]', "line 1 is not UTF-8 text: byte 0xff"),
    ],
)
def test_what_no_tokenizer_reads_and_what_is_cut_off_is_named(name, content, message, tmp_path):
    data = content if isinstance(content, bytes) else content.encode()
    with pytest.raises(BenchsuiteError, match=message) as caught:
        _read(tmp_path, name, data)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_column_that_is_not_read_may_hold_anything(tmp_path):
    content = b'{"text": "one", "other": "\\ud83d"}\n'
    assert _read(tmp_path, "train.jsonl", content).documents == ("one",)


def test_parquet_texts_are_checked_like_others(tmp_path):
    parquet.write_table(pyarrow.table({"text": ["a", "b\0"]}), tmp_path / "train.parquet")
    with pytest.raises(BenchsuiteError, match="row 2: column 'text' holds the character NUL"):
        load_text("wikitext2", "train", at("wikitext2", tmp_path))


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), min_size=1, max_size=9)


@given(
    rows=st.lists(TEXTS.filter(str.strip), min_size=1, max_size=5),
    ending=st.sampled_from(["jsonl", "json", "csv", "tsv"]),
    encoding=st.sampled_from(ENCODINGS[1:]),
)
@settings(max_examples=60, deadline=None)
def test_what_was_written_is_read(rows, ending, encoding, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    corpus = _read(folder, f"train.{ending}", WRITTEN[ending](rows).encode(encoding))
    assert corpus.documents == tuple(rows)


def test_a_cell_of_a_csv_file_may_hold_a_whole_document(tmp_path):
    document = "An owl sees.\n" * 20_000
    (tmp_path / "test.csv").write_bytes(_delimited([document, "It flies."]).encode())
    ((_, first), (_, second)) = opened(tmp_path / "test.csv").read(("text",))
    assert (first["text"], second["text"]) == (document, "It flies.")
