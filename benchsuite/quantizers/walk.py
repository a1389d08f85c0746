"""The layer-by-layer walk that every calibrated method stands on.

Calibration inputs go once through the embeddings. Then, block by block: one forward collects the
statistics that the method asks for, the method replaces the block's linears, one forward of the
replaced block makes the next block's inputs. Hidden states stay on the model's device while they
fit in a budget, in (pinned) host memory otherwise. The same code runs on CPU and CUDA.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.models.architecture import Architecture, InputGroup, architecture_of
from benchsuite.quantizers.clock import StageClock
from benchsuite.quantizers.linear import using_kernel

Progress = Callable[[str, int, int], None]
"""Called as ``progress(stage, done, total)``."""

TOKENS_PER_STEP = {"cpu": 4096, "cuda": 8192}
"""Tokens of one micro-batch: enough to fill the device, few enough for the activations to fit."""

DEVICE_SHARE = 0.4
"""Share of the free device memory that hidden states may take when no budget is given."""


class Statistic(Protocol):
    """What a method accumulates over the inputs of one group of linears."""

    def update(self, inputs: Tensor) -> None:
        """Take in inputs [tokens, features] of the model's dtype."""


class Method(Protocol):
    """A quantizer, as the walk sees it."""

    def statistic(
        self, name: str, group: InputGroup, linears: Mapping[str, nn.Linear]
    ) -> Statistic:
        """Return a fresh statistic for a group of block ``name`` (linears by path in the block)."""

    def quantize(
        self, name: str, group: InputGroup, linears: Mapping[str, nn.Linear], statistic: Any
    ) -> Mapping[str, nn.Module]:
        """Return the modules that replace the linears, by path in the block."""


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


class _Enough(Exception):
    """Raised by the last hook of a statistics pass: the rest of the block need not run."""


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
        """Run block ``index`` on one micro-batch and return its hidden states."""
        inputs = self.states[part].to(self.device, non_blocking=True)
        outputs = block(inputs, **self.arguments[len(inputs)][index])
        return outputs[0] if isinstance(outputs, tuple) else outputs


def _allocate(
    shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, budget_bytes: int | None
) -> Tensor:
    size = torch.Size(shape).numel() * dtype.itemsize
    if device.type != "cuda":
        return torch.empty(shape, dtype=dtype)
    if budget_bytes is None:
        budget_bytes = int(DEVICE_SHARE * torch.cuda.mem_get_info(device)[0])
    if size <= budget_bytes:
        return torch.empty(shape, dtype=dtype, device=device)
    return torch.empty(shape, dtype=dtype, pin_memory=True)


