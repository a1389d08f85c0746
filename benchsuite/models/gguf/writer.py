"""A model written as a GGUF file: names, order of rows and metadata as llama.cpp's converter has.

`names` read the other way. The values come from the caller, in the types that they are to have.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchsuite.models.gguf.names import BIASES, BLOCKS, Target
from benchsuite.models.gguf.numbers import MERGES, numbers
from benchsuite.models.gguf.reader import library

ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""What the file calls a model of each type."""


@dataclass(frozen=True)
class Place:
    """One tensor of the file: its ``name`` there, its ``path`` in the model, its order of rows.

    Rows of ``heads`` heads go in the pairs that rotate together, one after the other; 0 leaves them
    as they are.
    """

    name: str
    path: str
    heads: int = 0

    def ordered(self, rows: np.ndarray) -> np.ndarray:
        """Return the model's rows [n, ...] in the file's order."""
        if not self.heads:
            return rows
        pairs = rows.reshape(self.heads, 2, len(rows) // self.heads // 2, -1)
        return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)


def unwritten(config: Any) -> str:
    """Return why a model of this configuration is not written, or nothing."""
    kind = config.model_type
    if kind not in ARCHITECTURES or _rope(config) is None:
        return (
            f"a {kind} with this rope is not written as GGUF; "
            f"{', '.join(ARCHITECTURES)} with the default rope are"
        )
    if config.hidden_act not in ("silu", "swish"):
        return f"a {kind} with {config.hidden_act} is not written as GGUF: llama.cpp's has silu"
    layers = getattr(config, "layer_types", None) or ()
    if kind.startswith("qwen") and "sliding_attention" in layers:
        return f"a {kind} with a sliding window is not written as GGUF: llama.cpp's has none"
    return ""


def places(config: Any, *, tied: bool) -> Iterator[Place]:
    """Yield the file's tensors; a ``tied`` head is its embeddings."""
    counts = {"heads": config.num_attention_heads, "kv_heads": config.num_key_value_heads, "": 0}

    def place(name: str, target: Target, prefix: str = "") -> Place:
        return Place(name, prefix + target.name, counts[target.permuted])

    yield place("token_embd.weight", Target("model.embed_tokens.weight", ()))
    yield place("output_norm.weight", Target("model.norm.weight", ()))
    if not tied:
        yield place("output.weight", Target("lm_head.weight", ()))
    architecture = ARCHITECTURES[config.model_type]
    block = dict(BLOCKS[architecture])
    for setting, its in BIASES.get(architecture, {}).items():
        block |= its if getattr(config, setting, False) else {}
    for number in range(config.num_hidden_layers):
        for name, target in block.items():
            yield place(f"blk.{number}.{name}", target, f"model.layers.{number}.")


def lost(names: Iterable[str], config: Any, *, tied: bool) -> str:
    """Return what the file has no place for of a model with tensors of these names, or nothing."""
    written = {place.path for place in places(config, tied=tied)}
    written |= {"lm_head.weight"} if tied else set()
    without = sorted(set(names) - written)
    if not without:
        return ""
    more = f" and {len(without) - 6} more" if len(without) > 6 else ""
    kind = config.model_type
    return f"llama.cpp's file of a {kind} has no place for {', '.join(without[:6])}{more}"


def write(
    path: Path,
    config: Any,
    tensors: Iterable[tuple[str, np.ndarray, str]],
    vocabulary: dict[str, Any] | None = None,
) -> None:
    """Write ``tensors``: name, values, type; those of a type other than F32 are its bytes, uint8.

    ``vocabulary`` has metadata of the tokenizer. Without, it is a list of numbers: whoever reads
    the file is asked by token ids.
    """
    gguf = library()
    architecture = ARCHITECTURES[config.model_type]
    writer = gguf.GGUFWriter(path, architecture)
    heads = config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    if config.model_type == "mistral" and config.sliding_window:  # else it is a llama, and read so
        writer.add_name(config.model_type)
        writer.add_sliding_window(config.sliding_window)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(_rope(config))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    for key, value in (vocabulary or _numbers(config)).items():
        writer.add_key_value(f"tokenizer.{key}", value, *_kind(gguf, value))
    for name, values, kind in tensors:
        writer.add_tensor(name, values, raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _kind(gguf: Any, value: Any) -> tuple[Any, ...]:
    """Return the type of a value in the file, and of its items."""
    if isinstance(value, list):
        return gguf.GGUFValueType.ARRAY, _kind(gguf, value[0])[0]
    if isinstance(value, int) and not isinstance(value, bool):
        return (gguf.GGUFValueType.INT32,) if value < 0 else (gguf.GGUFValueType.UINT32,)
    return (gguf.GGUFValueType.get_type(value),)


def _numbers(config: Any) -> dict[str, Any]:
    """Return a vocabulary of numbers."""
    return {
        "ggml.model": "gpt2",
        "ggml.pre": "gpt-2",
        "ggml.tokens": numbers(config.vocab_size),
        "ggml.token_type": [1] * config.vocab_size,
        "ggml.merges": MERGES,
        "ggml.eos_token_id": _end(config),  # without, llama.cpp would take another
    }


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
