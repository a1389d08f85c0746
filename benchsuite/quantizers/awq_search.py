"""What AWQ searches: the exponent of a group's scales, and the clipping ranges of its weights."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.walking.hessian import weighted_norm

EXPONENTS = tuple(i / 20 for i in range(20))
CLIP_GRID = 20
CLIP_MAX_SHRINK = 0.5

Call = tuple[tuple[Any, ...], dict[str, Any]]

OutputError = Callable[[Mapping[str, Tensor]], Tensor]
"""The squared error, a scalar, that other weights (float32, by path) leave at a group's output."""


@dataclass(frozen=True)
class Heard:
    """What one lane called in its block, on its device: the modules that hold input groups."""

    block: nn.Module
    device: torch.device
    calls: Mapping[str, list[Call]]


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
    lanes: Sequence[Heard], parent: str, linears: Mapping[str, nn.Linear]
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
