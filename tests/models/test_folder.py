import builtins
import hashlib
import io
import json
import os
import shutil
import time

import pytest
import torch
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file, save_file

from benchsuite.catalog import ModelEntry
from benchsuite.errors import BenchsuiteError
from benchsuite.models import folder as folders
from benchsuite.models import folder_digest, load, source
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


def test_an_adapter_in_a_models_folder_is_refused_by_name(checkpoint):
    put(checkpoint, "adapter_config.json")
    for use in (
        folder_digest,
        lambda folder: load(tiny.entry(), tiny.at(folder)),
        lambda folder: quantized.apply(tiny.model(), folder, {"quant_method": "gptq"}),
    ):
        with pytest.raises(BenchsuiteError, match=r"an adapter lies .*: adapter_con.*;") as caught:
            use(checkpoint)
        message = str(caught.value)
        assert str(checkpoint) in message
        assert "merge_and_unload" in message
        assert "move" in message
        assert "\n" not in message


STRAYS = [
    "old-model.safetensors",
    "adapter_model.safetensors",
    "consolidated.safetensors",
    "consolidated.safetensors.index.json",
]


@pytest.mark.parametrize("sharded", [False, True], ids=["one file", "shards"])
def test_what_lies_beside_a_models_weights_is_not_read(checkpoint, tmp_path, sharded):
    before = dict(load(tiny.entry(), tiny.at(checkpoint)).model.named_parameters())
    other = load_file(tiny.checkpoint(tmp_path / "other", seed=1) / "model.safetensors")
    if sharded:
        shard(checkpoint)
    for name in STRAYS:
        if name.endswith(".json"):
            put(
                checkpoint, name, json.dumps({"weight_map": dict.fromkeys(other, "no.safetensors")})
            )
        else:
            save_file(other, checkpoint / name, metadata={"format": "pt"})
    after = dict(load(tiny.entry(), tiny.at(checkpoint)).model.named_parameters())
    assert all((after[name] == value).all() for name, value in before.items())


def test_the_index_decides_which_weights_are_read(checkpoint):
    shard(checkpoint)
    shards = sorted(checkpoint.glob("model-*.safetensors"))
    assert len(shards) > 1
    save_file(load_file(shards[0]), checkpoint / "old-model.safetensors")
    assert folders.weight_files(checkpoint) == shards
    shards[0].unlink()
    with pytest.raises(BenchsuiteError, match=f"not there: {shards[0].name}"):
        folder_digest(checkpoint)


def test_a_tensor_that_the_index_promises_and_its_file_lacks_is_named(checkpoint):
    shard(checkpoint)
    file = next(f for f in checkpoint.glob("model-*") if "model.norm.weight" in load_file(f))
    state = load_file(file)
    del state["model.norm.weight"]
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(BenchsuiteError, match=r"do not hold: missing model\.norm\.weight"):
        load(tiny.entry(), tiny.at(checkpoint))


def test_a_tensor_that_lies_in_two_files_is_named_with_both(checkpoint):
    shard(checkpoint)
    first, second = sorted(checkpoint.glob("model-*"))[:2]
    name = next(iter(load_file(first)))
    save_file(load_file(second) | {name: load_file(first)[name]}, second, {"format": "pt"})
    told = f"{name} lies in {first.name} and in {second.name}"
    with pytest.raises(BenchsuiteError, match=told):
        load(tiny.entry(), tiny.at(checkpoint))


