"""Small models written as GGUF files, by the rules of llama.cpp's converter as stated here.

The rules: a head's rows of q and k go in rotating pairs in the llama architecture; Gemma's norms
have one added; Phi-3's matrices stay fused; Llama 3's rope becomes a divisor for each pair; all
else keeps its values. Vectors are written in float32 whatever the matrices' type.
"""

import math
import re
from pathlib import Path

import gguf
import numpy as np
import torch

from tests.models import tiny

ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3", "phi3", "gemma2", "gemma3_text")
_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_NORMS = {
    False: {"post_attention_layernorm": "ffn_norm"},
    True: {
        "post_attention_layernorm": "post_attention_norm",
        "pre_feedforward_layernorm": "ffn_norm",
        "post_feedforward_layernorm": "post_ffw_norm",
    },
}


def model(model_type, seed=0, **changes):
    """A random model, norms and biases too, that the file of its type can describe."""
    settings = {"pad_token_id": None}
    if model_type.startswith("gemma"):
        settings |= {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 4}
        settings |= {"num_hidden_layers": 6, "tie_word_embeddings": True}
    if model_type in ("mistral", "phi3"):
        settings["sliding_window"] = 4
    built = tiny.model(model_type, seed=seed, **settings | changes)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in built.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return built


def write(path: Path, built, kind="F32", tokenizer=None, without=(), extra=(), keys=None) -> Path:
    """Write a model, and put its matrices on the grid of ``kind`` as the file has them.

    ``without`` leaves tensors out, ``extra`` adds (name, values), ``keys`` sets metadata; None
    leaves a key out.
    """
    architecture = {"mistral": "llama", "gemma3_text": "gemma3"}.get(
        built.config.model_type, built.config.model_type
    )
    metadata = _metadata(built.config, architecture) | (tokenizer or byte_tokenizer())
    metadata |= keys or {}
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in metadata.items():
        if value is not None:
            _add(writer, key, value)
    for name, values in [*_tensors(built, architecture, kind), *extra]:
        if name not in without:
            as_type = gguf.GGMLQuantizationType[kind if values.ndim > 1 else "F32"]
            writer.add_tensor(name, gguf.quantize(values, as_type), raw_dtype=as_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def byte_tokenizer(**changes):
    """The metadata of tiny's tokenizer, <s>, </s> and the bytes, and of one merge."""
    vocabulary = sorted(tiny.tokenizer().get_vocab().items(), key=lambda item: item[1])
    tokens = [*(token for token, _ in vocabulary), "th"]
    found = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": tokens,
        "token_type": [3, 3] + [1] * (len(tokens) - 2),
        "merges": ["t h"],
        "bos_token_id": 0,
        "eos_token_id": 1,
        "add_bos_token": True,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in (found | changes).items()}


def _add(writer, key, value):
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def _metadata(config, architecture):
    rope = config.rope_parameters
    rope = rope.get("full_attention", rope)
    found = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.freq_base": float(rope["rope_theta"]),
    }
    if getattr(config, "head_dim", None):
        found |= {f"attention.{part}_length": config.head_dim for part in ("key", "value")}
    if getattr(config, "sliding_window", None):
        found["attention.sliding_window"] = config.sliding_window
    if rope["rope_type"] in ("linear", "yarn"):
        found |= {"rope.scaling.type": rope["rope_type"], "rope.scaling.factor": rope["factor"]}
    if rope["rope_type"] in ("longrope", "yarn"):
        original = rope["original_max_position_embeddings"]
        found["rope.scaling.original_context_length"] = original
    for cap in ("attn", "final"):
        if getattr(config, f"{cap}_logit_softcapping", None):
            found[f"{cap}_logit_softcapping"] = config.__dict__[f"{cap}_logit_softcapping"]
    named = {f"{architecture}.{key}": value for key, value in found.items()}
    return named | {"general.name": f"Tiny {config.model_type}"}


def _tensors(built, architecture, kind):
    config, gemma = built.config, architecture.startswith("gemma")
    names = _NAMES | _NORMS[gemma]
    for name, parameter in built.named_parameters():
        block, rest = re.fullmatch(r"(?:model\.layers\.(\d+)\.)?(.*)", name).groups()
        part, ending = rest.rsplit(".", 1)
        values = parameter.detach().numpy()
        if parameter.dim() > 1:
            as_type = gguf.GGMLQuantizationType[kind]
            values = gguf.dequantize(gguf.quantize(values, as_type), as_type)
            parameter.data = torch.from_numpy(values.copy())
        if architecture == "llama" and part.endswith(("q_proj", "k_proj")):
            head = config.hidden_size // config.num_attention_heads
            values = values[_in_pairs(len(values), head)]
        if gemma and part.endswith("norm"):
            values = values + 1
        yield (f"blk.{block}." if block else "") + f"{names[part]}.{ending}", values
    rope = config.rope_parameters
    if rope.get("rope_type") == "llama3":
        yield "rope_freqs.weight", _divisors(rope, config.head_dim)
    if rope.get("rope_type") == "longrope":
        for length in ("long", "short"):
            factors = np.array(rope[f"{length}_factor"], np.float32)
            yield f"rope_factors_{length}.weight", factors


def _in_pairs(n_rows, head):
    """Row 2i of a head in the file is its row i, and row 2i + 1 is row i of its second half."""
    order = [start for i in range(head // 2) for start in (i, i + head // 2)]
    return [first + row for first in range(0, n_rows, head) for row in order]


def _divisors(rope, head):
    """Short waves stay, long ones are stretched by the factor, those between in proportion."""
    found = []
    for i in range(0, head, 2):
        wave = 2 * math.pi * rope["rope_theta"] ** (i / head)
        original = rope["original_max_position_embeddings"]
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        if wave < original / high:
            found.append(1.0)
        elif wave > original / low:
            found.append(rope["factor"])
        else:
            smooth = (original / wave - low) / (high - low)
            found.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(found, np.float32)
