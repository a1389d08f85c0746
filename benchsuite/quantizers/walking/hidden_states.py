"""What goes into a block: the calibration data's hidden states, and the arguments beside them.

The model makes both itself: `capture` runs it with every block standing aside, so that masks,
positions and whatever else a model class hands to its blocks are its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from benchsuite.models.architecture import Architecture
from benchsuite.models.memory import total_bytes
from benchsuite.models.replicas import Counterparts
from benchsuite.quantizers.walking.lanes import LANES, lane_sizes, places_of

TOKENS_PER_STEP = {"cpu": 4096, "cuda": 32_768}
"""Tokens of one micro-batch: enough to fill the device, and on CUDA enough to keep it busy while
the host is feeding others."""

ACTIVATIONS = 6
"""A block's activations at one time, counted in the widest of its linears' inputs and outputs."""

ACTIVATION_SHARE = 1 / 6
"""Share of a CUDA device's whole memory that the activations of a micro-batch may take. Not of the
free memory: sums depend on a product's shape, and numbers must not depend on what else runs."""

DEVICE_SHARE = 0.4
"""Share of the free device memory that hidden states may take when no budget is given."""


@dataclass(frozen=True)
class WorkingMemory:
    """How much calibration data is worked on and kept on a device at a time.

    ``tokens_per_step`` bounds a micro-batch, ``budget_bytes`` the hidden states that may stay on a
    CUDA device, ``lanes`` counts the shares that devices can work on side by side. None leaves the
    choice to ``TOKENS_PER_STEP``, ``DEVICE_SHARE`` and ``LANES``.
    """

    tokens_per_step: int | None = None
    budget_bytes: int | None = None
    lanes: int | None = None

    def samples_per_step(self, device: torch.device, seq_len: int, token_bytes: int = 0) -> int:
        """Return how many samples of ``seq_len`` tokens make one micro-batch.

        ``token_bytes`` is what the activations of one token take.
        """
        tokens = self.tokens_per_step or TOKENS_PER_STEP.get(device.type, 4096)
        if self.tokens_per_step is None and device.type == "cuda":
            while tokens * token_bytes > ACTIVATION_SHARE * total_bytes(device):
                tokens //= 2
        return max(1, tokens // seq_len)

    def lane_sizes(self, n_samples: int, device: torch.device) -> list[int]:
        """Return how many of the samples each lane has, on devices of this kind."""
        return lane_sizes(n_samples, self.lanes or LANES.get(device.type, 1))

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

Arguments = dict[int, list[dict[str, Any]]]
"""By the size of a micro-batch, the keyword arguments of every block: masks and positions depend
on nothing else, because calibration samples have no padding."""


@dataclass
class HiddenStates:
    """The inputs of the current block, [n_samples, seq_len, width], and how to call blocks on them.

    They are those of one lane: ``place`` says which of the devices worked on is ``device``.
    ``arguments`` are the model's own, on that device.
    """

    states: Tensor
    step: int
    device: torch.device
    arguments: Arguments
    place: int = 0

    def slices(self) -> Iterator[slice]:
        """Yield the micro-batches."""
        for start in range(0, len(self.states), self.step):
            yield slice(start, min(start + self.step, len(self.states)))

    def copied(self, memory: WorkingMemory) -> "HiddenStates":
        """Return the same lane with states of its own, which ``memory`` places."""
        states = memory.allocate(tuple(self.states.shape), self.states.dtype, self.device)
        states.copy_(self.states)
        return replace(self, states=states)

    def run(self, block: nn.Module, index: int, part: slice | Tensor) -> Tensor:
        """Run block ``index`` on one micro-batch; return its hidden states [part, seq_len, width].

        ``part`` may be numbers of samples, int64 where the states are. The block gets a copy: what
        a method keeps of its inputs is to outlive the next block's.
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


@torch.no_grad()
def capture(
    model: nn.Module,
    architecture: Architecture,
    batch: Tensor,
    memory: WorkingMemory = CHOSEN_BY_DEVICE,
    devices: Sequence[torch.device] | None = None,
) -> list[HiddenStates]:
    """Run the embeddings on ``batch`` int64 [n_samples, seq_len]; return the first block's inputs.

    They come by lanes, shared out over ``devices``, of which the first is the model's own (None:
    that one alone). Every block's keyword arguments (mask, positions) are recorded on the way, each
    block standing aside, so that the model class itself makes them.
    """
    n_samples, seq_len = batch.shape
    blocks = architecture.block_list(model)
    originals = list(blocks)
    home = next(model.parameters()).device
    devices = devices or (home,)
    step = memory.samples_per_step(home, seq_len, _token_bytes(originals[0], architecture))
    sizes = memory.lane_sizes(n_samples, home)
    places = places_of(len(sizes), len(devices))
    recorders = [_Recorder(block) for block in originals]
    first = _First(originals[0])
    recorders[0] = first
    body = model.get_submodule(getattr(model, "base_model_prefix", "model"))
    arguments: Arguments = {}
    lanes: list[HiddenStates] = []
    try:
        for index, recorder in enumerate(recorders):
            blocks[index] = recorder
        for start, end in _micro_batches(sizes, step):
            body(input_ids=batch[start:end].to(home), use_cache=False)
            inputs = first.inputs
            assert inputs is not None
            arguments.setdefault(len(inputs), [r.keyword_arguments for r in recorders])
            if not lanes:
                lanes = _lanes(inputs, sizes, places, devices, step, memory)
            _store(lanes, sizes, start, inputs)
    finally:
        for index, block in enumerate(originals):
            blocks[index] = block
    moved = [arguments, *(Counterparts(device).of_all(arguments) for device in devices[1:])]
    for lane in lanes:
        lane.arguments = moved[lane.place]
    return lanes


def _token_bytes(block: nn.Module, architecture: Architecture) -> int:
    """Return the bytes of activations that one token makes in a block."""
    linears: list[Any] = [block.get_submodule(path) for path in architecture.linears]
    widest = max(max(linear.in_features, linear.out_features) for linear in linears)
    return ACTIVATIONS * widest * next(block.parameters()).element_size()


def _micro_batches(sizes: Sequence[int], step: int) -> Iterator[tuple[int, int]]:
    """Yield the bounds of all lanes' micro-batches among the samples."""
    end_of_lane = 0
    for size in sizes:
        start_of_lane, end_of_lane = end_of_lane, end_of_lane + size
        for start in range(start_of_lane, end_of_lane, step):
            yield start, min(start + step, end_of_lane)


def _lanes(
    inputs: Tensor,
    sizes: Sequence[int],
    places: Sequence[int],
    devices: Sequence[torch.device],
    step: int,
    memory: WorkingMemory,
) -> list[HiddenStates]:
    """Return lanes that wait for states like ``inputs`` [samples, seq_len, width]."""
    lanes = []
    for place, device in enumerate(devices):
        own = [size for size, at in zip(sizes, places, strict=True) if at == place]
        whole = memory.allocate((sum(own), *inputs.shape[1:]), inputs.dtype, device)
        lanes += [HiddenStates(part, step, device, {}, place) for part in whole.split(own)]
    return lanes


def _store(lanes: list[HiddenStates], sizes: Sequence[int], start: int, inputs: Tensor) -> None:
    """Put a micro-batch that begins at sample ``start`` where it belongs; it lies in one lane."""
    lane = 0
    while start >= sizes[lane]:
        start -= sizes[lane]
        lane += 1
    lanes[lane].states[start : start + len(inputs)].copy_(inputs, non_blocking=True)
