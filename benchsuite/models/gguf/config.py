"""A GGUF file's metadata as the ``config.json`` of a transformers checkpoint.

What llama.cpp knows by the architecture alone (its ``src/models``) is stated here. A key of the
architecture that nothing here reads is refused: it would change what the model computes.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchsuite.models.gguf.names import BIASES, BLOCKS, FACTORS, Sizes, biases, tied
from benchsuite.models.gguf.reader import Gguf

_CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
}
# Keys that change nothing where they have this value.
_NEUTRAL = {
    "expert_count": 0,
    "expert_used_count": 0,
    "attention.causal": True,
    "use_parallel_residual": False,
    "tensor_data_layout": "Meta AI original pth",  # q and k permuted, as llama's always are
    "rope.scaling.finetuned": None,  # any: only a remark
    "vocab_size": None,  # the embeddings' rows say it
}
_GEMMA_LOCAL_THETA = 10_000.0
_GEMMA_PERIOD = {"gemma2": 2, "gemma3": 6}
# Gemma's largest models, by their layers, scale attention by the mean head and not by head_dim.
_GEMMA_27B_LAYERS = {"gemma2": 46, "gemma3": 62}
# What every published Llama 3.1, 3.2 and 3.3 has beside its factor.
_LLAMA3 = {
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


@dataclass(frozen=True)
class Model:
    """What the metadata say of the model: ``config`` is that of a folder, ``sizes`` its shapes'."""

    architecture: str
    n_blocks: int
    sizes: Sizes
    config: dict[str, Any]


def architecture_of(file: Gguf) -> str:
    """Return the file's architecture; one that is not read is an error that names those that are.

    So is a file that holds no language model: an adapter, a projector, a vocabulary alone.
    """
    kind = file.metadata.get("general.type", "model")
    if kind != "model":
        raise file.error(f"the file holds no model but a {kind}", "Give the model's own file")
    name = file.metadata.get("general.architecture")
    if name not in BLOCKS:
        raise file.error(
            f"the file is of the architecture {name!r}, which is not read",
            f"Known: {', '.join(BLOCKS)}; for others give the original checkpoint's folder",
        )
    if "token_embd.weight" not in file.tensors:
        raise file.error(
            "the file lacks tensors that any model needs: token_embd.weight",
            "Give a model's file, not one of a vocabulary or of an importance matrix",
        )
    return str(name)


