"""What goes into a block: the calibration data's hidden states, and the arguments beside them.

The model makes both itself: `capture` runs it with every block standing aside, so that masks,
positions and whatever else a model class hands to its blocks are its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from benchsuite.models.architecture import Architecture

TOKENS_PER_STEP = {"cpu": 4096, "cuda": 8192}
"""Tokens of one micro-batch: enough to fill the device, few enough for the activations to fit."""

DEVICE_SHARE = 0.4
"""Share of the free device memory that hidden states may take when no budget is given."""


@dataclass(frozen=True)
class WorkingMemory:
    """How much calibration data is worked on and kept on the device at a time.

    ``tokens_per_step`` bounds a micro-batch, ``budget_bytes`` the hidden states that may stay on a
    CUDA device; None leaves the choice to ``TOKENS_PER_STEP`` and ``DEVICE_SHARE``.
    """

    tokens_per_step: int | None = None
    budget_bytes: int | None = None

    def samples_per_step(self, device: torch.device, seq_len: int) -> int:
        """Return how many samples of ``seq_len`` tokens make one micro-batch."""
        tokens = self.tokens_per_step or TOKENS_PER_STEP.get(device.type, 4096)
        return max(1, tokens // seq_len)

    def allocate(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return an empty tensor for hidden states: on the device if it fits, else on the host."""
        if device.type != "cuda":
            return torch.empty(shape, dtype=dtype)
        budget = self.budget_bytes
        if budget is None:
            budget = int(DEVICE_SHARE * torch.cuda.mem_get_info(device)[0])
        if torch.Size(shape).numel() * dtype.itemsize <= budget:
            return torch.empty(shape, dtype=dtype, device=device)
        return torch.empty(shape, dtype=dtype, pin_memory=True)


CHOSEN_BY_DEVICE = WorkingMemory()


@dataclass
class HiddenStates:
    """The inputs of the current block, [n_samples, seq_len, width], and how to call blocks on them.

    ``arguments[size][i]`` are the keyword arguments of block i for a micro-batch of ``size``
    samples, made by the model itself: masks and positions depend on nothing else, because
    calibration samples have no padding.
    """

    states: Tensor
    step: int
    device: torch.device
    arguments: dict[int, list[dict[str, Any]]] = field(default_factory=dict)

    def slices(self) -> Iterator[slice]:
        """Yield the micro-batches."""
        for start in range(0, len(self.states), self.step):
            yield slice(start, min(start + self.step, len(self.states)))

    def run(self, block: nn.Module, index: int, part: slice) -> Tensor:
        """Run block ``index`` on one micro-batch and return its hidden states.

        The block gets a copy: what a method keeps of its inputs is to outlive the next block's.
        """
        inputs = self.states[part].to(self.device, non_blocking=True, copy=True)
        outputs = block(inputs, **self.arguments[len(inputs)][index])
        return outputs[0] if isinstance(outputs, tuple) else outputs


class _Recorder(nn.Module):
    """Stands in for a block while the embeddings run: passes its input on, keeps the arguments."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        # Some model classes read attributes of their blocks; a plain attribute, not a child.
        object.__setattr__(self, "_block", block)
        self.keyword_arguments: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(object.__getattribute__(self, "_block"), name)

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        self.keyword_arguments = kwargs
        return hidden_states


class _First(_Recorder):
    """The recorder of the first block, which also keeps its input."""

    inputs: Tensor | None = None

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        self.inputs = hidden_states
        return super().forward(hidden_states, **kwargs)


def capture(
    model: nn.Module,
    architecture: Architecture,
    batch: Tensor,
    memory: WorkingMemory = CHOSEN_BY_DEVICE,
) -> HiddenStates:
    """Run the embeddings on ``batch`` int64 [n_samples, seq_len]; return the first block's inputs.

    Every block's keyword arguments (mask, positions) are recorded on the way, each block standing
    aside, so that the model class itself makes them.
    """
    n_samples, seq_len = batch.shape
    blocks = architecture.block_list(model)
    originals = list(blocks)
    device = next(model.parameters()).device
    step = memory.samples_per_step(device, seq_len)
    hidden: HiddenStates | None = None
    recorders = [_Recorder(block) for block in originals]
    first = _First(originals[0])
    recorders[0] = first
    body = model.get_submodule(getattr(model, "base_model_prefix", "model"))
    try:
        for index, recorder in enumerate(recorders):
            blocks[index] = recorder
        for start in range(0, n_samples, step):
            part = batch[start : start + step].to(device)
            body(input_ids=part, use_cache=False)
            inputs = first.inputs
            assert inputs is not None
            if hidden is None:
                shape = (n_samples, *inputs.shape[1:])
                hidden = HiddenStates(memory.allocate(shape, inputs.dtype, device), step, device)
            hidden.states[start : start + step].copy_(inputs, non_blocking=True)
            if len(inputs) not in hidden.arguments:
                hidden.arguments[len(inputs)] = [r.keyword_arguments for r in recorders]
    finally:
        for index, block in enumerate(originals):
            blocks[index] = block
    assert hidden is not None
    return hidden
