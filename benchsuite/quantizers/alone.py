"""What replacing a part of a model costs by itself: the KL of its predictions, all else as it was.

The model reads some text once. Then, block by block, each replacement is put in, the text goes
through this block and those after it, and the part is put back. So a replacement in the last block
costs one block's forward and the head, one in the first the whole model's.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import ExitStack
from typing import TypeVar

import torch
from torch import Tensor, nn

from benchsuite.decoding.loop import evaluating
from benchsuite.errors import CellCannotRun, UsageError
from benchsuite.models.architecture import architecture_of
from benchsuite.models.experts import separate_experts
from benchsuite.models.fused import fused_forwards
from benchsuite.models.heads import after_blocks, head_of
from benchsuite.models.streaming import is_streamed
from benchsuite.quantizers.kernels import using_kernel
from benchsuite.quantizers.layers import Progress, replace
from benchsuite.quantizers.walking.finite import refuse_infinite_outputs
from benchsuite.quantizers.walking.hidden_states import HiddenStates, WorkingMemory, capture

Key = TypeVar("Key", bound=Hashable)

# float32 logits of both models compared at a time.
_SLICE_BYTES = {"cpu": 2**22, "cuda": 2**28}


@torch.no_grad()
def kl_alone(
    model: nn.Module,
    chunks: Tensor,
    replacements: Callable[[int, nn.Module], Iterable[tuple[Key, Mapping[str, nn.Module]]]],
    *,
    progress: Progress | None = None,
) -> dict[Key, float]:
    """Return KL(model || model with a replacement) in nats per prediction, by its key.

    ``chunks`` int64 [n, seq_len] is what both read. ``replacements(index, block)`` yields, for a
    block, keys and what is to stand at paths inside it. The model's tree is changed and put back.
    It has to be on its device whole: a streamed one is ``CellCannotRun``. Raises ``UsageError`` for
    rows of one token, which predict nothing.
    """
    if chunks.shape[1] < 2:
        raise UsageError(
            "the KL of a part alone is of predictions, and rows of one token hold none",
            "sensitivity",
            "give longer calibration sequences",
        )
    if is_streamed(model):
        raise CellCannotRun(
            "the KL of a part alone reads all of a model again and again, and this one's blocks "
            "are not held together",
            "sensitivity",
            "Use a device that holds the model whole",
        )
    architecture, found = architecture_of(model), {}
    blocks = architecture.block_list(model)
    with ExitStack() as stack:
        for context in (evaluating(model), fused_forwards(model), using_kernel(model, "held")):
            stack.enter_context(context)
        # One that is replaced would run beside the others, which then run in another way: the
        # difference in last bits may be larger than what a small part costs.
        stack.enter_context(separate_experts(model))
        (lane,) = capture(model, architecture, chunks, WorkingMemory(lanes=1))
        goal = []
        for part in lane.slices():
            states = lane.states[part].to(lane.device)
            for index, (name, block) in enumerate(architecture.named_blocks(model)):
                states = _through(block, lane, index, states)
                refuse_infinite_outputs(states, name)
            goal.append(_logits(model, states))
        for index, block in enumerate(blocks):
            for key, modules in replacements(index, block):
                before = {path: block.get_submodule(path) for path in modules}
                try:
                    _put(block, modules)
                    found[key] = _kl_from(model, blocks, lane, index, goal)
                finally:
                    _put(block, before)
            for part in lane.slices():
                lane.states[part].copy_(lane.run(block, index, part), non_blocking=True)
            if progress is not None:
                progress("layers", index + 1, len(blocks))
    return {key: float(value) for key, value in found.items()}


def _put(block: nn.Module, modules: Mapping[str, nn.Module]) -> None:
    for path, module in modules.items():
        replace(block, path, module)


def _from_block(blocks: nn.ModuleList, lane: HiddenStates, index: int, part: slice) -> Tensor:
    """Return what the last block makes of a micro-batch of block ``index``'s inputs, [B, T, D]."""
    states = lane.run(blocks[index], index, part)
    for later in range(index + 1, len(blocks)):
        states = _through(blocks[later], lane, later, states)
    return states


def _through(block: nn.Module, lane: HiddenStates, index: int, states: Tensor) -> Tensor:
    """Return what block ``index`` makes of states [B, T, D] on its device."""
    outputs = block(states, **lane.arguments[len(states)][index])
    return outputs[0] if isinstance(outputs, tuple) else outputs


def _logits(model: nn.Module, states: Tensor) -> Tensor:
    """Return the logits [B * (T - 1), vocabulary] of what the last block puts out, [B, T, D]."""
    hidden = after_blocks(model, states)[:, :-1].flatten(0, 1)
    return head_of(model)(hidden)


def _kl_from(
    model: nn.Module, blocks: nn.ModuleList, lane: HiddenStates, index: int, goal: list[Tensor]
) -> Tensor:
    total = torch.zeros((), dtype=torch.float64, device=lane.device)
    for logits, part in zip(goal, lane.slices(), strict=True):
        got = _logits(model, _from_block(blocks, lane, index, part))
        step = max(1, _SLICE_BYTES.get(lane.device.type, 2**22) // (8 * logits.shape[-1]))
        for p, q in zip(logits.split(step), got.split(step), strict=True):
            total += kl_divergence(p, q).sum(dtype=torch.float64)
    return total / sum(len(logits) for logits in goal)


def kl_divergence(p: Tensor, q: Tensor) -> Tensor:
    """Return KL(p || q) [P] in nats, float32, for logits [P, vocabulary].

    With d = q - p it is log(sum P e^d) - sum P d, P = softmax(p). Of close models all terms are
    small, and none is the small difference of large ones.
    """
    p = p.float()
    share, difference = p.softmax(-1), q.float() - p
    grown = (share * difference.expm1()).sum(-1)
    return grown.log1p() - (share * difference).sum(-1)
