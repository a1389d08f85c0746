"""Round to nearest: the data-free baseline of every weight-only method.

Each group of weights gets the grid that covers its range (or, with ``mse``, the clipped grid of
least error) and every weight its nearest code. Nothing is random and nothing is calibrated.
"""

import time

import torch
from torch import nn

from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.layers import block_linears
from benchsuite.quantizers.linear import model_digest, quantized_linear, stored_bytes
from benchsuite.quantizers.result import LayerResult, QuantizationResult
from benchsuite.quantizers.walk import Progress, replace


@torch.no_grad()
def quantize(
    model: nn.Module,
    *,
    bits: int = 4,
    group_size: int = 128,
    sym: bool = True,
    mse: bool = False,
    progress: Progress | None = None,
) -> QuantizationResult:
    """Round every block linear of ``model`` to nearest, in place on its module tree."""
    grid = QuantizationGrid(bits, group_size, sym, mse)
    size_before = stored_bytes(model)
    began = time.perf_counter()
    layers = []
    for name, linear in block_linears(model, progress):
        started = time.perf_counter()
        replace(model, name, quantized_linear(linear, grid, *grid.round_weight(linear.weight)))
        layers.append(LayerResult(name, seconds=time.perf_counter() - started))
    return QuantizationResult(
        layers=layers,
        weights_sha256=model_digest(model),
        size_before_bytes=size_before,
        size_after_bytes=stored_bytes(model),
        stage_seconds={"method": time.perf_counter() - began},
    )
