import gzip
import json
import os
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchsuite.corpora import load_text, text_digest
from benchsuite.errors import BenchsuiteError, UsageError
from tests.corpora.conftest import ROWS, write_jsonl, write_parquet
from tests.corpora.local import at


def _library():
    return pytest.importorskip("datasets", reason="needs the extra hub")


def _parquet(root: Path) -> None:
    for split, rows in ROWS.items():
        write_parquet(root / f"{split}.parquet", rows)


def _sharded_parquet(root: Path) -> None:
    for split, rows in ROWS.items():
        write_parquet(root / split / "0000.parquet", rows[:1])
        write_parquet(root / split / "0001.parquet", rows[1:])


def _snapshot(root: Path) -> None:
    for split, rows in ROWS.items():
        write_parquet(root / "wikitext-2-raw-v1" / f"{split}-00000-of-00001.parquet", rows)
        write_parquet(root / "wikitext-103-raw-v1" / f"{split}-00000-of-00001.parquet", ["no"])


def _jsonl(root: Path) -> None:
    for split, rows in ROWS.items():
        write_jsonl(root / f"{split}.jsonl", rows)


def _compressed_json(root: Path) -> None:
    for split, rows in ROWS.items():
        lines = "".join(json.dumps({"text": row}) + "\n" for row in rows)
        with gzip.open(root / f"wiki-{split}.json.gz", "wt", encoding="utf-8") as stream:
            stream.write(lines)


def _raw_files(root: Path) -> None:
    for split, rows in ROWS.items():
        name = "valid" if split == "validation" else split
        (root / f"wiki.{name}.raw").write_text("".join(row or " \n" for row in rows))


def _saved_dictionary(root: Path) -> None:
    datasets = _library()
    parts = {split: datasets.Dataset.from_dict({"text": rows}) for split, rows in ROWS.items()}
    datasets.DatasetDict(parts).save_to_disk(root)


def _hub_cache(root: Path) -> None:
    repository = root / "datasets--Salesforce--wikitext"
    _snapshot(repository / "snapshots" / "abc123")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc123")
    (repository / "snapshots" / "older").mkdir()


def _hub_home(root: Path) -> None:
    (root / "hub").mkdir()
    _hub_cache(root / "hub")


