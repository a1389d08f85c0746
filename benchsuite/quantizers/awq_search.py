"""What AWQ searches: the exponent of a group's scales, and the clipping ranges of its weights."""

from collections.abc import Mapping, Sequence
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


def linear_errors(
    linear: nn.Linear, hessian: Tensor, mean_size: Tensor, grid: QuantizationGrid
) -> Tensor:
    """Return the errors [20] that ``EXPONENTS`` leave at a linear's output, by H [in, in].

    They are sums of squares, infinite where they are no numbers.
    """
    found = []
    for exponent in EXPONENTS:
        tried = candidate(linear.weight, channel_scales(mean_size, exponent), grid)
        found.append(weighted_norm(tried - linear.weight, hessian))
    return _numbers(found)


def module_errors(
    lanes: Sequence[Heard],
    parent: str,
    paths: Sequence[str],
    mean_size: Tensor,
    grid: QuantizationGrid,
) -> Tensor:
    """Return the errors [20] that ``EXPONENTS`` leave at the output of the linears' module.

    As `linear_errors`, by running ``parent`` on what it was called with. Each lane runs on its own
    device, with weights that the device rounds itself, so that none waits for another before the
    end. Then the lanes' errors are added up in the order of ``lanes``.
    """
    goals = [
        [_first(heard.block.get_submodule(parent)(*a, **k)).float() for a, k in heard.calls[parent]]
        for heard in lanes
    ]
    own = {heard.device: (heard.block, mean_size.to(heard.device)) for heard in lanes}
    of_lanes: list[list[Tensor]] = [[] for _ in lanes]
    for exponent in EXPONENTS:
        tried = {
            device: {
                f"{path[len(parent) + 1 :]}.weight": _candidate_of(
                    block.get_submodule(path), channel_scales(size, exponent), grid
                )
                for path in paths
            }
            for device, (block, size) in own.items()
        }
        for found, heard, goal in zip(of_lanes, lanes, goals, strict=True):
            found.append(_output_error(heard, parent, tried[heard.device], goal))
    by_exponent = torch.stack([torch.stack(found).to(mean_size.device) for found in of_lanes], 1)
    return _numbers([errors.cumsum(0)[-1] for errors in by_exponent])


def _candidate_of(linear: nn.Module, scales: Tensor, grid: QuantizationGrid) -> Tensor:
    weight: Any = linear.weight
    return candidate(weight, scales, grid).to(weight.dtype)


def _output_error(
    heard: Heard, parent: str, weights: dict[str, Tensor], goals: Sequence[Tensor]
) -> Tensor:
    module, total = heard.block.get_submodule(parent), torch.zeros((), device=heard.device)
    for (args, kwargs), goal in zip(heard.calls[parent], goals, strict=True):
        got = _first(functional_call(module, weights, args, kwargs))
        total += (got.float() - goal).square_().sum()
    return total


def _numbers(errors: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(errors)).nan_to_num(float("inf"), float("inf"))


def _first(outputs: Any) -> Tensor:
    return outputs[0] if isinstance(outputs, tuple) else outputs


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
