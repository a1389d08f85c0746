"""A model of ours as a GGUF file, for llama.cpp: matrices in one of ggml's types, vectors in fp32.

Names and the order of rows are those of llama.cpp's converter (`benchsuite.models.gguf.names`, read
the other way). The vocabulary is a list of numbers: whoever reads the file is asked by token ids.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchsuite.models.gguf.names import BLOCKS, Target

TYPES = {"gguf_q4_0": "Q4_0", "gguf_f16": "F16"}
"""What ``prepare`` calls a format, and ggml's type of its matrices."""

_ARCHITECTURES = ("llama", "qwen2", "qwen3")
PRECISE = ("token_embd.weight", "output.weight")


def write(model: Any, path: Path, quantizer: str) -> None:
    """Write ``model`` in the format ``quantizer``; embeddings and head stay in fp16.

    Raises ``ValueError`` for an architecture or a rope that is not written.
    """
    import gguf

    config = model.config
    if config.model_type not in _ARCHITECTURES or (rope := _rope(config)) is None:
        raise ValueError(
            f"a {config.model_type} with this rope is not written as GGUF; "
            f"{', '.join(_ARCHITECTURES)} with the default rope are"
        )
    writer = gguf.GGUFWriter(path, config.model_type)
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(rope)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([f"t{number}" for number in range(config.vocab_size)])
    writer.add_token_types([gguf.TokenType.NORMAL] * config.vocab_size)
    writer.add_token_merges(["t 0"])  # llama.cpp wants one
    writer.add_eos_token_id(_end(config))  # without, llama.cpp would take another
    for name, values in _tensors(model, config, {"heads": heads, "kv_heads": kv_heads, "hd": head}):
        kind = "F32" if values.ndim == 1 else "F16" if name in PRECISE else TYPES[quantizer]
        as_type = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(name, gguf.quantize(values, as_type), raw_dtype=as_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensors(model: Any, config: Any, sizes: dict[str, int]) -> list[tuple[str, np.ndarray]]:
    """Return the file's tensors, fp32, by their names there."""
    state = model.state_dict()

    def values(target: Target, prefix: str = "") -> np.ndarray:
        found = state[prefix + target.name].to(torch.float32).cpu().numpy()
        if not target.permuted:
            return found
        pairs = found.reshape(sizes[target.permuted], 2, sizes["hd"] // 2, -1)
        return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(found.shape)

    named = [
        ("token_embd.weight", values(Target("model.embed_tokens.weight", ()))),
        ("output_norm.weight", values(Target("model.norm.weight", ()))),
    ]
    if not config.tie_word_embeddings:
        named.append(("output.weight", values(Target("lm_head.weight", ()))))
    for number in range(config.num_hidden_layers):
        for name, target in BLOCKS[config.model_type].items():
            named.append((f"blk.{number}.{name}", values(target, f"model.layers.{number}.")))
    return named


def _rope(config: Any) -> float | None:
    """Return the base of a default rope, None for any other."""
    settings = getattr(config, "rope_parameters", None) or {}
    if settings.get("rope_type", "default") != "default":
        return None
    return float(settings.get("rope_theta") or 10_000.0)


def _end(config: Any) -> int:
    """Return the model's first end token, which the server shuts out."""
    ends = config.eos_token_id
    return int(ends[0] if isinstance(ends, list) else ends or 0)
