"""A model in ggml's types as ``model.gguf``, the file that llama.cpp and transformers load.

The bytes of its layers are the file's; norms and biases are float32. `models.gguf` reads it back,
as ordinary layers of what the bytes stand for.
"""

import re
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np

from benchsuite.errors import UsageError
from benchsuite.models.gguf import writer
from benchsuite.models.gguf.vocabulary import vocabulary
from benchsuite.models.soundness import some
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
    places = list(writer.places(model.config))
    _refuse_lost(state, {place.path for place in places}, model, folder)
    for place in places:
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


def _refuse_lost(state: Mapping[str, Any], written: Set[str], model: Any, folder: Path) -> None:
    """Raise a usage error where the file has no place for one of the model's tensors."""
    held = {re.sub(r"\.packed$", ".weight", name) for name in state}
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    if lost := sorted(held - written - tied):
        raise UsageError(
            f"llama.cpp's file of a {model.config.model_type} has no place for {some(lost)}",
            str(folder),
            "leave --save-models out, and the cell is measured",
        )
