"""Attention over keys and values that are rounded, by transformers' modules and in slots.

An attention that rounds has a module ``key_value_rounding``: called with query, key and value
[batch, heads, tokens, width], it returns them as the attention is to use them. It does to each
token what it does to it alone. So rounding what is written into a cache, as slots do, and rounding
all that is read of one, as the interface here does, give the same numbers.
"""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from benchsuite.decoding.ways import ROUNDED
from benchsuite.models.attention import attend


def round_in_attention(model: Any, roundings: Iterable[tuple[Any, nn.Module]]) -> None:
    """Give attentions of ``model`` what rounds their keys and values, and let all of it use it."""
    for attention, rounding in roundings:
        attention.key_value_rounding = rounding
        attention.config._attn_implementation = ROUNDED
    model.config._attn_implementation = ROUNDED


def roundings_of(model: nn.Module) -> dict[int, nn.Module]:
    """Return what rounds the keys and values of each layer, by the layer's number."""
    return {
        int(module.layer_idx): module.key_value_rounding  # type: ignore[arg-type, misc]
        for module in model.modules()
        if isinstance(getattr(module, "key_value_rounding", None), nn.Module)
    }


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, *rest: Any, **kw: Any
) -> Any:
    """The model's attention behind the module's rounding (a transformers interface)."""
    query, key, value = module.key_value_rounding(query, key, value)
    return attend(module, query, key, value, *rest, **kw)


AttentionInterface.register(ROUNDED, _attention)
AttentionMaskInterface.register(ROUNDED, sdpa_mask)
