"""The folder that a GGUF file becomes: an ordinary checkpoint, written once."""

import json
import os
import shutil

import pytest

pytest.importorskip("gguf")

from safetensors import safe_open

from benchsuite.models.folder import answering_files, folder_digest, tensor_headers
from benchsuite.models.gguf import dequantized_folder, identity
from benchsuite.models.gguf import folder as module
from tests.models.gguf import files


@pytest.fixture
def path(tmp_path):
    return files.write(tmp_path / "a.gguf", files.model("llama"), "Q4_1")


def test_the_folder_is_an_ordinary_checkpoint(path, tmp_path):
    folder = dequantized_folder(path, tmp_path / "cache")
    assert set(answering_files(folder)) == {
        "config.json",
        "generation_config.json",
        "gguf.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert len(list(tensor_headers(folder))) == 21
    with safe_open(folder / "model.safetensors", "pt") as opened:
        assert opened.metadata() == {"format": "pt"}
    assert json.loads((folder / "generation_config.json").read_text()) == {
        "bos_token_id": 0,
        "eos_token_id": [1],
        "pad_token_id": None,
    }
    card = json.loads((folder / "gguf.json").read_text())
    assert card["types"] == {"Q4_1": 16, "F32": 5}
    assert identity(card["sha256"]).split(":")[1] == card["sha256"]


def test_the_folder_is_written_once_for_a_file_wherever_it_lies(path, tmp_path):
    first = dequantized_folder(path, tmp_path / "cache")
    written = (first / "model.safetensors").stat().st_mtime_ns
    (tmp_path / "b.gguf").write_bytes(path.read_bytes())
    assert dequantized_folder(tmp_path / "b.gguf", tmp_path / "cache") == first
    assert (first / "model.safetensors").stat().st_mtime_ns == written
    other = files.write(tmp_path / "c.gguf", files.model("llama", seed=1), "Q4_1")
    assert dequantized_folder(other, tmp_path / "cache") != first


def test_the_folder_is_the_same_wherever_and_whenever_it_is_written(path, tmp_path):
    digests = {folder_digest(dequantized_folder(path, tmp_path / name)) for name in ("a", "b")}
    assert len(digests) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "config.json").unlink(),
        lambda folder: (folder / "tokenizer.json").write_text("{}"),
        lambda folder: os.truncate(folder / "model.safetensors", 1000),
        lambda folder: (folder / "gguf.json").write_text("[]"),
        lambda folder: (folder / "gguf.json").unlink(),
    ],
    ids=["absent", "edited", "truncated", "card edited", "card absent"],
)
def test_a_damaged_folder_is_written_again(damage, path, tmp_path):
    folder = dequantized_folder(path, tmp_path / "cache")
    sound = folder_digest(folder)
    damage(folder)
    assert dequantized_folder(path, tmp_path / "cache") == folder
    assert folder_digest(folder) == sound


def test_nothing_half_written_is_ever_taken(path, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    with monkeypatch.context() as patch:
        patch.setattr(module, "_write_weights", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            dequantized_folder(path, cache)
    assert not list(cache.glob("*/"))
    shutil.copytree(dequantized_folder(path, tmp_path / "other"), tmp_path / "sound")
    assert folder_digest(dequantized_folder(path, cache)) == folder_digest(tmp_path / "sound")
