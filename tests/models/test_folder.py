import builtins
import hashlib
import io
import json
import os
import shutil
import time

import pytest
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file, save_file

from benchsuite.errors import BenchsuiteError
from benchsuite.models import folder as folders
from benchsuite.models import folder_digest, load
from benchsuite.quantizers import checkpoint as quantized
from tests.models import tiny


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return tiny.checkpoint(tmp_path_factory.mktemp("original") / "model")


@pytest.fixture
def checkpoint(original, tmp_path):
    return shutil.copytree(original, tmp_path / "checkpoint")


def put(folder, name, content="{}"):
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    return file


def edit_config(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def shard(folder):
    """Turn a folder's one weights file into shards and an index."""
    from huggingface_hub import save_torch_state_dict

    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    save_torch_state_dict(state, folder, max_shard_size="40KB", metadata={"format": "pt"})


COUNTED = [
    "chat_template.jinja",
    "chat_templates/tool_use.jinja",
    "chat_template.json",
    "generation_config.json",
    "spiece.model",
    "tokenizer.model",
    "qwen.tiktoken",
    "vocab.txt",
    "vocab.bpe",
    "merges.txt",
    "added_tokens.json",
    "preprocessor_config.json",
    "sub/x.py",
    "sub/deeper/y.py",
    "kernel.so",
    "openvino_model.bin",
    "never_heard_of",
]


@pytest.mark.parametrize("name", COUNTED)
def test_every_file_that_is_not_known_to_be_irrelevant_counts(checkpoint, name):
    """Added, changed, moved: each gives another digest, and taken away again the first."""
    (checkpoint / name).unlink(missing_ok=True)
    bare = folder_digest(checkpoint)
    file = put(checkpoint, name, "one")
    added = folder_digest(checkpoint)
    file.write_text("two")
    changed = folder_digest(checkpoint)
    moved = file.rename(file.with_name(f"other_{file.name}"))
    assert len({bare, added, changed, folder_digest(checkpoint)}) == 4
    moved.unlink()
    assert folder_digest(checkpoint) == bare


IRRELEVANT = [
    "README.md",
    "USE_POLICY.md",
    "LICENSE.txt",
    ".gitattributes",
    ".git/objects/ab/cdef",
    ".cache/huggingface/download/model.safetensors.lock",
    "sub/.DS_Store",
    "__pycache__/x.pyc",
    "assets/curve.png",
    "train.log",
    "runs/events.out.tfevents.1",
    "pytorch_model.bin",
    "pytorch_model-00001-of-00002.bin",
    "pytorch_model.bin.index.json",
    "tf_model.h5",
    "flax_model.msgpack",
    "model-q4.gguf",
    "onnx/model.onnx",
    "original/consolidated.00.pth",
    "consolidated.safetensors",
    "checkpoint-500/model.safetensors",
    "checkpoint-500/optimizer.pt",
]


def test_what_nobody_reads_does_not_count_and_is_not_downloaded(checkpoint):
    bare = folder_digest(checkpoint)
    for name in IRRELEVANT:
        put(checkpoint, name, "anything")
    assert folder_digest(checkpoint) == bare
    wanted = filter_repo_objects([*IRRELEVANT, *COUNTED], ignore_patterns=list(folders.UNREAD))
    assert list(wanted) == COUNTED


def test_weights_of_every_kind_count_beside_a_models_own_code(checkpoint):
    put(checkpoint, "modeling_own.py", "")
    before = folder_digest(checkpoint)
    put(checkpoint, "extra.pt", "read by that code")
    assert folder_digest(checkpoint) != before


def test_linked_files_and_folders_count_and_a_circle_ends(checkpoint, tmp_path):
    template = put(tmp_path / "elsewhere", "tool_use.jinja", "one")
    (checkpoint / "chat_templates").symlink_to(template.parent)
    (checkpoint / "back").symlink_to(checkpoint)
    before = folder_digest(checkpoint)
    template.write_text("two")
    assert folder_digest(checkpoint) != before


def test_every_file_that_loading_opens_counts(checkpoint, monkeypatch):
    """Weights and ``tokenizer.json`` are opened by Rust, unseen from here."""
    for name in (*COUNTED, *IRRELEVANT):
        if not (checkpoint / name).exists() and not name.endswith((".py", ".model", ".json")):
            put(checkpoint, name, "anything")
    opened = set()
    really = io.open

    def watched(file, *arguments, **options):
        opened.add(os.path.relpath(file, checkpoint) if not isinstance(file, int) else "")
        return really(file, *arguments, **options)

    monkeypatch.setattr(io, "open", watched)
    monkeypatch.setattr(builtins, "open", watched)
    load(tiny.entry(), tiny.at(checkpoint))
    monkeypatch.undo()
    inside = {name for name in opened if (checkpoint / name).is_file() and ".." not in name}
    assert {"config.json", "chat_template.jinja", "chat_templates/tool_use.jinja"} <= inside
    assert inside <= folders.answering_files(checkpoint).keys()


@pytest.mark.parametrize(
    "name", ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"]
)
def test_an_adapter_in_a_models_folder_is_refused_by_name(checkpoint, name):
    put(checkpoint, name)
    for use in (
        folder_digest,
        lambda folder: load(tiny.entry(), tiny.at(folder)),
        lambda folder: quantized.apply(tiny.model(), folder, {"quant_method": "gptq"}),
    ):
        with pytest.raises(BenchsuiteError, match=rf"an adapter lies .*: {name};") as caught:
            use(checkpoint)
        message = str(caught.value)
        assert str(checkpoint) in message
        assert "merge_and_unload" in message
        assert "move" in message
        assert "\n" not in message


def test_the_index_decides_which_weights_are_read(checkpoint):
    shard(checkpoint)
    shards = sorted(checkpoint.glob("model-*.safetensors"))
    assert len(shards) > 1
    save_file(load_file(shards[0]), checkpoint / "old-model.safetensors")
    assert folders.weight_files(checkpoint) == shards
    shards[0].unlink()
    with pytest.raises(BenchsuiteError, match=f"not there: {shards[0].name}"):
        folder_digest(checkpoint)


def test_the_one_file_comes_before_the_index_as_in_transformers(checkpoint, tmp_path):
    other = tiny.checkpoint(tmp_path / "other", seed=1)
    shard(other)
    for file in other.glob("model*"):
        shutil.copy(file, checkpoint)
    (read,) = folders.weight_files(checkpoint)
    assert read.name == "model.safetensors"
    loaded = dict(load(tiny.entry(), tiny.at(checkpoint)).model.named_parameters())
    assert all((loaded[name] == value).all() for name, value in load_file(read).items())


def test_weights_that_the_configuration_names_are_those_that_are_read(checkpoint, tmp_path):
    other = tiny.checkpoint(tmp_path / "other", seed=1)
    shutil.copy(other / "model.safetensors", checkpoint / "second.safetensors")
    edit_config(checkpoint, transformers_weights="second.safetensors")
    (read,) = folders.weight_files(checkpoint)
    assert read.name == "second.safetensors"
    loaded = dict(load(tiny.entry(), tiny.at(checkpoint)).model.named_parameters())
    assert all((loaded[name] == value).all() for name, value in load_file(read).items())
    read.unlink()
    with pytest.raises(BenchsuiteError, match=r"weights that are not there: second\.safetensors"):
        folder_digest(checkpoint)
    edit_config(checkpoint, transformers_weights="pytorch_model.bin")
    with pytest.raises(BenchsuiteError, match="no safetensors file"):
        folder_digest(checkpoint)


def test_the_only_weights_may_have_any_name_and_two_have_to_be_told_apart(checkpoint):
    named = (checkpoint / "model.safetensors").rename(checkpoint / "gptq_model-4bit.safetensors")
    assert folders.weight_files(checkpoint) == [named]
    shutil.copy(named, checkpoint / "another.safetensors")
    with pytest.raises(BenchsuiteError, match="and 2 other files that could be meant"):
        folder_digest(checkpoint)


def test_an_unreadable_file_is_named(checkpoint, monkeypatch):
    def refuse(self, file):
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(folders.FileDigests, "sha256", refuse)
    with pytest.raises(BenchsuiteError, match=r"cannot read config\.json: Permission denied"):
        folder_digest(checkpoint)


def test_a_truncated_file_is_named(checkpoint):
    file = checkpoint / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(BenchsuiteError, match=r"model\.safetensors: .*truncated"):
        list(folders.tensor_headers(checkpoint))
    file.write_bytes(b"\xff" * 64)
    with pytest.raises(BenchsuiteError, match=r"model\.safetensors: the header is longer"):
        list(folders.tensor_headers(checkpoint))


def test_digests_are_remembered_while_files_stay(checkpoint, tmp_path, monkeypatch):
    memo = tmp_path / "deep" / "digests.json"
    monkeypatch.setattr(time, "time_ns", lambda: int(time.time() * 1e9) + 3_600 * 10**9)
    digest = folder_digest(checkpoint, memo)
    known = json.loads(memo.read_text())["files"]
    assert {os.path.basename(name) for name in known} == set(folders.answering_files(checkpoint))
    with monkeypatch.context() as patched:  # proof that the second call does not hash
        patched.setattr(hashlib, "file_digest", None)
        assert folder_digest(checkpoint, memo) == digest
    memo.write_text("{")
    assert folder_digest(checkpoint, memo) == digest