def capture(
    model: nn.Module,
    architecture: Architecture,
    batch: Tensor,
    *,
    tokens_per_step: int | None = None,
    budget_bytes: int | None = None,
) -> HiddenStates:
    """Run the embeddings on ``batch`` int64 [n_samples, seq_len]; return the first block's inputs.

    Every block's keyword arguments (mask, positions) are recorded on the way, each block standing
    aside, so that the model class itself makes them.
    """
    n_samples, seq_len = batch.shape
    blocks = architecture.block_list(model)
    originals = list(blocks)
    device = next(model.parameters()).device
    step = max(1, (tokens_per_step or TOKENS_PER_STEP.get(device.type, 4096)) // seq_len)
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
                states = _allocate(shape, inputs.dtype, device, budget_bytes)
                hidden = HiddenStates(states, step, device)
            hidden.states[start : start + step].copy_(inputs, non_blocking=True)
            if len(inputs) not in hidden.arguments:
                hidden.arguments[len(inputs)] = [r.keyword_arguments for r in recorders]
    finally:
        for index, block in enumerate(originals):
            blocks[index] = block
    assert hidden is not None
    return hidden


def _collect(
    hidden: HiddenStates,
    block: nn.Module,
    index: int,
    watched: Sequence[tuple[str, Statistic]],
    clock: StageClock,
    advance: bool = False,
) -> None:
    """Run the block over all inputs, feeding each watched linear's input to its statistic.

    ``advance`` overwrites the hidden states by the block's outputs on the way.
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


def replace(root: nn.Module, path: str, module: nn.Module) -> None:
    """Put ``module`` at ``path`` under ``root``, leaving the module that was there untouched."""
    parent, _, child = path.rpartition(".")
    setattr(root.get_submodule(parent), child, module)


def group_linears(block: nn.Module, group: InputGroup, where: str) -> dict[str, nn.Linear]:
    """Return a group's linears by path in the block that the model has at ``where``."""
    linears: dict[str, nn.Linear] = {}
    for path in group.linears:
        module = block.get_submodule(path)
        if not isinstance(module, nn.Linear):
            raise UsageError(
                f"{where}.{path} is a {type(module).__name__}, not a linear layer",
                fix="quantize a freshly leased, unquantized model",
            )
        linears[path] = module
    return linears


def check_batch(batch: Tensor) -> None:
    """Raise a usage error unless ``batch`` is a non-empty int64 tensor [n_samples, seq_len]."""
    if batch.dim() != 2 or batch.dtype != torch.int64 or batch.numel() == 0:
        raise UsageError(
            f"a calibration batch is int64 [n_samples, seq_len], not {batch.dtype} "
            f"{list(batch.shape)}",
            "layer-by-layer walk",
        )


@dataclass
class Visit:
    """One block as the walk stands at it, for a method that replaces its linears by itself.

    ``states`` are the block's inputs until ``collect`` advances them; ``groups`` are the block's
    input groups in the order in which it runs them.
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

    def collect(self, watched: Sequence[tuple[str, Statistic]], *, advance: bool = False) -> None:
        """Run the block as it is, feeding each watched linear's inputs to its statistic.

        ``watched`` are (path in the block, statistic) in the order in which the block runs them.
        ``advance`` makes the next block's inputs of this same forward: they come from the block as
        it is now, not from the one that the method is about to make of it.
        """
        with using_kernel(self.block, "held"):
            _collect(self.hidden, self.block, self.index, watched, self.clock, advance)
        self.advanced = self.advanced or advance


@torch.no_grad()
def walk_blocks(
    model: nn.Module,
    batch: Tensor,
    visit: Callable[[Visit], None],
    *,
    tokens_per_step: int | None = None,
    budget_bytes: int | None = None,
    progress: Progress | None = None,
    architecture: Architecture | None = None,
) -> dict[str, float]:
    """Take calibration data through the model, calling ``visit`` at each block; seconds by stage.

    ``batch`` is int64 [n_samples, seq_len] without padding. The next block's inputs come from the
    block as ``visit`` leaves it, unless it advanced them itself. ``tokens_per_step`` bounds a
    micro-batch, ``budget_bytes`` the hidden states that may stay on a CUDA device; ``architecture``
    says where the linears are in a model whose modules were moved. Tensors of the given model are
    only read.
    """
    check_batch(batch)
    architecture = architecture or architecture_of(model)
    was_training = model.training
    model.eval()
    clock = StageClock(next(model.parameters()).device)
    try:
        with clock.measure("embeddings"):
            hidden = capture(
                model,
                architecture,
                batch,
                tokens_per_step=tokens_per_step,
                budget_bytes=budget_bytes,
            )
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
    method: Method,
    *,
    true_sequential: bool = False,
    tokens_per_step: int | None = None,
    budget_bytes: int | None = None,
    progress: Progress | None = None,
    architecture: Architecture | None = None,
) -> dict[str, float]:
    """Quantize every block's linears in place on the module tree; returns seconds by stage.

    ``true_sequential`` collects each input group's statistics after the earlier groups of its block
    have been quantized, at one more forward per group. The rest is as in ``walk_blocks``.
    """

    def visit(here: Visit) -> None:
        groups = here.groups
        for together in [[group] for group in groups] if true_sequential else [list(groups)]:
            _one_pass(here, together, method)

    return walk_blocks(
        model,
        batch,
        visit,
        tokens_per_step=tokens_per_step,
        budget_bytes=budget_bytes,
        progress=progress,
        architecture=architecture,
    )


def _one_pass(here: Visit, groups: list[InputGroup], method: Method) -> None:
    linears = {group.name: here.linears(group) for group in groups}
    statistics = {g.name: method.statistic(here.name, g, linears[g.name]) for g in groups}
    here.collect([(group.linears[0], statistics[group.name]) for group in groups])
    for group in groups:
        with here.clock.measure("method"):
            replaced = method.quantize(
                here.name, group, linears[group.name], statistics.pop(group.name)
            )
        for path, module in replaced.items():
            replace(here.block, path, module)


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
