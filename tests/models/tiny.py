"""Checkpoints of a few thousand weights, made on the spot."""

import hashlib
import shutil
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from benchsuite.catalog import ModelEntry, Sources

SHAPE = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


def entry(name="small_llama", model_type="llama", dtype="float32", **changes):
    shape = SHAPE | changes
    if model_type == "opt":
        shape.pop("num_key_value_heads")
    return ModelEntry(name, f"example/{name}", model_type, shape, dtype)


def at(folder, name="small_llama", **more):
    """Sources in which a model comes from a folder."""
    return Sources(local={name: folder}, **more)


def tokenizer():
    """A byte-level tokenizer of 258 ids that prepends <s>, as Llama's does."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {text: i for i, text in enumerate(["<s>", "</s>", *alphabet])}
    backend = Tokenizer(models.BPE(vocabulary, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", add_bos_token=True
    )


def model(model_type="llama", seed=0, dtype=torch.float32, **changes):
    """A model whose weights are large enough that its predictions are far from uniform."""
    shape = entry(model_type=model_type, **changes).shape
    names = {"intermediate_size": "ffn_dim"} if model_type == "opt" else {}
    config = AutoConfig.for_model(
        model_type, **{names.get(key, key): value for key, value in shape.items()}
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        built = AutoModelForCausalLM.from_config(config, dtype=dtype)
        with torch.no_grad():
            for parameter in built.parameters():
                if parameter.dim() == 2:
                    parameter.normal_(std=2 * parameter.shape[1] ** -0.5)
    return built.eval()


def checkpoint(folder: Path, with_tokenizer=True, **options) -> Path:
    model(**options).save_pretrained(folder)
    if with_tokenizer:
        tokenizer().save_pretrained(folder)
    return folder


def hub_cache(root: Path, hub_id: str, folder: Path, revision="main", commit="c0ffee" * 6) -> Path:
    """Lay a checkpoint out as the hub's cache does: blobs, a snapshot of links, a reference."""
    repository = root / ("models--" + hub_id.replace("/", "--"))
    for part in ("blobs", f"snapshots/{commit}", "refs"):
        (repository / part).mkdir(parents=True, exist_ok=True)
    (repository / "refs" / revision).write_text(commit)
    for file in folder.iterdir():
        content = file.read_bytes()
        large = file.suffix == ".safetensors"
        name = (hashlib.sha256 if large else hashlib.sha1)(content).hexdigest()
        shutil.copy(file, repository / "blobs" / name)
        (repository / "snapshots" / commit / file.name).symlink_to(f"../../blobs/{name}")
    return repository