def read_model(file: Gguf) -> Model:
    """Return the model that the metadata describe. Raises ``BenchsuiteError``."""
    architecture = architecture_of(file)
    keys = _Keys(file, architecture)
    sizes, n_blocks = _sizes(file, keys), keys.count("block_count")
    hidden, heads, head_dim = sizes["hidden"], sizes["heads"], sizes["hd"]
    if architecture == "phi3" and head_dim != hidden // heads:
        raise keys.unread("attention.key_length", "another length than embedding_length / heads")
    model_type = _model_type(file, keys)
    config: dict[str, Any] = {
        "architectures": [_CLASSES[model_type]],
        "model_type": model_type,
        "vocab_size": sizes["vocabulary"],
        "hidden_size": hidden,
        "intermediate_size": sizes["ff"],
        "num_hidden_layers": n_blocks,
        "num_attention_heads": heads,
        "num_key_value_heads": sizes["kv_heads"],
        "head_dim": head_dim,
        "max_position_embeddings": keys.count("context_length"),
        "rms_norm_eps": keys.number("attention.layer_norm_rms_epsilon"),
        "tie_word_embeddings": tied(file),
        "dtype": _dtype(file),
    }
    if architecture.startswith("gemma"):
        config |= _gemma(keys, architecture, n_blocks, hidden // heads, head_dim)
    else:
        config |= {"hidden_act": "silu", "rope_parameters": _rope(file, keys, head_dim)}
    if model_type == "llama":
        there = biases(file, architecture, n_blocks)
        config |= {setting: setting in there for setting in BIASES[architecture]}
    if model_type in ("mistral", "phi3"):
        config["sliding_window"] = keys.count("attention.sliding_window", 0) or None
    if original := config.get("rope_parameters", {}).get("original_max_position_embeddings"):
        config["original_max_position_embeddings"] = original
    keys.refuse_unread()
    return Model(architecture, n_blocks, sizes, config)


def _sizes(file: Gguf, keys: "_Keys") -> Sizes:
    """Return the lengths that the shapes of tensors are made of, by the names of `names`."""
    hidden, heads = keys.count("embedding_length"), keys.count("attention.head_count")
    kv_heads = keys.count("attention.head_count_kv", heads)
    head_dim = keys.count("attention.key_length", hidden // heads)
    if keys.count("attention.value_length", head_dim) != head_dim:
        raise keys.unread("attention.value_length", "another length than that of the keys")
    feed_forward = keys.count("feed_forward_length")
    return {
        "hidden": hidden,
        "ff": feed_forward,
        "gate_up": 2 * feed_forward,
        "heads": heads,
        "kv_heads": kv_heads,
        "hd": head_dim,
        "q": heads * head_dim,
        "kv": kv_heads * head_dim,
        "qkv": (heads + 2 * kv_heads) * head_dim,
        "vocabulary": file.tensors["token_embd.weight"].shape[0],
    }


class _Keys:
    """The metadata of the architecture; which keys were read is kept, so that the rest shows."""

    def __init__(self, file: Gguf, architecture: str) -> None:
        self.file, self._prefix = file, f"{architecture}."
        self._read: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self._read.add(key)
        return self.file.metadata.get(self._prefix + key, default)

    def count(self, key: str, default: int | None = None) -> int:
        value = self.get(key, default)
        if isinstance(value, list) and len(set(value)) == 1:
            value = value[0]  # one for each layer, all of them equal
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.unread(key, f"{value!r}, no whole number")
        if value == 0 and default != 0:
            raise self.unread(key, "0")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.get(key, default)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise self.unread(key, f"{value!r}, no number")
        return float(str(np.float32(value)))  # 1e-05, as it was before it became a float32

    def positive(self, key: str, default: float) -> float:
        found = self.number(key, default)
        if found <= 0:
            raise self.unread(key, f"{found:g}")
        return found

    def unread(self, key: str, value: str) -> Exception:
        name = self._prefix + key
        what = f"its key {name} is {value}" if name in self.file.metadata else f"it has no {name}"
        return self.file.error(
            f"the file describes a model that cannot be built from it: {what}",
            "Convert the model again, or give the folder of the original checkpoint",
        )

    def refuse_unread(self) -> None:
        for key, value in self.file.metadata.items():
            name = key.removeprefix(self._prefix)
            if not key.startswith(self._prefix) or name in self._read:
                continue
            if name not in _NEUTRAL or _NEUTRAL[name] not in (None, value):
                raise self.unread(name, f"{value!r}, which is not known here")


def _model_type(file: Gguf, keys: _Keys) -> str:
    """Return transformers' model type.

    A Mistral is written as a llama, which computes the same but for a sliding window.
    """
    architecture = file.metadata["general.architecture"]
    if architecture == "llama":
        named = " ".join(
            str(file.metadata.get(f"general.{key}", "")) for key in ("name", "basename")
        )
        mistral = "mistral" in named.lower() or keys.get("attention.sliding_window")
        return "mistral" if mistral else "llama"
    return "gemma3_text" if architecture == "gemma3" else str(architecture)


def _dtype(file: Gguf) -> str:
    """Return the narrowest dtype that holds all matrices: what was quantized needs float32."""
    kinds = {tensor.kind for tensor in file.tensors.values() if len(tensor.shape) > 1}
    if kinds == {"BF16"}:
        return "bfloat16"
    return "float16" if kinds == {"F16"} else "float32"


def _gemma(
    keys: _Keys, architecture: str, n_blocks: int, mean_head: int, head_dim: int
) -> dict[str, Any]:
    pattern = keys.get("attention.sliding_window_pattern", _GEMMA_PERIOD[architecture])
    if not isinstance(pattern, list):
        period = keys.count("attention.sliding_window_pattern", pattern)
        pattern = [bool((number + 1) % period) for number in range(n_blocks)]
    if len(pattern) != n_blocks:
        raise keys.unread("attention.sliding_window_pattern", f"{len(pattern)} layers long")
    largest = n_blocks == _GEMMA_27B_LAYERS[architecture]
    caps = {
        f"{cap}_logit_softcapping": keys.number(key, 0.0) or None
        for cap, key in (("attn", "attn_logit_softcapping"), ("final", "final_logit_softcapping"))
    }
    theta = keys.positive("rope.freq_base", 10_000.0)
    local = keys.positive("rope.freq_base_swa", _GEMMA_LOCAL_THETA)
    scaled = _scaling(keys, theta)
    rope = (
        {
            "full_attention": scaled,
            "sliding_attention": {"rope_type": "default", "rope_theta": local},
        }
        if architecture == "gemma3"
        else scaled
    )
    return {
        "attention_bias": False,
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": mean_head if largest else head_dim,
        "sliding_window": keys.count("attention.sliding_window"),
        "layer_types": ["sliding_attention" if slides else "full_attention" for slides in pattern],
        "rope_parameters": rope,
        **caps,
    }


def _rope(file: Gguf, keys: _Keys, head_dim: int) -> dict[str, Any]:
    """Return ``rope_parameters`` from the metadata and from the tensors of factors."""
    theta = keys.positive("rope.freq_base", 10_000.0)
    rotated = keys.count("rope.dimension_count", head_dim)
    architecture = file.metadata["general.architecture"]
    if rotated != head_dim and architecture != "phi3":
        raise keys.unread("rope.dimension_count", f"{rotated}, not the head's {head_dim}")
    factors = {name: file.values(name).tolist() for name in FACTORS if name in file.tensors}
    for name, values in factors.items():
        if len(values) != rotated // 2:
            raise file.error(
                f"tensor {name} has {len(values)} factors, and {rotated // 2} are needed",
                "Convert the model again, or download the file again",
            )
    if "rope_freqs.weight" in factors:
        scaled = _frequency_factors(factors["rope_freqs.weight"], theta, head_dim, keys)
    elif factors:
        scaled = _long_rope(keys, theta, factors)
    else:
        scaled = _scaling(keys, theta)
    if rotated != head_dim:
        scaled["partial_rotary_factor"] = rotated / head_dim
    return scaled


def _scaling(keys: _Keys, theta: float) -> dict[str, Any]:
    """Return the plain, linear or YaRN form."""
    kind = keys.get("rope.scaling.type", "none")
    factor = keys.number("rope.scaling.factor", 0.0) or keys.number("rope.scale_linear", 0.0)
    context = keys.count("context_length")  # what llama.cpp takes where the original is not said
    original = keys.count("rope.scaling.original_context_length", context)
    if kind == "none" or (kind == "linear" and factor in (0.0, 1.0)):
        return {"rope_type": "default", "rope_theta": theta}
    if kind not in ("linear", "yarn"):
        raise keys.unread("rope.scaling.type", repr(kind))
    scaled = {"rope_type": kind, "rope_theta": theta, "factor": factor or 1.0}
    return scaled | ({"original_max_position_embeddings": original} if kind == "yarn" else {})


def _frequency_factors(
    factors: list[float], theta: float, head_dim: int, keys: _Keys
) -> dict[str, Any]:
    """Return parameters that divide each pair's frequency by its factor, as llama.cpp does.

    The published Llama 3 settings where they give these factors; else the factors themselves,
    which transformers takes as LongRoPE's.
    """
    for key in ("rope.scaling.type", "rope.scaling.factor", "rope.scaling.original_context_length"):
        keys.get(key)
    named = {"rope_type": "llama3", "rope_theta": theta, "factor": max(factors), **_LLAMA3}
    if np.allclose(_llama3_factors(named, head_dim), factors, rtol=1e-4):
        return named
    return {
        "rope_type": "longrope",
        "rope_theta": theta,
        "short_factor": factors,
        "long_factor": factors,
        "attention_factor": 1.0,
        "original_max_position_embeddings": keys.count("context_length"),
    }


def _llama3_factors(named: dict[str, Any], head_dim: int) -> np.ndarray:
    """Return what each pair's frequency is divided by. [head_dim / 2]"""
    frequency = named["rope_theta"] ** -(np.arange(0, head_dim, 2) / head_dim)
    turns = named["original_max_position_embeddings"] * frequency / (2 * math.pi)
    low, high = named["low_freq_factor"], named["high_freq_factor"]
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return 1 / ((1 - smooth) / named["factor"] + smooth)


def _long_rope(keys: _Keys, theta: float, factors: dict[str, list[float]]) -> dict[str, Any]:
    """Return LongRoPE's parameters (Phi-3 with 128k), of a short and a long list of factors."""
    short, long = (factors.get(f"rope_factors_{kind}.weight") for kind in ("short", "long"))
    if short is None or long is None:
        raise keys.unread("rope.scaling.type", "LongRoPE, with one of its two tensors of factors")
    keys.get("rope.scaling.type")
    context = keys.count("context_length")
    original = keys.count("rope.scaling.original_context_length", context)
    scale = context / original
    usual = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0
    return {
        "rope_type": "longrope",
        "rope_theta": theta,
        "short_factor": short,
        "long_factor": long,
        "attention_factor": keys.number("rope.scaling.attn_factor", usual),
        "original_max_position_embeddings": original,
    }
