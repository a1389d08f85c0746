"""Scaled dot-product attention that can also say which queries it was asked with.

R-KV eviction needs the attention from answer tokens to the chain of thought, a few rows of every
layer's matrix. Asking transformers for them would switch to the eager path and keep every row;
keeping the rotated queries, which are there anyway, costs nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "sdpa_recording_queries"

_queries: ContextVar[list[Tensor] | None] = ContextVar("queries", default=None)


def _attend(module: nn.Module, query: Tensor, *args: Any, **kwargs: Any) -> Any:
    kept = _queries.get()
    if kept is not None:
        kept.append(query.detach())
    return sdpa_attention_forward(module, query, *args, **kwargs)


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


@contextmanager
def recording_queries() -> Iterator[list[Tensor]]:
    """Yield a list that fills with every layer's queries [B, heads, L, d], rotated, detached."""
    kept: list[Tensor] = []
    token = _queries.set(kept)
    try:
        yield kept
    finally:
        _queries.reset(token)
