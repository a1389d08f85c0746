"""A pretrained decoder's blocks over packed tokens: what transformers computes, without padding.

The blocks, their weights and their parts are transformers'; the order in which Llama, Qwen2 and
Mistral put them together is written out here, because the rows of a batch differ in length and the
linear layers, which take nearly all the time, need not see the difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from benchsuite.errors import UsageError
from benchsuite.latent.attention import Layout, attend

KINDS = ("llama", "mistral", "qwen2")
NOTHING = torch.empty(0)


@dataclass(frozen=True)
class Decoded:
    """The last hidden states [N, hidden] and every layer's cache [B, n + L, kv_heads, d].

    Of the watched tokens also every layer's hidden states [layers, W, hidden], the last layer's
    normed, and its rotated queries [layers, W, heads, d], detached.
    """

    hidden: Tensor
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    layers: Tensor = NOTHING
    queries: Tensor = NOTHING


class Decoder(nn.Module):
    """The blocks of a language model without its head; one call is one forward pass."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        if model.config.model_type not in KINDS:
            raise UsageError(
                f"latents cannot be trained in a model of type {model.config.model_type!r}",
                fix=f"use one of {', '.join(KINDS)}",
            )
        self.model = model
        self._compiled = before_attention, after_attention

    def compile_training(self) -> None:
        """Let torch.compile fuse what lies between the attentions, in training."""
        self._compiled = (
            torch.compile(before_attention, dynamic=True),
            torch.compile(after_attention, dynamic=True),
        )

    def forward(
        self,
        tokens: Tensor,
        layout: Layout,
        past: Sequence[tuple[Tensor, Tensor]] | None = None,
        watched: Tensor | None = None,
    ) -> Decoded:
        """Read tokens [N, hidden] behind the keys and values ``past`` of every layer.

        ``watched`` int64 [W] are rows of the tokens.
        """
        cos, sin = self.model.rotary_emb(tokens, layout.positions[None])
        plain = before_attention, after_attention
        before, after = self._compiled if self.training else plain
        if before is not plain[0] and torch.is_grad_enabled() and not tokens.requires_grad:
            tokens = tokens.detach().requires_grad_()  # or all is compiled twice
        keys, values, layers, queries = [], [], [], []
        for number, block in enumerate(self.model.layers):
            query, key, value = before(block, tokens, cos[0], sin[0])
            key, value = layout.new.pad(key), layout.new.pad(value)
            if past is not None:
                key = torch.cat([past[number][0], key], 1)
                value = torch.cat([past[number][1], value], 1)
            tokens = after(block, tokens, attend(query, key, value, layout))
            keys.append(key)
            values.append(value)
            if watched is not None:
                layers.append(tokens.index_select(0, watched))
                queries.append(query.detach().index_select(0, watched))
        decoded = Decoded(self.model.norm(tokens), tuple(keys), tuple(values))
        if watched is None:
            return decoded
        layers[-1] = decoded.hidden.index_select(0, watched)
        return replace(decoded, layers=torch.stack(layers), queries=torch.stack(queries))


def before_attention(
    block: Any, tokens: Tensor, cos: Tensor, sin: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rotated queries and keys and the values, [N, heads, d] each."""
    own, tokens = block.self_attn, block.input_layernorm(tokens)
    query, key, value = (
        linear(tokens).unflatten(-1, (-1, own.head_dim))
        for linear in (own.q_proj, own.k_proj, own.v_proj)
    )
    return *apply_rotary_pos_emb(query, key, cos, sin), value


def after_attention(block: Any, tokens: Tensor, attended: Tensor) -> Tensor:
    """Return the block's output [N, hidden] for its input and what its heads attended to."""
    tokens = tokens + block.self_attn.o_proj(attended.flatten(1))
    return tokens + block.mlp(block.post_attention_layernorm(tokens))
