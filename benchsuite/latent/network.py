"""A causal language model that can think in latents: special embeddings, projection, LoRA.

Teacher and student are one network. Everything that the methods do is made of one operation,
``extend``: put some embeddings behind a context and run the decoder over them.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchsuite.latent import lora
from benchsuite.latent.attention import Layout
from benchsuite.latent.config import Config
from benchsuite.latent.decoder import NOTHING, Decoder
from benchsuite.latent.transfer import send

BOT, EOT, PLACEHOLDER = range(3)


@dataclass(frozen=True)
class Context:
    """What has been read: every layer's rotated keys and values [B, n, kv_heads, d].

    ``mask`` [B, n] is 0 on padding; it stays on the host, as all masks and ids do.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    mask: Tensor

    def first(self, n: int) -> "Context":
        """Return the context of the first ``n`` positions."""
        keys, values = (tuple(t[:, :n] for t in each) for each in (self.keys, self.values))
        return Context(keys, values, self.mask[:, :n])

    def stacked(self, start: int, end: int | None = None) -> tuple[Tensor, Tensor]:
        """Return the keys and values [layers, B, kv_heads, end - start, d] of some positions."""
        keys, values = (
            torch.stack([t[:, start:end] for t in each]).transpose(2, 3)
            for each in (self.keys, self.values)
        )
        return keys, values


@dataclass(frozen=True)
class Read:
    """What ``extend`` gives: the last hidden states [B, L, hidden], zero on padding.

    Of the columns watched also each layer's hidden states [layers, B, W, hidden], the last one's
    normed, and its rotated queries [layers, B, heads, W, d], detached.
    """

    hidden: Tensor
    context: Context
    layers: Tensor = NOTHING
    queries: Tensor = NOTHING


class Reasoner(nn.Module):
    """A language model with ``<bot>``, ``<eot>`` and latent placeholders beside its vocabulary.

    The three are vectors of their own, so that the vocabulary and the head stay the model's.
    ``projection`` turns a last hidden state into the next latent's embedding: Linear, GELU,
    Linear, LayerNorm, without a residual; without it, the hidden state itself is the latent. New
    parameters are drawn from ``seed``. ``lora_r`` 0 trains every weight, otherwise LoRA of that
    rank on all linear layers of the blocks. ``auxiliary`` is a second copy of the model, trained
    as the first one is, for methods that read latents with one.
    """

    def __init__(
        self,
        lm: Any,
        *,
        projection: bool,
        seed: int,
        lora_r: int = 0,
        lora_alpha: int = 32,
        lora_dropout: float = 0.0,
        projection_dropout: float = 0.0,
        auxiliary: bool = False,
    ) -> None:
        super().__init__()
        self.auxiliary: Reasoner | None = None
        if auxiliary:
            reader = Reasoner(
                copy.deepcopy(lm),
                projection=False,
                seed=seed,
                lora_r=lora_r,
                lora_alpha=lora_alpha,
                lora_dropout=lora_dropout,
            )
            dict(reader.named_parameters())["special"].requires_grad_(False)
            self.auxiliary = reader
        self.lm = lm
        device, width = next(lm.parameters()).device, self.lm.config.hidden_size
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            embeddings = self.lm.get_input_embeddings().weight
            self.special = nn.Parameter(torch.randn(3, width) * embeddings.std().float().cpu())
            self.projection = _projection(width, projection_dropout) if projection else None
            if lora_r:
                lora.inject(self.lm, lora_r, lora_alpha, lora_dropout)
            else:
                self.lm.requires_grad_(True)
        self.decoder = Decoder(self.lm.get_decoder())
        self.to(device)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.special.device

    def embed(self, ids: Tensor) -> Tensor:
        """Return the embeddings [B, L, hidden] of token ids [B, L], wherever they are."""
        return self.lm.get_input_embeddings()(send(ids, self.device))

    def token(self, which: int, batch: int, n: int = 1) -> Tensor:
        """Return ``n`` copies [batch, n, hidden] of a special token's embedding."""
        return self.special[which].to(self.lm.dtype).expand(batch, n, -1)

    def project(self, hidden: Tensor) -> Tensor:
        """Return the latents' embeddings for last hidden states [B, L, hidden]."""
        return hidden if self.projection is None else self.projection(hidden).to(hidden.dtype)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the next token's logits [..., vocabulary]."""
        return self.lm.get_output_embeddings()(hidden)

    def extend(
        self,
        context: Context | None,
        embeddings: Tensor,
        mask: Tensor | None = None,
        *,
        watched: Tensor | None = None,
    ) -> Read:
        """Run the decoder over embeddings [B, L, hidden] that follow ``context``.

        ``mask`` int64 [B, L], on the host, is 0 on padding, which takes no position and no time in
        the linear layers. ``watched`` int64 [B, W], on the host, are columns. The context is left
        as it is, so that it can be continued more than once, with gradients through every
        continuation.
        """
        if mask is None:
            mask = torch.ones(embeddings.shape[:2], dtype=torch.int64)
        layout = Layout.of(context.mask if context else None, mask, embeddings.device)
        rows = None if watched is None else send(layout.rows(watched), self.device)
        read = self.decoder(
            layout.new.pack(embeddings),
            layout,
            list(zip(context.keys, context.values, strict=True)) if context else None,
            rows,
        )
        found = layout.new.pad(read.hidden), Context(read.keys, read.values, layout.mask)
        if watched is None:
            return Read(*found)
        layers, queries = (t.unflatten(1, watched.shape) for t in (read.layers, read.queries))
        return Read(*found, layers, queries.transpose(2, 3))


def build(lm: nn.Module, config: Config, *, seed: int) -> Reasoner:
    """Return a network over a copy of ``lm``, whose tensors stay as they are."""
    own = copy.deepcopy(lm)
    if not (config.lora.r and config.training.bf16):
        own = own.float()  # AdamW's small steps vanish in bf16
    return Reasoner(
        own,
        projection=config.latent.projection,
        projection_dropout=config.latent.projection_dropout,
        seed=seed,
        lora_r=config.lora.r,
        lora_alpha=config.lora.alpha,
        lora_dropout=config.lora.dropout,
        auxiliary=config.loss.step_weight > 0,
    )


def _projection(width: int, dropout: float) -> nn.Module:
    layers: list[nn.Module] = [nn.Dropout(dropout)] if dropout else []
    layers += [nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.LayerNorm(width)]
    return nn.Sequential(*layers)
