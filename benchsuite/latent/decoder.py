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
from benchsuite.latent.fused import FusedBlocks, fuses

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
        self._compiled: Any = None

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
        blocks = self._blocks(tokens, *self.model.rotary_emb(tokens, layout.positions[None]))
        if isinstance(blocks, _Plain) and blocks.compiled:
            tokens = _wanted(tokens)
        added, keys, values, layers, queries = None, [], [], [], []
        for number in range(len(self.model.layers)):
            tokens, query, key, value = blocks.before(number, tokens, added)
            if watched is not None and number:
                layers.append(tokens.index_select(0, watched))  # of the block before
            key, value = layout.new.pad(key), layout.new.pad(value)
            if past is not None:
                key = torch.cat([past[number][0], key], 1)
                value = torch.cat([past[number][1], value], 1)
            tokens, added = blocks.after(number, tokens, attend(query, key, value, layout))
            keys.append(key)
            values.append(value)
            if watched is not None:
                queries.append(query.detach().index_select(0, watched))
        decoded = Decoded(blocks.norm(tokens, added), tuple(keys), tuple(values))
        if watched is None:
            return decoded
        layers.append(decoded.hidden.index_select(0, watched))
        return replace(decoded, layers=torch.stack(layers), queries=torch.stack(queries))

    def _blocks(self, tokens: Tensor, cos: Tensor, sin: Tensor) -> Any:
        """Return how this call's blocks are computed: ``_Plain`` or ``FusedBlocks``."""
        if self.training and self._compiled is None and fuses(self.model, tokens, cos):
            return FusedBlocks(self.model, tokens, cos[0], sin[0])
        return _Plain(self.model, cos[0], sin[0], self._compiled if self.training else None)


class _Plain:
    """Blocks by transformers' and PyTorch's own operations, or compiled ones."""

    def __init__(self, model: Any, cos: Tensor, sin: Tensor, compiled: Any) -> None:
        self._model, self._angles, self.compiled = model, (cos, sin), compiled is not None
        how: Any = compiled or (before_attention, after_attention)
        self._before, self._after = how

    def before(self, number: int, tokens: Tensor, _: None) -> tuple[Tensor, ...]:
        """Return the tokens, their rotated queries and keys, and values."""
        return tokens, *self._before(self._model.layers[number], tokens, *self._angles)

    def after(self, number: int, tokens: Tensor, attended: Tensor) -> tuple[Tensor, None]:
        """Return the block's output, and that nothing is to be added."""
        return self._after(self._model.layers[number], tokens, attended), None

    def norm(self, tokens: Tensor, _: None) -> Tensor:
        """Return the last norm."""
        return self._model.norm(tokens)


def _wanted(tokens: Tensor) -> Tensor:
    """Return tokens that want a gradient, or all is compiled twice."""
    if torch.is_grad_enabled() and not tokens.requires_grad:
        return tokens.detach().requires_grad_()
    return tokens


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
