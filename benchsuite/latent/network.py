"""A causal language model that can think in latents: special embeddings, projection, LoRA.

Teacher and student are one network. Everything that the methods do is made of one operation,
``extend``: put some embeddings behind a context and run the decoder over them.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchsuite.errors import CellCannotRun, UsageError
from benchsuite.latent import attention
from benchsuite.latent.config import Config

BOT, EOT, PLACEHOLDER = range(3)
LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Context:
    """What has been read: every layer's keys and values, and ``mask`` [B, n] with 0 on padding."""

    cache: Any
    mask: Tensor

    def first(self, n: int) -> "Context":
        """Return the context of the first ``n`` positions; this one is left as it is."""
        cache = _fork(self.cache)
        for layer in cache.layers:
            layer.keys, layer.values = layer.keys[:, :, :n], layer.values[:, :, :n]
        return Context(cache, self.mask[:, :n])

    def stacked(self, start: int, end: int | None = None) -> tuple[Tensor, Tensor]:
        """Return the keys and values [layers, B, kv_heads, end - start, d] of some positions."""
        layers = self.cache.layers
        keys = torch.stack([layer.keys[:, :, start:end] for layer in layers])
        return keys, torch.stack([layer.values[:, :, start:end] for layer in layers])


@dataclass(frozen=True)
class Read:
    """What ``extend`` gives: the last hidden states [B, L, hidden], all layers' if asked for."""

    hidden: Tensor
    context: Context
    layers: tuple[Tensor, ...] = ()


class Reasoner(nn.Module):
    """A language model with ``<bot>``, ``<eot>`` and latent placeholders beside its vocabulary.

    The three are vectors of their own, so that the vocabulary and the head stay the model's.
    ``projection`` turns a last hidden state into the next latent's embedding: Linear, GELU,
    Linear, LayerNorm, without a residual; without it, the hidden state itself is the latent. New
    parameters are drawn from ``seed``. ``lora_r`` 0 trains every weight, otherwise LoRA of that
    rank on all linear layers of the blocks.
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
    ) -> None:
        super().__init__()
        self.lm = lm
        self.lm.set_attn_implementation(attention.NAME)
        device, width = next(lm.parameters()).device, self.lm.config.hidden_size
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            embeddings = self.lm.get_input_embeddings().weight
            self.special = nn.Parameter(torch.randn(3, width) * embeddings.std().float().cpu())
            self.projection = _projection(width, projection_dropout) if projection else None
            if lora_r:
                _inject_lora(self.lm, lora_r, lora_alpha, lora_dropout)
            else:
                self.lm.requires_grad_(True)
        self.to(device)

    @property
    def decoder(self) -> nn.Module:
        """The blocks without the head; one call of it is one forward pass."""
        return self.lm.get_decoder()

    def embed(self, ids: Tensor) -> Tensor:
        """Return the embeddings [B, L, hidden] of token ids [B, L]."""
        return self.lm.get_input_embeddings()(ids)

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
        all_layers: bool = False,
    ) -> Read:
        """Run the decoder over embeddings [B, L, hidden] that follow ``context``.

        ``mask`` [B, L] is 0 on padding, which takes no position. The context is left as it is, so
        that it can be continued more than once, with gradients through every continuation.
        """
        if mask is None:
            mask = torch.ones(embeddings.shape[:2], dtype=torch.int64, device=embeddings.device)
        before = context.mask.sum(1, keepdim=True) if context else 0
        positions = (before + mask.cumsum(1) - 1).clamp(min=0)
        whole = torch.cat([context.mask, mask], 1) if context else mask
        out = self.decoder(
            inputs_embeds=embeddings,
            attention_mask=whole,
            position_ids=positions,
            past_key_values=_fork(context.cache) if context else None,
            use_cache=True,
            output_hidden_states=all_layers,
        )
        layers = out.hidden_states if all_layers else ()
        return Read(out.last_hidden_state, Context(out.past_key_values, whole), layers)


def build(lm: nn.Module, config: Config, *, seed: int) -> Reasoner:
    """Return a network over a copy of ``lm``, whose tensors stay as they are."""
    own = copy.deepcopy(lm)
    if not config.lora.r:
        own = own.float()  # AdamW's small steps vanish in bf16
    return Reasoner(
        own,
        projection=config.latent.projection,
        projection_dropout=config.latent.projection_dropout,
        seed=seed,
        lora_r=config.lora.r,
        lora_alpha=config.lora.alpha,
        lora_dropout=config.lora.dropout,
    )


def _fork(cache: Any) -> Any:
    """Return a cache that can grow or shrink on its own over the same tensors."""
    fork = copy.copy(cache)
    fork.layers = [copy.copy(layer) for layer in cache.layers]
    return fork


def _projection(width: int, dropout: float) -> nn.Module:
    layers: list[nn.Module] = [nn.Dropout(dropout)] if dropout else []
    layers += [nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.LayerNorm(width)]
    return nn.Sequential(*layers)


def _inject_lora(lm: nn.Module, r: int, alpha: int, dropout: float) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners.lora import Linear
    except ImportError:
        raise CellCannotRun(
            "training with LoRA needs peft, which is not installed",
            fix="install it: pip install 'benchsuite[latent]', or set lora.r to 0",
        ) from None
    found = {name.rsplit(".", 1)[-1] for name, _ in lm.named_modules()}
    targets = [name for name in LINEAR_LAYERS if name in found]
    if not targets:
        raise UsageError(
            f"LoRA finds none of {', '.join(LINEAR_LAYERS)} in {type(lm).__name__}",
            fix="use a Llama, Qwen2 or Mistral model",
        )
    lm.requires_grad_(False)
    how = LoraConfig(r=r, lora_alpha=alpha, lora_dropout=dropout, target_modules=targets)
    # Said outright, for peft otherwise asks every quantization library whether the layer is its
    # own, and an installed gptqmodel without optimum stops it.
    how._register_custom_module({nn.Linear: Linear})
    inject_adapter_in_model(how, lm)
    for parameter in lm.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
