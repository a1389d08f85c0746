"""Which way a model decodes where it lies, how many rows at once, and what its cache takes."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib.util import find_spec
from itertools import takewhile
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

# Models whose attention is the plain causal one, with a window or soft caps at most.
SLOT_MODELS = frozenset(
    ["gemma2", "gemma3_text", "granite", "llama", "mistral", "phi3", "qwen2", "qwen3", "smollm3"]
)

PREFIX_UNIT = 64
"""Tokens of which a shared prefix is a multiple: no block of the attention lies on its end."""
_LEAST_PREFIX = 128  # shorter ones are not worth a read of their own

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


def batches_of_many_shapes() -> AbstractContextManager[None]:
    """Let torch choose among the attentions that need no plan for every new shape of a batch.

    cuDNN's does, and batches of questions seldom have a shape twice.
    """
    backends = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    return sdpa_kernel(backends)


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


def shared_prefix(model: nn.Module, prompts: Sequence[list[int]]) -> list[int]:
    """Return the tokens that all ``prompts`` begin with, where slots read them once for all.

    None where the model rounds its keys and values: how may depend on what is read together.
    """
    if not grows_in_slots(model) or model.config._attn_implementation == ROUNDED:  # type: ignore[union-attr]
        return []
    return common_start(prompts)


def common_start(prompts: Sequence[list[int]]) -> list[int]:
    """Return what all ``prompts`` begin with: a multiple of ``PREFIX_UNIT`` tokens, or none.

    At least a token of every prompt is left.
    """
    first, last = min(prompts), max(prompts)  # what these two begin with, all do
    pairs = zip(first, last, strict=False)
    alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    length = min(alike, min(map(len, prompts)) - 1) // PREFIX_UNIT * PREFIX_UNIT
    worth_it = len(prompts) > 1 and length >= _LEAST_PREFIX
    return list(first[:length]) if worth_it else []


def cache_bytes(model: nn.Module) -> int:
    """Return the bytes of the keys and values of one token, in the model's own dtype."""
    config: Any = model.config
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return 2 * text.num_hidden_layers * heads * width * next(model.parameters()).element_size()
