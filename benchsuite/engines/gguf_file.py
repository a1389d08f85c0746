"""A model of ours as a GGUF file, for llama.cpp: matrices in one of ggml's types, vectors in fp32.

The vocabulary is a list of numbers: whoever reads the file is asked by token ids.
"""

from pathlib import Path
from typing import Any

import torch

from benchsuite.models.gguf import writer

TYPES = {"gguf_q4_0": "Q4_0", "gguf_f16": "F16"}
"""What ``prepare`` calls a format, and ggml's type of its matrices."""

PRECISE = ("token_embd.weight", "output.weight")


def write(model: Any, path: Path, quantizer: str) -> None:
    """Write ``model`` in the format ``quantizer``; embeddings and head stay in fp16.

    Raises ``ValueError`` for an architecture, a rope or a tensor that is not written.
    """
    import gguf

    if reason := writer.unwritten(model.config):
        raise ValueError(reason)
    state, tensors = model.state_dict(), []
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    if lost := writer.lost(state, model.config, tied=tied):
        raise ValueError(lost)
    for place in writer.places(model.config, tied=tied):
        values = place.ordered(state[place.path].to(torch.float32).cpu().numpy())
        precise = place.name in PRECISE
        kind = "F32" if values.ndim == 1 else "F16" if precise else TYPES[quantizer]
        encoded = gguf.quantize(values, gguf.GGMLQuantizationType[kind])
        tensors.append((place.name, encoded, kind))
    writer.write(path, model.config, tensors)
