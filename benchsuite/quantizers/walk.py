"""The layer-by-layer walk that every calibrated method stands on.

Calibration inputs go once through the embeddings. Then, block by block: one forward collects the
statistics that the method asks for, the method replaces the block's linears, one forward of the
replaced block makes the next block's inputs. Hidden states stay on the model's device while they
fit in a budget, in (pinned) host memory otherwise. The same code runs on CPU and CUDA.

`walk_blocks` hands a method each block, `walk` each input group of each block.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.models.architecture import Architecture, InputGroup, architecture_of
from benchsuite.models.experts import calibrating
from benchsuite.quantizers.clock import StageClock
from benchsuite.quantizers.hidden_states import (
    CHOSEN_BY_DEVICE,
    HiddenStates,
    WorkingMemory,
    capture,
)
from benchsuite.quantizers.layers import Progress, group_linears, replace
from benchsuite.quantizers.linear import using_kernel


class Statistic(Protocol):
    """What a method accumulates over the inputs of one group of linears."""

    def update(self, inputs: Tensor) -> None:
        """Take in inputs [tokens, features] of the model's dtype."""


Kept = TypeVar("Kept", bound=Statistic)


class Method(Protocol[Kept]):
    """A quantizer that `walk` hands one input group after the other."""

    def statistic(self, here: "Visit", group: InputGroup) -> Kept:
        """Return a fresh statistic for the inputs of a group of the block."""

    def quantize(
        self, here: "Visit", group: InputGroup, statistic: Kept
    ) -> Mapping[str, nn.Module]:
        """Return the modules that replace the group's linears, by path in the block."""


class _Enough(Exception):
    """Raised by the last hook of a statistics pass: the rest of the block need not run."""


@dataclass
class Visit:
    """One block as the walk stands at it.

    ``states`` are the block's inputs until ``collect`` advances them; ``groups`` are the block's
    input groups in the order in which it runs them; ``clock`` takes the method's stages too.
    """

    name: str
    index: int
    block: nn.Module
    groups: tuple[InputGroup, ...]
    hidden: HiddenStates
    clock: StageClock
    advanced: bool = False

    def linears(self, group: InputGroup) -> dict[str, nn.Linear]:
        """Return the group's linears by path in the block; a usage error if one is replaced."""
        return group_linears(self.block, group, self.name)

    def collect(self, statistics: Mapping[str, Statistic], *, advance: bool = False) -> None:
        """Run the block as it is, feeding the inputs of the named groups to their statistics.

        Every expert of a mixture is fed every token. ``advance`` makes the next block's inputs of
        this same forward: they come from the block as it is now, not from the one that the method
        is about to make of it.
        """
        watched = [(g.linears[0], statistics[g.name]) for g in self.groups if g.name in statistics]
        with using_kernel(self.block, "held"), calibrating(self.block):
            _collect(self.hidden, self.block, self.index, watched, self.clock, advance)
        self.advanced = self.advanced or advance


def check_batch(batch: Tensor) -> None:
    """Raise a usage error unless ``batch`` is a non-empty int64 tensor [n_samples, seq_len]."""
    if batch.dim() != 2 or batch.dtype != torch.int64 or batch.numel() == 0:
        raise UsageError(
            f"a calibration batch is int64 [n_samples, seq_len], not {batch.dtype} "
            f"{list(batch.shape)}",
            "layer-by-layer walk",
        )


