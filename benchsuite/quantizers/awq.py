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

from collections.abc import Callable, Iterator, Mapping
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
from benchsuite.quantizers.finite import refuse_infinite_inputs
from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.hessian import Hessian, error_norms, weighted_norm
from benchsuite.quantizers.hidden_states import CHOSEN_BY_DEVICE, WorkingMemory
from benchsuite.quantizers.layers import Progress, divide_norm, replace
from benchsuite.quantizers.linear import quantized_linear
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
    block: nn.Module, parent: str, linears: Mapping[str, nn.Linear], calls: list[Call]
) -> OutputError:
    """Measure candidates by running the module that holds them on what it was called with."""
    module = block.get_submodule(parent)
    goals = [_first(module(*args, **kwargs)).float() for args, kwargs in calls]

    def error(tried: Mapping[str, Tensor]) -> Tensor:
        weights = {
            f"{path[len(parent) + 1 :]}.weight": tried[path].to(linear.weight.dtype)
            for path, linear in linears.items()
        }
        total = torch.zeros((), device=goals[0].device)
        for (args, kwargs), goal in zip(calls, goals, strict=True):
            got = _first(functional_call(module, weights, args, kwargs))
            total += (got.float() - goal).square_().sum()
        return total

    return error


def _first(outputs: Any) -> Tensor:
    return outputs[0] if isinstance(outputs, tuple) else outputs


def best_exponent(
    mean_size: Tensor, linears: Mapping[str, nn.Linear], grid: QuantizationGrid, error: OutputError
) -> tuple[int, list[float]]:
    """Return the index in ``EXPONENTS`` of the least error, and the errors of them all."""
    found = []
    for exponent in EXPONENTS:
        scales = channel_scales(mean_size, exponent)
        found.append(error({p: candidate(m.weight, scales, grid) for p, m in linears.items()}))
    errors = torch.stack(found).nan_to_num(float("inf"), float("inf")).tolist()
    return min(range(len(errors)), key=errors.__getitem__), errors


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
        with _recorded(here) as calls:
            inputs = here.collect(fresh, advance=True)
        hessians = {name: statistic.hessian.mean() for name, statistic in inputs.items()}
        choices = {}
        for group in here.groups:
            with here.clock.measure("scales"):
                own = (linears[group.name], inputs[group.name], hessians[group.name])
                choices[group.name] = self._choose(here, group, *own, calls)
        del calls
        folded = {g.source: g for g in here.groups if g.source and choices[g.name].folded}
        for source, group in folded.items():
            if not isinstance(here.block.get_submodule(source), nn.Linear):
                choice = choices[group.name]
                scales = divide_norm(here.block, group, choice.scales)
                choices[group.name] = Choice(scales, True, choice.details)
        for group in here.groups:
            choice = choices[group.name]
            tokens = inputs.pop(group.name).tokens() / choice.scales
            hessian = hessians.pop(group.name)
            for path, linear in linears[group.name].items():
                rows = None
                if path in folded:
                    rows = _rows(choices[folded[path].name].scales, folded[path].source_parts)
                self._replace(here, path, linear, choice, rows, tokens, hessian)

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

    def _choose(
        self,
        here: Visit,
        group: InputGroup,
        linears: Mapping[str, nn.Linear],
        inputs: Inputs,
        hessian: Tensor,
        calls: Mapping[str, list[Call]],
    ) -> Choice:
        """Search the scales of a group, on the block's original weights."""
        mean_size = inputs.mean_size()
        refuse_infinite_inputs(mean_size, f"{here.name}.{group.name}")
        if not self._can_fold(here, group, linears):
            return Choice(torch.ones_like(mean_size), False, {})
        if group.module is None:
            error = linear_error(linears, hessian)
        else:
            error = module_error(here.block, group.module, linears, calls[group.module])
        best, errors = best_exponent(mean_size, linears, self.grid, error)
        if errors[best] == float("inf"):
            raise BenchsuiteError(
                "no scaling leaves a finite output error",
                f"{here.name}.{group.name}",
                "the model's activations overflow on this calibration data: load it in bfloat16 or "
                "float32",
            )
        details = {"exponent": EXPONENTS[best], "search_gain": errors[best] / max(errors[0], 1e-30)}
        return Choice(channel_scales(mean_size, EXPONENTS[best]), True, details)

    def _replace(
        self,
        here: Visit,
        path: str,
        linear: nn.Linear,
        choice: Choice,
        rows: Tensor | None,
        tokens: Tensor,
        hessian: Tensor,
    ) -> None:
        """Scale, clip and round one linear; ``rows`` [out] are divided by what its readers took."""
        original, bias = linear.weight.float(), linear.bias
        weight: Tensor = original * choice.scales
        if rows is not None:
            weight /= rows[:, None]
            bias = None if bias is None else nn.Parameter((bias.float() / rows).to(bias.dtype))
        details: dict[str, Tensor | float] = dict(choice.details)
        if self.clip and path.rpartition(".")[2] not in NOT_CLIPPED:
            with here.clock.measure("clip"):
                weight, share = best_clip(weight, tokens, self.grid)
                details["clipped_groups"] = (share < 1).float().mean()
        with here.clock.measure("pack"):
            parts = self.grid.round_weight(weight)
            packed = quantized_linear(linear, self.grid, *parts, bias=bias)
            replace(here.block, path, packed)
        with here.clock.measure("error"):
            effective = packed.dequantize(torch.float32) / choice.scales
            if rows is not None:
                effective *= rows[:, None]
            norms = error_norms(original, effective, hessian)
        self.account.add(f"{here.name}.{path}", norms=norms, details=details)


@contextmanager
def _recorded(here: Visit) -> Iterator[dict[str, list[Call]]]:
    """Record the calls of the modules that contain the block's input groups, by path."""
    parents = {group.module for group in here.groups if group.module is not None}
    calls: dict[str, list[Call]] = {parent: [] for parent in parents}
    handles = [
        here.block.get_submodule(parent).register_forward_pre_hook(
            lambda module, args, kwargs, heard=heard: heard.append((args, kwargs)),
            with_kwargs=True,
        )
        for parent, heard in calls.items()
    ]
    try:
        yield calls
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
