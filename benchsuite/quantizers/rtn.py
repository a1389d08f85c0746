"""Round to nearest: the data-free baseline of every weight-only method.

Each group of weights gets the grid that covers its range (or, with ``mse``, the clipped grid of
least error) and every weight its nearest code. Nothing is random and nothing is calibrated.
"""

import torch
from torch import nn

from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.layers import Progress, block_linears, replace
from benchsuite.quantizers.linear import quantized_linear
from benchsuite.quantizers.result import Account, QuantizationResult


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
    account = Account(model)
    for name, linear in block_linears(model, progress):
        with account.timed(name):
            packed = quantized_linear(linear, grid, *grid.round_weight(linear.weight))
            replace(model, name, packed)
        account.add(name)
    return account.close()