LAYOUTS = [
    _parquet,
    _sharded_parquet,
    _snapshot,
    _jsonl,
    _compressed_json,
    _raw_files,
    _saved_dictionary,
    _hub_cache,
    _hub_home,
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("split", ROWS)
def test_every_layout_gives_the_same_corpus(layout, split, tmp_path):
    layout(tmp_path)

    corpus = load_text("wikitext2", split, at("wikitext2", tmp_path))

    assert corpus.documents == tuple(row for row in ROWS[split] if row)
    assert corpus.joined == "\n\n".join(ROWS[split])
    assert corpus.digest == sha256(b"".join(r.encode() + b"\0" for r in ROWS[split])).hexdigest()
    assert (corpus.name, corpus.split, corpus.source) == ("wikitext2", split, "local")
    assert corpus.revision == text_digest("wikitext2", split, at("wikitext2", tmp_path))


def test_a_text_file_has_one_row_per_line(tmp_path):
    (tmp_path / "train.txt").write_text("one\n\ntwo\n")

    corpus = load_text("wikitext2", "train", at("wikitext2", str(tmp_path)))

    assert corpus.documents == ("one", "two")
    assert corpus.joined == "one\n\n\n\ntwo"


def test_one_saved_data_set_stands_for_the_split_that_is_asked(tmp_path):
    _library().Dataset.from_dict({"text": ["one"]}).save_to_disk(tmp_path)

    assert load_text("wikitext2", "test", at("wikitext2", tmp_path)).documents == ("one",)


def test_the_catalogued_column_is_read(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", ["How many?"], column="Problem")

    assert load_text("mathqa", "train", at("mathqa", tmp_path)).documents == ("How many?",)


# NUL, which no tokenizer reads, is refused.
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@given(rows=st.lists(TEXTS, min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_rows_come_back_as_they_were_written(rows, tmp_path_factory):
    root = tmp_path_factory.mktemp("rows")
    write_jsonl(root / "train.jsonl", [*rows, "something"])

    corpus = load_text("wikitext2", "train", at("wikitext2", root))

    assert corpus.joined == "\n\n".join([*rows, "something"])
    assert corpus.documents == tuple(row for row in [*rows, "something"] if row.strip())


@pytest.mark.parametrize("write", [write_parquet, write_jsonl])
def test_a_missing_column_names_file_found_and_expected(write, tmp_path):
    name = "train.parquet" if write is write_parquet else "train.jsonl"
    write(tmp_path / name, ["text"], column="body")

    with pytest.raises(BenchsuiteError, match="no column 'text'") as caught:
        load_text("wikitext2", "train", at("wikitext2", tmp_path))

    assert "'body'" in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_split_names_the_ones_found(tmp_path):
    write_parquet(tmp_path / "train.parquet", ["text"])

    with pytest.raises(UsageError, match=r"no test split .* 1 data files of train"):
        text_digest("wikitext2", "test", at("wikitext2", tmp_path))


PACKED = {
    "train.txt.gz": "one\ntwo\n",
    "wiki.train.raw.gz": "one\n \ntwo\n",
    "train.csv.gz": "text\none\ntwo\n",
    "train.tsv.gz": "text\tn\none\t1\ntwo\t2\n",
}


@pytest.mark.parametrize("name", PACKED)
def test_a_packed_file_reads_as_the_one_that_it_packs(name, tmp_path):
    plain, packed, both = (tmp_path / part for part in ("plain", "packed", "both"))
    for folder in (plain, packed, both):
        folder.mkdir()
    (plain / name.removesuffix(".gz")).write_text(PACKED[name])
    (both / name.removesuffix(".gz")).write_text(PACKED[name])
    for folder in (packed, both):
        (folder / name).write_bytes(gzip.compress(PACKED[name].encode()))

    expected, *found = (
        load_text("wikitext2", "train", at("wikitext2", place))
        for place in (plain, packed, packed / name, both)
    )

    assert [one.digest for one in found] == [expected.digest] * 3
    assert [one.documents for one in found] == [expected.documents] * 3


def test_a_folder_without_data_files_names_what_it_holds_and_what_is_read(tmp_path):
    (tmp_path / "train.txt.bz2").write_bytes(b"")

    with pytest.raises(
        UsageError, match=r"no data file is under .*: it holds train.txt.bz2"
    ) as told:
        load_text("wikitext2", "train", at("wikitext2", tmp_path))
    assert ".parquet, .arrow, .jsonl, .json, .jsonl.gz, .json.gz, .csv" in str(told.value)


def test_a_missing_split_of_a_saved_dictionary(tmp_path):
    datasets = _library()
    part = datasets.Dataset.from_dict({"text": ["one"]})
    datasets.DatasetDict({"train": part}).save_to_disk(tmp_path)

    with pytest.raises(UsageError, match="no test split"):
        load_text("wikitext2", "test", at("wikitext2", tmp_path))


def test_a_missing_directory(tmp_path):
    with pytest.raises(UsageError, match="no such directory"):
        load_text("wikitext2", "test", at("wikitext2", tmp_path / "nowhere"))


def test_a_cache_with_several_snapshots_and_no_main(tmp_path):
    _hub_cache(tmp_path)
    (tmp_path / "datasets--Salesforce--wikitext" / "refs" / "main").unlink()

    with pytest.raises(UsageError, match="2 snapshots"):
        load_text("wikitext2", "test", at("wikitext2", tmp_path))


def test_a_corpus_without_text(tmp_path):
    write_parquet(tmp_path / "train.parquet", ["", " \n"])

    with pytest.raises(BenchsuiteError, match="2 rows, all empty"):
        load_text("wikitext2", "train", at("wikitext2", tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "one"}\n{"text":\n', "line 2 is not a JSON object"),
        ("[1, 2]\n", "row 1 is a int, not a JSON object"),
        ('"text"\n', "line 1 is not a JSON object"),
        ('{"text": 7}\n', "row 1: column 'text' holds a int"),
    ],
)
def test_malformed_rows_are_named(content, message, tmp_path):
    (tmp_path / "train.jsonl").write_text(content)

    with pytest.raises(BenchsuiteError, match=message):
        load_text("wikitext2", "train", at("wikitext2", tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.txt", b"one\nna\xefve\n", "line 2 is not UTF-8 text: byte 0xef after 2 characters"),
        ("train.txt", "naïve".encode("utf-16")[:-1], "is no utf-16-le text: truncated data"),
        ("train.jsonl", b'{"text": "\xff"}\n', "line 1 is not UTF-8 text: byte 0xff"),
        ("train.jsonl", b"[" * 100_000, "line 1 is not a JSON object"),
        ("train.jsonl.gz", b"junk", "cannot be read: Not a gzipped file"),
        (
            "train.jsonl.gz",
            gzip.compress(b'{"text": "a"}\n', mtime=0)[:-9],
            "cannot be read: Compressed",
        ),
        ("train.arrow", b"junk", "cannot be read"),
    ],
)
def test_damaged_files_are_named(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BenchsuiteError, match=message) as caught:
        load_text("wikitext2", "train", at("wikitext2", tmp_path))
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize(
    ("dictionary", "state", "message"),
    [
        ("{", "{}", "dataset_dict.json is not JSON"),
        ("{}", "{}", "dataset_dict.json is no JSON object with a list 'splits'"),
        ('{"splits": ["train"]}', "[", "state.json is not JSON"),
        ('{"splits": ["train"]}', "{}", "state.json is no JSON object with a list '_data_files'"),
        ('{"splits": ["train"]}', '{"_data_files": [{}]}', "state.json names no files"),
        ('{"splits": ["train"]}', '{"_data_files": [{"filename": "x"}]}', r"there: \['x'\]"),
    ],
)
def test_a_broken_save_to_disk_folder_is_named(dictionary, state, message, tmp_path):
    (tmp_path / "dataset_dict.json").write_text(dictionary)
    (tmp_path / "train").mkdir()
    (tmp_path / "train/state.json").write_text(state)
    with pytest.raises(BenchsuiteError, match=message):
        load_text("wikitext2", "train", at("wikitext2", tmp_path))


def test_a_truncated_parquet_file_is_named(tmp_path):
    file = tmp_path / "train.parquet"
    write_parquet(file, ["text"] * 100)
    file.write_bytes(file.read_bytes()[:-20])

    with pytest.raises(BenchsuiteError, match=r"cannot be read.*train\.parquet"):
        load_text("wikitext2", "train", at("wikitext2", tmp_path))


def test_an_unknown_corpus_names_the_nearest():
    with pytest.raises(UsageError, match="'wikitext2'"):
        load_text("wikitext", "test")


def test_the_digest_is_of_the_bytes_alone(tmp_path, snapshot):
    copy = tmp_path / "elsewhere"
    shutil.copytree(snapshot, copy)
    before = text_digest("wikitext2", "test", at("wikitext2", snapshot))

    assert text_digest("wikitext2", "test", at("wikitext2", copy)) == before
    assert text_digest("wikitext2", "train", at("wikitext2", copy)) != before


def test_the_digest_changes_with_a_file(snapshot):
    before = text_digest("wikitext2", "test", at("wikitext2", snapshot))
    file = snapshot / "wikitext-2-raw-v1" / "test-00000-of-00001.parquet"
    write_parquet(file, [*ROWS["test"], " More . \n"])
    os.utime(file, ns=(1, 1))  # as a copy that keeps times would look

    assert text_digest("wikitext2", "test", at("wikitext2", snapshot)) != before


def test_touching_a_file_does_not_change_the_digest(snapshot):
    before = text_digest("wikitext2", "test", at("wikitext2", snapshot))
    os.utime(snapshot / "wikitext-2-raw-v1" / "test-00000-of-00001.parquet", ns=(5, 5))

    assert text_digest("wikitext2", "test", at("wikitext2", snapshot)) == before


def test_the_same_bytes_read_in_another_way_have_another_digest(tmp_path):
    """Raw WikiText files keep their line ends, plain text does not, and JSON lines are parsed."""
    line = json.dumps({"text": "one"}) + "\n"
    found = {}
    for ending in ("txt", "raw", "jsonl"):
        root = tmp_path / ending
        root.mkdir()
        (root / f"train.{ending}").write_text(line)
        rows = load_text("wikitext2", "train", at("wikitext2", root)).documents
        found[rows] = text_digest("wikitext2", "train", at("wikitext2", root))
    assert set(found) == {(line.strip(),), (line,), ("one",)}
    assert len(set(found.values())) == 3


def test_every_file_that_is_read_is_in_the_digest_and_no_other(snapshot):
    folder = snapshot / "wikitext-2-raw-v1"
    before = text_digest("wikitext2", "train", at("wikitext2", snapshot))
    (folder / "train-00000-of-00001.parquet").rename(folder / "train-00000-of-00002.parquet")
    read = folder / "train-00001-of-00002.parquet"
    write_parquet(read, ["one row more"])
    assert (
        load_text("wikitext2", "train", at("wikitext2", snapshot)).documents[-1] == "one row more"
    )
    assert text_digest("wikitext2", "train", at("wikitext2", snapshot)) != before

    read.unlink()
    (folder / "train-00000-of-00002.parquet").rename(folder / "train-00000-of-00001.parquet")
    (snapshot / "wikitext-2-raw-v1" / "README.md").write_text("about the train split")
    write_parquet(snapshot / "wikitext-103-raw-v1" / "train-extra.parquet", ["unread"])
    assert text_digest("wikitext2", "train", at("wikitext2", snapshot)) == before
