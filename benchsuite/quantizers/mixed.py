"""GPTQ with a width for each layer: the same mean, and more bits where they count.

Three steps, each a file of its own:

1. `alone`: each linear by itself is rounded to nearest at each width, and the KL of the model's
   predictions from the original's is its cost. To nearest, because that needs no Hessian: rounding
   by GPTQ instead leads to choices as good (docs/quantizers.md has both).
2. `knapsack`: the widths whose costs sum to least, of those whose codes take no more than ``bits``
   a weight in the mean. Exact. That costs add up is the method's assumption.
3. `gptq` rounds the model at those widths.

All widths have the same groups, so scales take the same place as in a model of one width, and the
mean is true to the last bit. A mixture's experts share a width by projection. ``fused`` lets all
linears that read one input share it too, as engines need that run q, k and v, or gate and up, as
one. Each layer's `details` have ``bits`` and ``kl_alone``, the cost of its unit at that width.

Widths chosen by an integer program over measured costs are Hubara et al. 2020 (arXiv 2006.10518);
the cost that is measured here is a KL. No paper is followed to the letter.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from benchsuite.errors import UsageError
from benchsuite.models.architecture import Architecture, InputGroup, architecture_of
from benchsuite.quantizers.alone import kl_alone
from benchsuite.quantizers.gptq import GptqMethod, block_quantizer
from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.knapsack import cheapest
from benchsuite.quantizers.layers import Progress, refuse_infinite_linears
from benchsuite.quantizers.linear import quantized_linear, quantized_linears
from benchsuite.quantizers.result import Account, QuantizationResult
from benchsuite.quantizers.walking.clock import StageClock
from benchsuite.quantizers.walking.visit import Visit
from benchsuite.quantizers.walking.walk import Turns, check_batch, walk

WIDTHS = (2, 3, 4, 6, 8)
"""Of these compressed-tensors' packed format holds all, AutoGPTQ's all but 6."""

SENSITIVITY_TOKENS = 2048
"""Tokens of the calibration data that costs are told of."""

WORST = 1e6
"""The cost, in nats, of a rounding behind which the model overflows."""


def units(architecture: Architecture, name: str, *, fused: bool) -> dict[str, list[str]]:
    """Return the paths of the linears of a block that share a width, by the name of the unit.

    ``name`` is the block's path in the model.
    """
    found: dict[str, list[str]] = {}
    for group in architecture.groups:
        for path in group.linears:
            unit = group.name if fused else path
            unit = re.sub(r"\.experts\.\d+\.", ".experts.*.", unit)
            found.setdefault(f"{name}.{unit}", []).append(path)
    return found


def sensitivities(
    model: nn.Module,
    chunks: Tensor,
    grids: Sequence[QuantizationGrid],
    *,
    fused: bool = False,
    progress: Progress | None = None,
) -> dict[str, list[float]]:
    """Return of each unit the KL in nats where it alone is rounded to nearest on each grid.

    ``chunks`` int64 [n, seq_len] are the text that the KL is of.
    """
    architecture = architecture_of(model)

    def rounded(
        index: int, block: nn.Module
    ) -> Iterator[tuple[tuple[str, int], dict[str, nn.Module]]]:
        name = architecture.block_name(index)
        for unit, paths in units(architecture, name, fused=fused).items():
            linears = {path: block.get_submodule(path) for path in paths}
            for place, grid in enumerate(grids):
                yield (unit, place), {path: _to_nearest(one, grid) for path, one in linears.items()}

    costs = kl_alone(model, chunks, rounded, progress=progress)
    return {
        unit: [costs[unit, place] for place in range(len(grids))]
        for unit in dict.fromkeys(unit for unit, _ in costs)
    }


def _to_nearest(linear: Any, grid: QuantizationGrid) -> nn.Module:
    return quantized_linear(linear, grid, *grid.round_weight(linear.weight))


def choose(
    costs: Mapping[str, Sequence[float]],
    weights: Mapping[str, int],
    widths: Sequence[int],
    bits: float,
) -> dict[str, int]:
    """Return each unit's place in ``widths``: the least sum of costs at ``bits`` in the mean.

    ``weights`` counts those of each unit. Raises ``UsageError`` where ``bits`` is below all widths.
    """
    divisor = math.gcd(*weights.values())
    shares = [weights[unit] // divisor for unit in costs]
    sizes = [[width * share for width in widths] for share in shares]
    known = [[cost if math.isfinite(cost) else WORST for cost in row] for row in costs.values()]
    # By the number that was typed: 2.3 times 100 is below 230 in floating point.
    chosen = cheapest(sizes, known, math.floor(Fraction(str(bits)) * sum(shares)))
    if chosen is None:
        raise UsageError(
            f"a mean of {bits} bits is below the narrowest width, {min(widths)}",
            "mixed precision",
            f"ask for more, as in bits={min(widths) + 1}",
        )
    return dict(zip(costs, chosen, strict=True))


class _Known:
    """A Hessian that is completed once and asked for by the rounding of each width."""

    def __init__(self, hessian: Tensor) -> None:
        self._hessian = hessian

    def mean(self) -> Tensor:
        return self._hessian


class MixedMethod:
    """GPTQ as the walk drives it, with a `GptqMethod` for each width.

    ``bits`` has the width of every linear by its path in the model.
    """

    def __init__(self, methods: Mapping[int, GptqMethod], bits: Mapping[str, int]) -> None:
        self.methods, self.bits = methods, bits

    def statistic(self, here: Visit, group: InputGroup, device: torch.device) -> Any:
        """Return the Hessian that the group's linears share, whatever their widths."""
        return next(iter(self.methods.values())).statistic(here, group, device)

    def quantize(self, here: Visit, group: InputGroup, statistic: Any) -> Turns:
        """Quantize the group's linears, those of one width together."""
        alike: dict[int, list[str]] = {}
        for path in group.linears:
            alike.setdefault(self.bits[f"{here.name}.{path}"], []).append(path)
        known = _Known(statistic.mean())
        replaced: dict[str, nn.Module] = {}
        for width, paths in alike.items():
            part = dataclasses.replace(group, linears=tuple(paths))
            replaced |= yield from self.methods[width].quantize(here, part, known)
        return replaced


