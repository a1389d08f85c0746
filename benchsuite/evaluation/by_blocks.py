"""A text read by a streamed model: all chunks pass one block before the next one comes."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchsuite.errors import UsageError
from benchsuite.models.architecture import architecture_of
from benchsuite.models.fused import fused_forwards
from benchsuite.models.streaming import Blocks
from benchsuite.quantizers.hidden_states import WorkingMemory, capture
from benchsuite.quantizers.linear import using_kernel

# hidden states of some positions [P, D] -> logits [P, vocabulary]
Head = Callable[[Tensor], Tensor]
Seen = tuple[Tensor, Head]
"""Hidden states [B, T, D], and the head that makes logits of some of them."""

# What a configuration says of a model that does more after its head than these blocks tell.
_AFTER_THE_HEAD = ("final_logit_softcapping", "logits_scaling", "logit_scale")


@torch.no_grad()
def seen_by_blocks(model: nn.Module, chunks: Tensor, size: int) -> Callable[[slice], Seen]:
    """Let a streamed model read ``chunks`` int64 [n, seq_len], ``size`` at a time.

    Returns what a slice of them gives. Hidden states are on the device while they fit there, in
    pinned host memory otherwise. Each batch has the shape that it has in a model that stays, and so
    the same bits. Raises ``UsageError`` for a model that does more after its head.
    """
    architecture = architecture_of(model)
    config = model.config.get_text_config()  # type: ignore[union-attr, operator]
    if any(getattr(config, name, None) not in (None, 1.0) for name in _AFTER_THE_HEAD):
        raise UsageError(
            f"a {architecture.model_type} model scales its logits, and reads no text by blocks",
            fix="use a device that holds it whole",
        )
    memory = WorkingMemory(tokens_per_step=size * chunks.shape[1], lanes=1)
    device = next(model.parameters()).device
    (hidden,) = capture(model, architecture, chunks, memory, [device])
    for index, block in Blocks(model).each():
        with fused_forwards(block), using_kernel(block, "held"):
            for part in hidden.slices():
                hidden.states[part].copy_(hidden.run(block, index, part), non_blocking=True)
    after = architecture.present(model, (architecture.final_norm, *architecture.after_blocks))
    head: Head = model.get_output_embeddings()  # type: ignore[operator]

    def seen(part: slice) -> Seen:
        states = hidden.states[part].to(device, non_blocking=True)
        for module in after.values():
            with fused_forwards(module):
                states = module(states)
        return states, head

    return seen
