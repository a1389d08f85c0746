"""A text read by a model whose blocks come and go: all chunks pass one before the next comes."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from benchsuite.models.architecture import architecture_of
from benchsuite.models.fused import fused_forwards
from benchsuite.models.heads import Seen, after_blocks, head_of
from benchsuite.models.streaming import Blocks
from benchsuite.quantizers.kernels import using_kernel
from benchsuite.quantizers.layers import Progress
from benchsuite.quantizers.walking.hidden_states import HiddenStates, WorkingMemory, capture


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
