"""AWQ (Lin et al. 2023, arXiv 2306.00978): scale up the channels that matter, then round.

Where linears read a common input X, column j of their weights is multiplied by s_j and whatever
writes X is divided by it, which changes nothing but the rounding: important columns come out finer.

    s = mean|X|^r,  r in {0, 1/20, .., 19/20},  s = max(s, 1e-4) / sqrt(max(s) min(s))

r is the one whose rounded weights Q(W s) s^-1 leave the least squared error at the output of the
group's own module: the attention for q, k and v, the MLP for gate and up, the linear itself where
it is alone. 1/s goes into the norm before q/k/v and gate/up, the rows of v before o (if shapes are
equal) and the rows of up before down. Then each group of weights but those of q and k is clipped to
the share 1 - i/20, i < 10, of its largest weight that least disturbs the outputs of 512 tokens.
Asymmetric grid, groups of 128; 128 x 512 calibration tokens are usual.

As in the authors' code, all of a block is searched on its original weights and the next block is
calibrated on original outputs. Two errors are not measured by running the data 20 and 10 times but
by an equal sum: sum ||E x||^2 = tr(E (sum x x^T) E^T) for a linear's error E, and likewise inside
a clipping group. Nothing is random.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchsuite.errors import BenchsuiteError
from benchsuite.models.architecture import InputGroup
from benchsuite.models.replicas import Reading
from benchsuite.quantizers.finite import infinite_inputs
from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.hessian import Hessian, error_norms, weighted_norm
from benchsuite.quantizers.hidden_states import CHOSEN_BY_DEVICE, WorkingMemory
from benchsuite.quantizers.layers import Progress, divide_norm, replace
from benchsuite.quantizers.linear import QuantizedLinear, quantized_linear
from benchsuite.quantizers.result import Account, QuantizationResult
from benchsuite.quantizers.visit import Visit
from benchsuite.quantizers.walk import walk_blocks

EXPONENTS = tuple(i / 20 for i in range(20))
CLIP_GRID = 20
CLIP_MAX_SHRINK = 0.5
CLIP_TOKENS = 512
NOT_CLIPPED = ("q_proj", "k_proj", "qkv_proj")
"""Their outputs multiply each other, so that an error of one alone says little (authors' code)."""

Call = tuple[tuple[Any, ...], dict[str, Any]]

OutputError = Callable[[Mapping[str, Tensor]], Tensor]
"""The squared error, a scalar, that other weights (float32, by path) leave at a group's output."""


class Inputs:
    """What AWQ wants to know of a group's inputs: mean |x|, H, and evenly spaced tokens."""

    def __init__(self, n_features: int, device: torch.device, n_tokens: int) -> None:
        self.hessian = Hessian(n_features, device)
        self._size = torch.zeros(n_features, device=device)
        self._stride = max(1, n_tokens // CLIP_TOKENS)
        self._tokens: list[Tensor] = []

    def update(self, inputs: Tensor) -> None:
        """Take in inputs [tokens, features]."""
        start = -self.hessian.n_vectors % self._stride
        self._tokens.append(inputs[start :: self._stride].to(torch.float32, copy=True))
        self._size += inputs.abs().sum(0, dtype=torch.float32)
        self.hessian.update(inputs)

    def merge(self, later: "Inputs") -> None:
        """Take in what another one was given of later tokens, on whatever device."""
        self._size += later._size.to(self._size.device)
        self._tokens += [tokens.to(self._size.device) for tokens in later._tokens]
        self.hessian.merge(later.hessian)

    def to(self, device: torch.device) -> "Inputs":
        """Return the same on another device."""
        moved = copy(self)
        moved.hessian, moved._size = self.hessian.to(device), self._size.to(device)
        moved._tokens = [tokens.to(device) for tokens in self._tokens]
        return moved

    def mean_size(self) -> Tensor:
        """Return mean |x| by channel, float32 [features]."""
        return self._size / self.hessian.n_vectors

    def tokens(self) -> Tensor:
        """Return the kept inputs, float32 [about 512, features]."""
        return torch.cat(self._tokens)


def channel_scales(mean_size: Tensor, exponent: float) -> Tensor:
    """Return s [features] for one exponent: centred so that its extremes multiply to 1."""
    scales = mean_size.pow(exponent).clamp(min=1e-4)
    return scales / (scales.max() * scales.min()).sqrt()


def rounded(weight: Tensor, grid: QuantizationGrid) -> Tensor:
    """Return ``weight`` [out, in] rounded to nearest on its own grid, dequantized, float32.

    Scales broadcast over a group instead of being spread over columns.
    """
    groups = grid.whole_groups(weight.float())
    scale, zero = (parameter.unsqueeze(-1) for parameter in grid.fit(groups))
    return grid.decode(grid.encode(groups, scale, zero), scale, zero).flatten(1)[
        :, : weight.shape[1]
    ]


def candidate(weight: Tensor, scales: Tensor, grid: QuantizationGrid) -> Tensor:
    """Return Q(W s) s^-1, float32 [out, in]."""
    return rounded(weight.float() * scales, grid).div_(scales)


def linear_error(linears: Mapping[str, nn.Linear], hessian: Tensor) -> OutputError:
    """Measure candidates for the one linear of a group by its Hessian [in, in]."""
    ((path, linear),) = linears.items()
    return lambda tried: weighted_norm(tried[path] - linear.weight, hessian)


def module_error(
    lanes: Sequence["Heard"], parent: str, linears: Mapping[str, nn.Linear]
) -> OutputError:
    """Measure candidates by running the module that holds them on what it was called with.

    Each lane runs on its own device, and their errors are added up in the order of ``lanes``.
    """
    modules = [heard.block.get_submodule(parent) for heard in lanes]
    goals = [
        [_first(module(*args, **kwargs)).float() for args, kwargs in heard.calls[parent]]
        for module, heard in zip(modules, lanes, strict=True)
    ]
    dtype, device = next((m.weight.dtype, m.weight.device) for m in linears.values())

    def error(tried: Mapping[str, Tensor]) -> Tensor:
        weights = {f"{p[len(parent) + 1 :]}.weight": w.to(dtype) for p, w in tried.items()}
        there: dict[torch.device, dict[str, Tensor]] = {}
        totals = []
        for module, heard, of_lane in zip(modules, lanes, goals, strict=True):
            total = torch.zeros((), device=heard.device)
            if heard.device not in there:
                there[heard.device] = {p: w.to(heard.device) for p, w in weights.items()}
            for (args, kwargs), goal in zip(heard.calls[parent], of_lane, strict=True):
                got = _first(functional_call(module, there[heard.device], args, kwargs))
                total += (got.float() - goal).square_().sum()
            totals.append(total)
        return torch.stack([total.to(device) for total in totals]).cumsum(0)[-1]

    return error


def _first(outputs: Any) -> Tensor:
    return outputs[0] if isinstance(outputs, tuple) else outputs


def exponent_errors(
    mean_size: Tensor, linears: Mapping[str, nn.Linear], grid: QuantizationGrid, error: OutputError
) -> Tensor:
    """Return the errors [20] that ``EXPONENTS`` leave; infinite where they are no numbers."""
    found = []
    for exponent in EXPONENTS:
        scales = channel_scales(mean_size, exponent)
        found.append(error({p: candidate(m.weight, scales, grid) for p, m in linears.items()}))
    return torch.stack(found).nan_to_num(float("inf"), float("inf"))


def best_clip(weight: Tensor, tokens: Tensor, grid: QuantizationGrid) -> tuple[Tensor, Tensor]:
    """Search each group's clipping range for ``weight`` [out, in] on ``tokens`` [n, in].

    Returns (the clipped weight, the share of its largest weight that each group keeps
    [out, groups]). The error of a group is that of its own part of the output, as if the others
    were exact: e^T (sum x x^T) e with its columns of x alone.
    """
    groups, parts = grid.whole_groups(weight), grid.whole_groups(tokens).transpose(0, 1)
    moments = parts.transpose(1, 2) @ parts
    largest = groups.abs().amax(-1, keepdim=True)
    least = torch.full(groups.shape[:2], float("inf"), device=weight.device)
    share = torch.ones_like(least)
    for step in range(int(CLIP_MAX_SHRINK * CLIP_GRID)):
        keep = 1 - step / CLIP_GRID
        clipped = torch.minimum(torch.maximum(groups, -keep * largest), keep * largest)
        scale, zero = (p.unsqueeze(-1) for p in grid.fit(clipped))
        error = grid.decode(grid.encode(clipped, scale, zero), scale, zero).sub_(groups)
        by_group = error.transpose(0, 1)
        total = (by_group @ moments).mul_(by_group).sum(-1).t()
        better = total < least
        least = torch.where(better, total, least)
        share = share.masked_fill(better, keep)
    limit = share.unsqueeze(-1) * largest
    clipped = torch.minimum(torch.maximum(groups, -limit), limit).flatten(1)
    return clipped[:, : weight.shape[1]], share


@dataclass(frozen=True)
class Choice:
    """A group's scales [features], whether its source divides by them (else they are 1), and how
    they were found."""

    group: InputGroup
    scales: Tensor
    folded: bool
    details: Mapping[str, float]


class AwqBlocks:
    """AWQ as the walk drives it, block by block; adds one line per linear to the account."""

    def __init__(
        self, account: Account, model: nn.Module, n_tokens: int, grid: QuantizationGrid, clip: bool
    ) -> None:
        self.account, self.grid, self.clip, self._n_tokens = account, grid, clip, n_tokens
        config: Any = model.config
        # A positive factor passes a ReLU; no other activation of an ungated MLP lets it through.
        self._relu = getattr(config, "activation_function", "relu") == "relu"

    def visit(self, here: Visit) -> None:
        """Quantize one block: listen to it, choose all scales, fold them, round its linears."""
        linears = {group.name: here.linears(group) for group in here.groups}
        fresh = {}
        for group in here.groups:
            n_features = linears[group.name][group.linears[0]].in_features
            fresh[group.name] = partial(Inputs, n_features, n_tokens=self._n_tokens)
        lanes: dict[int, Heard] = {}
        inputs = here.collect(fresh, advance=True, around=partial(_recorded, here, lanes))
        heard = [lanes[number] for number in sorted(lanes)]
        hessians = {name: statistic.hessian.mean() for name, statistic in inputs.items()}
        searches = []
        for group in here.groups:
            own = (linears[group.name], inputs[group.name], hessians[group.name])
            searches.append(self._search(here, group, *own, heard))
        choices = {choice.group.name: choice for choice in (search() for search in searches)}
        del heard, lanes, searches
        folded = {c.group.source: c for c in choices.values() if c.group.source and c.folded}
        for source, choice in folded.items():
            if not isinstance(here.block.get_submodule(source), nn.Linear):
                scales = divide_norm(
                    here.block, choice.group, choice.scales.to(here.devices[0])
                ).to(choice.scales.device)
                choices[choice.group.name] = dataclasses.replace(choice, scales=scales)
        made = []
        for group in here.groups:
            choice = choices[group.name]
            tokens = inputs.pop(group.name).tokens() / choice.scales
            hessian = hessians.pop(group.name)
            for path, linear in linears[group.name].items():
                rows = None
                if path in folded:
                    reader = choices[folded[path].group.name]
                    rows = _rows(reader.scales.to(hessian.device), reader.group.source_parts)
                packed = self._rounded(here, path, linear, choice, rows, tokens, hessian)
                made.append((group, path, packed))
        for group, path, packed in made:
            replace(here.block, path, here.brought_home(group, packed))

    def _can_fold(self, here: Visit, group: InputGroup, linears: Mapping[str, nn.Linear]) -> bool:
        """Tell whether what writes the group's input can be divided by the scales."""
        if group.source is None:
            return False
        source = here.block.get_submodule(group.source)
        if not isinstance(source, nn.Linear):
            return True
        parts = group.source_parts
        ungated = parts == 1 and any(g.linears == (group.source,) for g in here.groups)
        same_width = source.out_features == parts * linears[group.linears[0]].in_features
        return same_width and (self._relu or not ungated)

    def _search(
        self,
        here: Visit,
        group: InputGroup,
        linears: Mapping[str, nn.Linear],
        inputs: Inputs,
        hessian: Tensor,
        heard: Sequence["Heard"],
    ) -> Callable[[], "Choice"]:
        """Start the search of a group's scales, on the block's original weights.

        What is returned waits for it, so that all groups' searches are started before.
        """
        where, mean_size = f"{here.name}.{group.name}", inputs.mean_size()
        foldable = self._can_fold(here, group, linears)
        errors = torch.zeros(len(EXPONENTS), device=mean_size.device)
        with here.clock.measure("scales", here.device_of(group)):
            if foldable and group.module is None:
                errors = exponent_errors(
                    mean_size, linears, self.grid, linear_error(linears, hessian)
                )
            elif foldable and group.module is not None:
                error = module_error(heard, group.module, linears)
                errors = exponent_errors(mean_size, linears, self.grid, error)
        told = Reading(torch.cat([mean_size.sum(dtype=torch.float64)[None], errors.double()]))

        def choose() -> Choice:
            size, *found = told.get()
            if not math.isfinite(size):
                raise infinite_inputs(where)
            if not foldable:
                return Choice(group, torch.ones_like(mean_size), False, {})
            best = min(range(len(found)), key=found.__getitem__)
            if found[best] == float("inf"):
                raise BenchsuiteError(
                    "no scaling leaves a finite output error",
                    where,
                    "the model's activations overflow on this calibration data: load it in "
                    "bfloat16 or float32",
                )
            details = {
                "exponent": EXPONENTS[best],
                "search_gain": found[best] / max(found[0], 1e-30),
            }
            return Choice(group, channel_scales(mean_size, EXPONENTS[best]), True, details)

        return choose

    def _rounded(
        self,
        here: Visit,
        path: str,
        linear: nn.Linear,
        choice: Choice,
        rows: Tensor | None,
        tokens: Tensor,
        hessian: Tensor,
    ) -> QuantizedLinear:
        """Scale, clip and round one linear; ``rows`` [out] are divided by what its readers took."""
        device = hessian.device
        original, bias = linear.weight.float(), linear.bias
        weight: Tensor = original * choice.scales
        if rows is not None:
            weight /= rows[:, None]
            bias = None if bias is None else nn.Parameter((bias.float() / rows).to(bias.dtype))
        details: dict[str, Tensor | float] = dict(choice.details)
        if self.clip and path.rpartition(".")[2] not in NOT_CLIPPED:
            with here.clock.measure("clip", device):
                weight, share = best_clip(weight, tokens, self.grid)
                details["clipped_groups"] = (share < 1).float().mean()
        with here.clock.measure("pack", device):
            parts = self.grid.round_weight(weight)
            packed = quantized_linear(linear, self.grid, *parts, bias=bias)
        with here.clock.measure("error", device):
            effective = packed.dequantize(torch.float32) / choice.scales
            if rows is not None:
                effective *= rows[:, None]
            norms = error_norms(original, effective, hessian)
        self.account.add(f"{here.name}.{path}", norms=norms, details=details)
        return packed


@dataclass(frozen=True)
class Heard:
    """What one lane called in its block, on its device: the modules that hold input groups."""

    block: nn.Module
    device: torch.device
    calls: Mapping[str, list[Call]]


@contextmanager
def _recorded(
    here: Visit, lanes: dict[int, Heard], number: int, block: nn.Module
) -> Iterator[None]:
    """Record the calls of the modules that contain the block's input groups, for one lane."""
    parents = {group.module for group in here.groups if group.module is not None}
    calls: dict[str, list[Call]] = {parent: [] for parent in parents}
    lanes[number] = Heard(block, here.lanes[number].device, calls)
    handles = [
        block.get_submodule(parent).register_forward_pre_hook(
            lambda module, args, kwargs, heard=heard: heard.append((args, kwargs)),
            with_kwargs=True,
        )
        for parent, heard in calls.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _rows(scales: Tensor, parts: int) -> Tensor:
    """Return what the rows [parts x n] of a source are divided by: the last part by scales [n]."""
    return torch.cat([*[torch.ones_like(scales)] * (parts - 1), scales])


@torch.no_grad()
def quantize(
    model: nn.Module,
    batch: Tensor,
    *,
    bits: int = 4,
    group_size: int = 128,
    sym: bool = False,
    clip: bool = True,
    scale_dtype: torch.dtype = torch.float16,
    memory: WorkingMemory = CHOSEN_BY_DEVICE,
    progress: Progress | None = None,
) -> QuantizationResult:
    """Quantize every block linear of ``model`` with AWQ, in place on its module tree.

    ``batch`` is the calibration data, int64 [n_samples, seq_len]. ``clip`` searches clipping
    ranges. Norms (and biases of rescaled linears) are replaced by rescaled copies. Each layer's
    ``details`` hold the ``exponent`` r, the ``search_gain`` (output error at r over that at 0) and
    the share of ``clipped_groups``; its error is that of the scaled and rescaled weight.
    """
    grid = QuantizationGrid(bits, group_size, sym, scale_dtype=scale_dtype)
    account = Account(model)
    method = AwqBlocks(account, model, batch.numel(), grid, clip)
    return account.close(walk_blocks(model, batch, method.visit, memory=memory, progress=progress))
