"""Uniform integer grids: scales and zero points of a group, codes from weights and back.

The convention is AutoGPTQ's, whose checkpoints every engine reads: ``weight = scale * (code -
zero)`` with codes in [0, 2^bits - 1]. A symmetric grid has ``zero = 2^(bits-1)`` and
``scale = 2 max|w| / (2^bits - 1)``, so that the largest positive weight is clipped by at most half
a step while both signs share one step.
"""

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn import functional as F

from benchsuite.errors import UsageError

SMALLEST_HALF = 2.0**-24
"""The smallest positive float16: a stored scale is never rounded to zero."""


@dataclass(frozen=True)
class QuantizationGrid:
    """How one group of weights becomes integers.

    ``group_size`` counts consecutive input columns that share a scale; -1 means the whole row.
    ``mse`` searches the clipping range that minimises the error's 2.4-norm over ``1 - i/100`` for
    i < 80 (GPTQ's reference: grid 100, maxshrink .8) instead of covering the range. ``scale_dtype``
    is the dtype in which scales are stored: they are rounded to it *before* codes are chosen, so
    that the codes are the best ones for the scale that inference will really use.
    """

    bits: int
    group_size: int = 128
    sym: bool = True
    mse: bool = False
    scale_dtype: torch.dtype = torch.float16

    SHRINK_STEPS = 80
    SHRINK_GRID = 100
    NORM = 2.4

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise UsageError(
                f"bits must be 2 to 8, not {self.bits}", "quantization grid", "bits=4 is usual"
            )
        if self.group_size != -1 and self.group_size < 1:
            raise UsageError(
                f"group_size must be positive, or -1 for whole rows, not {self.group_size}",
                "quantization grid",
                "group_size=128 is usual",
            )

    @property
    def max_code(self) -> int:
        """The largest code, 2^bits - 1."""
        return 2**self.bits - 1

    def columns_per_group(self, n_columns: int) -> int:
        """Return the number of columns that share a scale in a weight with ``n_columns`` inputs."""
        return n_columns if self.group_size == -1 else min(self.group_size, n_columns)

    def n_groups(self, n_columns: int) -> int:
        """Return the number of groups of a row; the last one may be narrower."""
        return -(-n_columns // self.columns_per_group(n_columns))

    def whole_groups(self, rows: Tensor) -> Tensor:
        """Return ``rows`` [n, columns] as [n, groups, width]; zeros make a narrower last one whole.

        A range always holds 0 and 0 has a code of its own, so the zeros change neither a group's
        parameters nor its error.
        """
        n_columns = rows.shape[1]
        width = self.columns_per_group(n_columns)
        return F.pad(rows, (0, -n_columns % width)).unflatten(1, (-1, width))

    def fit(self, weights: Tensor, dim: int = -1) -> tuple[Tensor, Tensor]:
        """Fit one scale and zero point to each slice of ``weights`` along ``dim``.

        Returns (scale, zero), both of the shape of ``weights`` without ``dim`` and of its dtype;
        zero holds integers. A slice of zeros gets the range [-1, 1].
        """
        low = weights.amin(dim).clamp_(max=0)
        high = weights.amax(dim).clamp_(min=0)
        if self.sym:
            high = torch.maximum(high, -low)
            low = -high
        empty = (low == 0) & (high == 0)
        low, high = low.masked_fill_(empty, -1), high.masked_fill_(empty, 1)
        scale, zero = self._parameters(low, high)
        if self.mse:
            return self._search(weights, dim, low, high)
        return scale, zero

    def _parameters(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        scale = ((high - low) / self.max_code).to(self.scale_dtype).to(low.dtype)
        scale.clamp_(min=SMALLEST_HALF)
        if self.sym:
            return scale, torch.full_like(scale, (self.max_code + 1) // 2)
        return scale, (-low / scale).round_().clamp_(0, self.max_code)

    def _search(
        self, weights: Tensor, dim: int, low: Tensor, high: Tensor
    ) -> tuple[Tensor, Tensor]:
        half = self.scale_dtype == torch.float16 and weights.dtype == torch.float32
        if half and weights.is_cuda and find_spec("triton"):
            shrunk = self.searched_by_kernel(weights, dim, low, high)
            return self._parameters(shrunk * low, shrunk * high)
        best_error = torch.full_like(low, float("inf"))
        best_scale, best_zero = torch.empty_like(low), torch.empty_like(low)
        for step in range(self.SHRINK_STEPS):
            shrink = 1 - step / self.SHRINK_GRID
            scale, zero = self._parameters(shrink * low, shrink * high)
            wide_scale, wide_zero = scale.unsqueeze(dim), zero.unsqueeze(dim)
            error = self.decode(self.encode(weights, wide_scale, wide_zero), wide_scale, wide_zero)
            total = error.sub_(weights).abs_().pow_(self.NORM).sum(dim)
            better = total < best_error
            best_error = torch.where(better, total, best_error)
            best_scale = torch.where(better, scale, best_scale)
            best_zero = torch.where(better, zero, best_zero)
        return best_scale, best_zero

    def searched_by_kernel(self, weights: Tensor, dim: int, low: Tensor, high: Tensor) -> Tensor:
        """Return what the range from ``low`` to ``high`` of each slice shrinks to, of their shape.

        All are float32 and on CUDA.
        """
        from benchsuite.quantizers import grid_kernel

        shrinks = _shrinks(weights.device)
        best = grid_kernel.best_range(
            weights.movedim(dim, -1).flatten(0, -2),
            low.flatten(),
            high.flatten(),
            shrinks,
            max_code=self.max_code,
            sym=self.sym,
            smallest=SMALLEST_HALF,
            norm=self.NORM,
        )
        return shrinks[best].view(low.shape)

    def encode(self, weights: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        """Return the nearest codes, shaped and typed as ``weights``; scale and zero broadcast."""
        return (weights / scale).round_().add_(zero).clamp_(0, self.max_code)

    def decode(self, codes: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        """Return the weights ``scale * (code - zero)``; scale and zero broadcast."""
        return (codes - zero) * scale

    def fit_groups(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Fit every group of ``weight`` [rows, columns]; returns (scale, zero), [rows, groups]."""
        width = self.columns_per_group(weight.shape[1])
        whole = weight.shape[1] - weight.shape[1] % width
        scale, zero = self.fit(weight[:, :whole].unflatten(1, (-1, width)))
        if whole < weight.shape[1]:
            last_scale, last_zero = self.fit(weight[:, whole:])
            scale = torch.cat((scale, last_scale[:, None]), 1)
            zero = torch.cat((zero, last_zero[:, None]), 1)
        return scale, zero

    def round_weight(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Round ``weight`` [rows, columns] to nearest, each group on the grid fitted to it.

        Returns (codes uint8 [rows, columns], scales, zeros [rows, groups]), the last two float32.
        """
        weight = weight.float()
        scales, zeros = self.fit_groups(weight)
        n_columns = weight.shape[1]
        codes = self.encode(weight, self.spread(scales, n_columns), self.spread(zeros, n_columns))
        return codes.to(torch.uint8), scales, zeros

    def spread(self, parameters: Tensor, n_columns: int) -> Tensor:
        """Repeat per-group parameters [rows, groups] for each column: [rows, n_columns]."""
        width = self.columns_per_group(n_columns)
        return parameters.repeat_interleave(width, 1)[:, :n_columns]


@cache
def _shrinks(device: torch.device) -> Tensor:
    """Return what `QuantizationGrid` tries to shrink a range to, float32 [80], on a device."""
    steps, of = QuantizationGrid.SHRINK_STEPS, QuantizationGrid.SHRINK_GRID
    return torch.tensor([1 - step / of for step in range(steps)], device=device)
