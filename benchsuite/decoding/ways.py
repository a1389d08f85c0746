"""Which way a model decodes where it lies, how many rows at once, and what its cache takes."""

from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

# Models whose attention is the plain causal one, with a window or soft caps at most.
SLOT_MODELS = frozenset(
    ["gemma2", "gemma3_text", "granite", "llama", "mistral", "phi3", "qwen2", "qwen3", "smollm3"]
)

ROUNDED = "benchsuite_rounded"
"""The attention of `rounded`, by the name under which transformers knows it."""


def grows_in_slots(model: nn.Module) -> bool:
    """Whether answers of ``model`` grow in slots: a plain attention, on one CUDA device."""
    config: Any = getattr(model, "config", None)
    if config is None or not find_spec("triton"):
        return False
    from benchsuite.models.attention import CAPPED  # transformers is here where a model is

    devices = {parameter.device for parameter in model.parameters()}
    return (
        len(devices) == 1
        and next(iter(devices)).type == "cuda"
        and config.get_text_config().model_type in SLOT_MODELS
        and config._attn_implementation in ("sdpa", CAPPED, ROUNDED)
    )


def at_once(model: nn.Module, n_tokens: int) -> int:
    """Return how many answers of ``n_tokens``, prompt and all, are worth making together.

    A GPU makes a step for many in the time of one for few: as many as a twentieth of its memory
    holds keys and values of, from 32 up to 256. A CPU makes 32. Of the whole memory, not of what
    is free: a cell measured again is to have the same batches, whoever else is on the card.
    """
    device = next(model.parameters()).device
    if device.type != "cuda":
        return 32
    whole = torch.cuda.get_device_properties(device).total_memory
    return int(min(256, max(32, whole // 20 // (cache_bytes(model) * n_tokens))))


def cache_bytes(model: nn.Module) -> int:
    """Return the bytes of the keys and values of one token, in the model's own dtype."""
    config: Any = model.config
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return 2 * text.num_hidden_layers * heads * width * next(model.parameters()).element_size()
