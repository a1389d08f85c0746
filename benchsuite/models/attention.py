"""PyTorch's attention with the soft cap that transformers' adapter of it passes over.

Gemma 2 caps what its attention sees: scores s become c tanh(s / c). PyTorch's
``scaled_dot_product_attention`` knows no cap, and transformers leaves it out there without a word.
Its "eager" attention has it, at the memory of all scores at once; this one has it some queries at a
time. vLLM and llama.cpp compute the cap too.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

CAPPED = "benchsuite_capped"

_SCORE_BYTES = 256 * 2**20  # fp32 scores held at a time


def keep_cap(model: Any) -> None:
    """Let ``model`` compute its attention's soft cap, in place; one without a cap stays."""
    config = model.config.get_text_config()
    if getattr(config, "attn_logit_softcapping", None):
        model.set_attn_implementation(CAPPED)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    softcap: float | None = None,
    **how: Any,
) -> tuple[Tensor, None]:
    """Return the attention [B, T, heads, width] as transformers' interface does, with its cap."""
    if not softcap:
        return sdpa_attention_forward(module, query, key, value, mask, **how)
    scaling = how.get("scaling") or query.shape[-1] ** -0.5
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, 1) if groups > 1 else x for x in (key, value))
    causal = mask is None and query.shape[2] > 1 and getattr(module, "is_causal", True)
    first = key.shape[2] - query.shape[2]  # the keys that are seen by every query
    step = max(1, _SCORE_BYTES // (4 * query.shape[0] * query.shape[1] * key.shape[2]))
    rows = []
    for start in range(0, query.shape[2], step):
        part = query[:, :, start : start + step]
        scores = softcap * torch.tanh(part @ key.transpose(2, 3) * scaling / softcap)
        seen = None if mask is None else mask[:, :, start : start + step]
        if causal:
            seen = scores.new_ones(part.shape[2], key.shape[2], dtype=torch.bool)
            seen = seen.tril(first + start)
        if seen is not None:
            scores = _masked(scores, seen)
        weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
        rows.append(weights @ value)
    return torch.cat(rows, 2).transpose(1, 2).contiguous(), None


def _masked(scores: Tensor, seen: Tensor) -> Tensor:
    """Return scores of what is not seen at their dtype's least: a row that sees nothing is finite.

    ``seen`` is bool, or what is to be added.
    """
    if seen.dtype != torch.bool:
        return scores + seen
    return scores.masked_fill(~seen, torch.finfo(scores.dtype).min)


AttentionInterface.register(CAPPED, attend)
AttentionMaskInterface.register(CAPPED, sdpa_mask)