@torch.no_grad()
def walk_blocks(
    model: nn.Module,
    batch: Tensor,
    visit: Callable[[Visit], None],
    *,
    memory: WorkingMemory = CHOSEN_BY_DEVICE,
    progress: Progress | None = None,
    architecture: Architecture | None = None,
) -> dict[str, float]:
    """Take calibration data through the model, calling ``visit`` at each block; seconds by stage.

    ``batch`` is int64 [n_samples, seq_len] without padding. The next block's inputs come from the
    block as ``visit`` leaves it, unless it advanced them itself. ``architecture`` says where the
    linears are in a model whose modules were moved. Tensors of the given model are only read.
    """
    check_batch(batch)
    architecture = architecture or architecture_of(model)
    was_training = model.training
    model.eval()
    clock = StageClock(next(model.parameters()).device)
    try:
        with clock.measure("embeddings"):
            hidden = capture(model, architecture, batch, memory)
        blocks = architecture.block_list(model)
        for index, block in enumerate(blocks):
            if progress is not None:
                progress("quantize", index, len(blocks))
            name = architecture.block_name(index)
            here = Visit(name, index, block, architecture.groups, hidden, clock)
            visit(here)
            if index + 1 < len(blocks) and not here.advanced:
                _advance(hidden, block, index, clock)
        if progress is not None:
            progress("quantize", len(blocks), len(blocks))
    finally:
        model.train(was_training)
    return _exclusive(clock.seconds())


def walk(
    model: nn.Module,
    batch: Tensor,
    method: Method[Any],
    *,
    true_sequential: bool = False,
    memory: WorkingMemory = CHOSEN_BY_DEVICE,
    progress: Progress | None = None,
    architecture: Architecture | None = None,
) -> dict[str, float]:
    """Quantize every block's linears in place on the module tree; returns seconds by stage.

    ``true_sequential`` collects each input group's statistics after the earlier groups of its block
    have been quantized, at one more forward per group. The rest is as in ``walk_blocks``.
    """

    def visit(here: Visit) -> None:
        for together in [[g] for g in here.groups] if true_sequential else [here.groups]:
            statistics = {group.name: method.statistic(here, group) for group in together}
            here.collect(statistics)
            for group in together:
                replaced = method.quantize(here, group, statistics.pop(group.name))
                for path, module in replaced.items():
                    replace(here.block, path, module)

    return walk_blocks(
        model, batch, visit, memory=memory, progress=progress, architecture=architecture
    )


def _collect(
    hidden: HiddenStates,
    block: nn.Module,
    index: int,
    watched: Sequence[tuple[str, Statistic]],
    clock: StageClock,
    advance: bool,
) -> None:
    """Run the block over all inputs, feeding each watched linear's input to its statistic.

    ``watched`` is in the order in which the block runs its linears. ``advance`` overwrites the
    hidden states by the block's outputs on the way.
    """

    def hook_for(statistic: Statistic, is_last: bool) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            with clock.measure("statistics"):
                statistic.update(args[0].reshape(-1, args[0].shape[-1]))
            if is_last:
                raise _Enough

        return hook

    handles = [
        block.get_submodule(path).register_forward_pre_hook(
            hook_for(statistic, not advance and number == len(watched) - 1)
        )
        for number, (path, statistic) in enumerate(watched)
    ]
    try:
        for part in hidden.slices():
            with clock.measure("forward and statistics"):
                try:
                    outputs = hidden.run(block, index, part)
                except _Enough:
                    continue
                if advance:
                    hidden.states[part].copy_(outputs, non_blocking=True)
                else:
                    raise BenchsuiteError(
                        f"block {index} never called {watched[-1][0]}",
                        "layer-by-layer walk",
                        "the architecture map names a linear that this model does not run",
                    )
    finally:
        for handle in handles:
            handle.remove()


def _advance(hidden: HiddenStates, block: nn.Module, index: int, clock: StageClock) -> None:
    """Overwrite the hidden states by the block's outputs."""
    with clock.measure("forward"), using_kernel(block, "held"):
        for part in hidden.slices():
            outputs = hidden.run(block, index, part)
            hidden.states[part].copy_(outputs, non_blocking=True)


def _exclusive(seconds: dict[str, float]) -> dict[str, float]:
    """Take the statistics' time out of the forward pass in which they were collected."""
    both = seconds.pop("forward and statistics", 0.0)
    seconds["forward"] = seconds.get("forward", 0.0) + both - seconds.get("statistics", 0.0)
    return seconds