@pytest.mark.parametrize("name", ["../else/model.safetensors", "/model.safetensors"])
def test_an_index_names_no_file_outside_its_folder(checkpoint, name):
    (checkpoint / "model.safetensors").unlink()
    put(checkpoint, "model.safetensors.index.json", json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(BenchsuiteError, match="it names a file outside the folder"):
        folder_digest(checkpoint)


def test_one_file_and_an_index_of_others_are_two_models(checkpoint, tmp_path):
    """transformers would read the one file, vLLM the shards."""
    other = tiny.checkpoint(tmp_path / "other", seed=1)
    shard(other)
    for file in other.glob("model*"):
        shutil.copy(file, checkpoint)
    for use in (folder_digest, lambda folder: load(tiny.entry(), tiny.at(folder))):
        with pytest.raises(
            BenchsuiteError, match=r"two models: model\.safetensors, and model-0000"
        ):
            use(checkpoint)
    edit_config(checkpoint, transformers_weights="model.safetensors.index.json")
    assert len(folders.weight_files(checkpoint)) > 1
    edit_config(checkpoint, transformers_weights=None)
    for file in checkpoint.glob("model-*"):
        file.unlink()  # an index that saving one file over shards leaves behind
    (read,) = folders.weight_files(checkpoint)
    assert read.name == "model.safetensors"


def test_an_index_by_another_name_is_taken_where_it_is_the_only_one(checkpoint):
    shard(checkpoint)
    shards = sorted(checkpoint.glob("model-*.safetensors"))
    index = checkpoint / "model.safetensors.index.json"
    index.rename(checkpoint / "gptq_model-4bit-128g.safetensors.index.json")
    assert folders.weight_files(checkpoint) == shards


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
    told = "and 2 other files that could be meant: another.safetensors, gptq_model-4bit"
    with pytest.raises(BenchsuiteError, match=told):
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


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ({"dtype": "float16"}, "float16"),
        ({"dtype": None, "torch_dtype": "float16"}, "float16"),
        ({"dtype": None, "text_config": {"dtype": "float16"}}, "float16"),
        ({"dtype": None}, "bfloat16"),
        ({"dtype": "auto"}, "bfloat16"),
        ({"dtype": "float64"}, "bfloat16"),
    ],
    ids=str,
)
def test_the_dtype_is_the_config_s_or_that_of_most_of_the_weights(named, told, checkpoint):
    state = load_file(checkpoint / "model.safetensors")
    halved = {k: v if "norm" in k else v.bfloat16() for k, v in state.items()}
    save_file(halved, checkpoint / "model.safetensors", metadata={"format": "pt"})
    edit_config(checkpoint, **named)
    assert folders.stored_dtype(checkpoint) == told


def test_a_model_is_loaded_in_the_dtype_of_its_files_where_nothing_else_says_it(checkpoint):
    """A hub model before it was fetched: what it is stored in was bfloat16 to the study."""
    edit_config(checkpoint, dtype=None)
    entry = ModelEntry("small_llama", "example/small_llama")
    found = load(entry, tiny.at(checkpoint))
    assert found.entry.dtype == "float32"
    assert found.model.lm_head.weight.dtype == torch.float32
    stored = load_file(checkpoint / "model.safetensors")
    assert torch.equal(found.model.lm_head.weight, stored["lm_head.weight"])


def test_weights_in_whole_numbers_are_not_taken_for_weights(checkpoint):
    """The codes of a quantized model whose config.json was replaced by the original's."""
    state = load_file(checkpoint / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    state[name] = (100 * state[name]).to(torch.int8)
    save_file(state, checkpoint / "model.safetensors", metadata={"format": "pt"})
    for streamed in (False, True):
        with pytest.raises(BenchsuiteError, match=rf"whole numbers.*: {name} \(I8\)"):
            load(tiny.entry(), tiny.at(checkpoint), streamed=streamed)


def test_a_quantized_folder_is_no_original(checkpoint):
    edit_config(checkpoint, quantization_config={"quant_method": "awq"})
    with pytest.raises(BenchsuiteError, match=r"small_llama is already quantized \(awq\)"):
        load(tiny.entry(), tiny.at(checkpoint))


def test_a_tokenizer_is_that_of_its_files_where_its_class_adds_what_no_model_embeds(tmp_path):
    """Qwen's adds an end of text. [Seen with transformers 5.17]"""
    folder = tiny.checkpoint(tmp_path / "model", model_type="qwen2", vocab_size=258)
    found = load(tiny.entry(model_type="qwen2", vocab_size=258), tiny.at(folder))
    assert len(found.tokenizer) == 258
    assert found.tokenizer("an owl")["input_ids"] == tiny.tokenizer()("an owl")["input_ids"]


def test_a_folder_stands_for_the_model_within_it(checkpoint, tmp_path):
    repository = tmp_path / "models--me--mine"
    shutil.copytree(checkpoint, repository / "snapshots" / "abc")
    put(repository, "refs/main", "abc\n")
    assert source.within(repository) == repository / "snapshots" / "abc"
    assert source.within(checkpoint) == checkpoint
    file = put(tmp_path / "saved", "model.gguf", "")
    assert source.within(tmp_path / "saved") == file
    assert source.within(tmp_path) == tmp_path


def test_an_empty_weights_file_is_called_empty(checkpoint):
    (checkpoint / "model.safetensors").write_bytes(b"")
    with pytest.raises(BenchsuiteError, match=r"cannot read model\.safetensors: it is empty"):
        load(tiny.entry(), tiny.at(checkpoint))
