"""What follows a decoder's blocks: the last norm, and the head that makes logits."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchsuite.models.architecture import architecture_of
from benchsuite.models.fused import fused_forwards

# hidden states of some positions [P, D] -> logits [P, vocabulary]
Head = Callable[[Tensor], Tensor]
Seen = tuple[Tensor, Head]
"""Hidden states [B, T, D], and the head that makes logits of some of them."""


def scaled_head(model: nn.Module) -> Head | None:
    """Return the head of a model that caps its logits, or divides or multiplies them; else None.

    Gemma, Granite and Cohere do one of these each.
    """
    config = getattr(model, "config", None)
    config = getattr(config, "get_text_config", lambda: config)()
    cap = getattr(config, "final_logit_softcapping", None)
    divisor = getattr(config, "logits_scaling", None)
    factor = getattr(config, "logit_scale", None)
    own = model.get_output_embeddings()  # type: ignore[operator]
    if own is None or not any((cap, divisor, factor)):
        return None

    def head(hidden: Tensor) -> Tensor:
        logits = own(hidden)
        logits = logits / divisor if divisor else logits
        logits = logits * factor if factor else logits
        return torch.tanh(logits / cap) * cap if cap else logits

    return head


def head_of(model: nn.Module) -> Head:
    """Return what makes a causal language model's logits of its last hidden states."""
    return scaled_head(model) or model.get_output_embeddings()  # type: ignore[operator]


def after_blocks(model: nn.Module, states: Tensor) -> Tensor:
    """Return what the head reads of the last block's ``states`` [B, T, D], on the same device."""
    architecture = architecture_of(model)
    names = (architecture.final_norm, *architecture.after_blocks)
    for module in architecture.present(model, names).values():
        with fused_forwards(module):
            states = module(states)
    return states
