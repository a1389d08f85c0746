"""A clone of a hub repository without git-lfs: what is not there is named, and how to get it."""

import pytest

from benchsuite.catalog import Sources
from benchsuite.comparing.subject import open_subject
from benchsuite.comparing.texts import open_text
from benchsuite.corpora import load_text
from benchsuite.errors import BenchsuiteError
from tests.models import tiny

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 17\n"


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_of_a_model(name, tmp_path):
    (tiny.checkpoint(tmp_path) / name).write_text(POINTER)
    with pytest.raises(BenchsuiteError, match=f"{name} is git-lfs' pointer .*`git lfs pull`"):
        open_subject(str(tmp_path))


def test_of_a_gguf(tmp_path):
    (tmp_path / "a.gguf").write_text(POINTER)
    with pytest.raises(BenchsuiteError, match=r"a\.gguf is git-lfs' pointer"):
        open_subject(str(tmp_path / "a.gguf"))


@pytest.mark.parametrize("name", ["test.parquet", "test.jsonl", "test.txt"])
def test_of_a_data_set(name, tmp_path):
    (tmp_path / name).write_text(POINTER)
    for read in (
        lambda: load_text("wikitext2", "test", Sources(local={"wikitext2": tmp_path})),
        lambda: open_text(str(tmp_path / name)),
    ):
        with pytest.raises(BenchsuiteError, match=f"{name} is git-lfs' pointer"):
            read()
