"""A text read by a model whose blocks come and go: all chunks pass one before the next comes."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from benchsuite.models.architecture import architecture_of
from benchsuite.models.fused import fused_forwards
from benchsuite.models.streaming import Blocks
from benchsuite.quantizers.hidden_states import HiddenStates, WorkingMemory, capture
from benchsuite.quantizers.layers import Progress
from benchsuite.quantizers.linear import using_kernel

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


@torch.no_grad()
def pass_blocks(
    model: nn.Module,
    chunks: Tensor,
    size: int,
    blocks: Iterable[tuple[int, nn.Module]],
    *,
    budget_bytes: int | None = None,
    progress: Progress | None = None,
) -> HiddenStates:
    """Return what the last block makes of ``chunks`` int64 [n, seq_len], read ``size`` at a time.

    ``blocks`` yields (number, block on the model's device). Hidden states are on the device while
    they fit there, or in ``budget_bytes``, in pinned host memory otherwise. Each batch has the
    shape that it has in a model that stays whole, and so the same bits.
    """
    architecture = architecture_of(model)
    memory = WorkingMemory(size * chunks.shape[1], budget_bytes, lanes=1)
    (hidden,) = capture(model, architecture, chunks, memory)
    n_blocks = len(architecture.block_list(model))
    for index, block in blocks:
        with fused_forwards(block), using_kernel(block, "held"):
            for part in hidden.slices():
                hidden.states[part].copy_(hidden.run(block, index, part), non_blocking=True)
        if progress is not None:
            progress("blocks", index + 1, n_blocks)
    return hidden


def after_blocks(model: nn.Module, states: Tensor) -> Tensor:
    """Return what the head reads of the last block's ``states`` [B, T, D], on the same device."""
    architecture = architecture_of(model)
    names = (architecture.final_norm, *architecture.after_blocks)
    for module in architecture.present(model, names).values():
        with fused_forwards(module):
            states = module(states)
    return states


@torch.no_grad()
def seen_by_blocks(model: nn.Module, chunks: Tensor, size: int) -> Callable[[slice], Seen]:
    """Let a streamed model read ``chunks`` int64 [n, seq_len], ``size`` at a time.

    Returns what a slice of them gives.
    """
    hidden, head = pass_blocks(model, chunks, size, Blocks(model).each()), head_of(model)

    def seen(part: slice) -> Seen:
        states = hidden.states[part].to(hidden.device, non_blocking=True)
        return after_blocks(model, states), head

    return seen