def mean_bits(model: nn.Module) -> float:
    """Return the stored bits of the model's quantized linears, scales included, over weights."""
    linears = quantized_linears(model).values()
    weights = sum(linear.in_features * linear.out_features for linear in linears)
    return 8 * sum(linear.packed_bytes for linear in linears) / weights


@torch.no_grad()
def quantize(
    model: nn.Module,
    batch: Tensor,
    *,
    bits: float = 4,
    widths: Sequence[int] = WIDTHS,
    group_size: int = 128,
    sym: bool = True,
    damp_percent: float = 0.01,
    fused: bool = False,
    sensitivity_tokens: int = SENSITIVITY_TOKENS,
    progress: Progress | None = None,
) -> QuantizationResult:
    """Quantize every block linear of ``model`` at a width of its own, in place on its module tree.

    ``batch`` is the calibration data, int64 [n_samples, seq_len], whose first
    ``sensitivity_tokens`` tell the costs. ``bits`` is the mean width of codes that is not exceeded,
    scales not counted. The result's ``recorded`` has ``layer_bits`` by path, and ``mean_bits`` with
    scales. The rest is as in `gptq.quantize`. Raises ``CellCannotRun`` for a streamed
    model, a usage error for a mean below all widths.
    """
    check_batch(batch)
    device, architecture = next(model.parameters()).device, architecture_of(model)
    account, clock = Account(model), StageClock(device)
    grids = [QuantizationGrid(width, group_size, sym) for width in widths]
    refuse_infinite_linears(architecture.named_blocks(model), architecture)
    paths, weights = _units_of(model, architecture, fused)
    chunks = batch[: max(1, sensitivity_tokens // batch.shape[1])]
    with clock.measure("sensitivity"):
        costs = sensitivities(model, chunks, grids, fused=fused, progress=progress)
        chosen = choose(costs, weights, widths, bits)
    loop = block_quantizer(device)
    methods = {
        grid.bits: GptqMethod(account, grid, damp_percent, desc_act=False, quantize_block=loop)
        for grid in grids
    }
    width_of = {path: widths[chosen[unit]] for unit, inside in paths.items() for path in inside}
    costs_of = {
        path: costs[unit][chosen[unit]] for unit, inside in paths.items() for path in inside
    }
    seconds = walk(model, batch, MixedMethod(methods, width_of), progress=progress)
    result = account.close(seconds | clock.seconds())
    layers = []
    for layer in result.layers:
        told = {"bits": float(width_of[layer.name]), "kl_alone": costs_of[layer.name]}
        layers.append(dataclasses.replace(layer, details={**layer.details, **told}))
    recorded = {"mean_bits": mean_bits(model), "layer_bits": width_of}
    return dataclasses.replace(result, layers=layers, recorded=recorded)


def _units_of(
    model: nn.Module, architecture: Architecture, fused: bool
) -> tuple[dict[str, list[str]], dict[str, int]]:
    """Return of each unit the paths of its linears in the model, and how many weights they have."""
    paths, weights = {}, {}
    for name, block in architecture.named_blocks(model):
        for unit, inside in units(architecture, name, fused=fused).items():
            linears: list[Any] = [block.get_submodule(path) for path in inside]
            paths[unit] = [f"{name}.{path}" for path in inside]
            weights[unit] = sum(one.in_features * one.out_features for one in linears)
    return paths, weights
