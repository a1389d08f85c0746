"""The search for a clipping as a kernel against the plain one: as good to a millionth.

Needs a CUDA GPU, or Triton's interpreter: TRITON_INTERPRET=1 with the package triton installed.
"""

import os
from importlib.util import find_spec

import pytest
import torch

from benchsuite.quantizers.grid import QuantizationGrid

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1" and find_spec("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

pytestmark = pytest.mark.skipif(
    not (torch.cuda.is_available() or INTERPRETED), reason="needs a CUDA GPU or TRITON_INTERPRET=1"
)


def error(grid, weights, scale, zero):
    """The 2.4-norm's sum in float64 over the last dimension."""
    scale, zero = scale[..., None], zero[..., None]
    found = grid.decode(grid.encode(weights, scale, zero), scale, zero)
    return (found.double() - weights.double()).abs().pow(grid.NORM).sum(-1)


def by_kernel(grid, weights, dim):
    low, high = weights.amin(dim).clamp(max=0), weights.amax(dim).clamp(min=0)
    if grid.sym:
        high = torch.maximum(high, -low)
        low = -high
    empty = (low == 0) & (high == 0)
    low, high = low.masked_fill(empty, -1), high.masked_fill(empty, 1)
    shrink = grid.searched_by_kernel(weights, dim, low, high)
    return grid._parameters(shrink * low, shrink * high)


@pytest.mark.parametrize("sym", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("shape", "dim"), [((128, 37), 0), ((9, 3, 64), -1), ((5, 300), -1)])
def test_no_range_is_better_than_the_one_found(sym, bits, shape, dim):
    grid = QuantizationGrid(bits, sym=sym, mse=True)
    generator = torch.Generator().manual_seed(bits)
    weights = 0.02 * torch.randn(shape, generator=generator)
    weights *= torch.randint(-9, 3, (shape[-1],), generator=generator).float().exp2()
    weights.movedim(dim, -1)[0] = 0
    weights.movedim(dim, -1)[1, ..., 1:] = 0  # a number alone
    plain = grid.fit(weights, dim)
    found = [part.cpu() for part in by_kernel(grid, weights.to(DEVICE), dim)]
    slices = weights.movedim(dim, -1)
    least = error(grid, slices, *plain)
    assert (error(grid, slices, *found) <= least * (1 + 1e-5) + 1e-30).all()
    alike = (found[0] == plain[0]) & (found[1] == plain[1])
    assert alike.float().mean() > 0.95


def test_a_column_of_another_layout_has_the_same_range():
    grid, weights = QuantizationGrid(4, mse=True), torch.randn(64, 40)
    turned = by_kernel(grid, weights.to(DEVICE).t(), 1)
    for found, expected in zip(by_kernel(grid, weights.to(DEVICE), 0), turned, strict=True):
        assert torch.equal(found, expected)
