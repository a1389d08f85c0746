"""A model in ggml's types as ``model.gguf``, the file that llama.cpp and transformers load.

The bytes of its layers are the file's; norms and biases are float32. `models.gguf` reads it back,
as ordinary layers of what the bytes stand for.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchsuite.errors import UsageError
from benchsuite.models.gguf import writer
from benchsuite.models.gguf.vocabulary import vocabulary
from benchsuite.quantizers.formats.gguf_linear import GgufEmbedding, GgufLinear
from benchsuite.quantizers.linear import QuantizedLinear

TITLE = "GGUF"
FILE = "model.gguf"


def holds(linear: QuantizedLinear) -> bool:
    """Say whether a layer is of the kind that the format is made for."""
    return type(linear) is GgufLinear


def save(model: Any, folder: Path, tokenizer: Any = None) -> None:
    """Write ``model.gguf`` into ``folder``, and the tokenizer's own files beside it.

    A tokenizer that has no name in llama.cpp is in those alone; the file then has numbers in place
    of tokens. Raises a usage error for a model that is not written.
    """
    layers = {n: m for n, m in model.named_modules() if isinstance(m, GgufLinear | GgufEmbedding)}
    if not layers:
        raise UsageError("no layer is in one of ggml's types", str(folder), "use a gguf_* method")
    if reason := writer.unwritten(model.config):
        raise UsageError(reason, str(folder), "leave --save-models out, and the cell is measured")
    state, tensors = model.state_dict(), []
    tied = _tied(layers.get("lm_head"), layers.get("model.embed_tokens"))
    names = {re.sub(r"\.packed$", ".weight", name) for name in state}
    if lost := writer.lost(names, model.config, tied=tied):
        raise UsageError(lost, str(folder), "leave --save-models out, and the cell is measured")
    for place in writer.places(model.config, tied=tied):
        layer = layers.get(place.path.removesuffix(".weight"))
        if layer is None:
            values = state[place.path].float().cpu().numpy()
            kind = "F32" if values.ndim == 1 else "F16"
            values = values.astype(np.float32 if kind == "F32" else np.float16)
        else:
            kind, values = layer.kind, layer.packed.cpu().numpy()
            values = values.view(np.float16) if kind == "F16" else values
        tensors.append((place.name, place.ordered(values), kind))
    folder.mkdir(parents=True, exist_ok=True)
    said = None if tokenizer is None else vocabulary(tokenizer, model.config.vocab_size)
    writer.write(folder / FILE, model.config, tensors, said)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def _tied(head: Any, table: Any) -> bool:
    """Say whether head and embeddings are one, whatever the configuration says of them."""
    if not isinstance(head, GgufLinear) or not isinstance(table, GgufEmbedding):
        return False
    return head.kind == table.kind and torch.equal(head.packed, table.packed)
