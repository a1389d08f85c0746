"""The Hessian of a layer's output error, and the errors that it measures."""

from copy import copy

import torch
from torch import Tensor

from benchsuite.quantizers.precision import half_products_summed_in_full, products_for_a_report


class Hessian:
    """H = (2/n) sum x x^T over the n input vectors seen, accumulated in float32 (or float64)."""

    def __init__(
        self, n_features: int, device: torch.device | str, dtype: torch.dtype = torch.float32
    ) -> None:
        # H is symmetric: only the blocks on and above the diagonal are summed.
        self.total = torch.zeros(n_features, n_features, dtype=dtype, device=device)
        self._width = max(256, -(-n_features // 4))
        self.n_vectors = 0

    def update(self, inputs: Tensor) -> None:
        """Add inputs [tokens, features]; products of half-precision inputs are summed in full."""
        self.n_vectors += len(inputs)
        half = inputs.dtype in (torch.float16, torch.bfloat16)
        on_tensor_cores = half and inputs.is_cuda and self.total.dtype == torch.float32
        with half_products_summed_in_full(inputs):
            if not on_tensor_cores:
                inputs = inputs.to(self.total.dtype)
            for start in range(0, len(self.total), self._width):
                part = slice(start, start + self._width)
                rows, columns, above = (
                    inputs[:, part].t(),
                    inputs[:, start:],
                    self.total[part, start:],
                )
                if on_tensor_cores:
                    above.add_(torch.mm(rows, columns, out_dtype=torch.float32))
                else:
                    above.addmm_(rows, columns)

    def merge(self, later: "Hessian") -> None:
        """Add what another one has summed up of further inputs, on whatever device."""
        self.n_vectors += later.n_vectors
        self.total.add_(later.total.to(self.total.device, non_blocking=True))

    def to(self, device: torch.device) -> "Hessian":
        """Return the same sums on another device."""
        moved = copy(self)
        moved.total = self.total.to(device, non_blocking=True)
        return moved

    def mean(self) -> Tensor:
        """Return H, [features, features], completing the sum in place: the accumulation ends."""
        self.total.mul_(2 / max(self.n_vectors, 1))
        return self.total.triu_().add_(self.total.triu(1).t())


def weighted_norm(rows: Tensor, hessian: Tensor) -> Tensor:
    """Return tr(R H R^T), a scalar, for R [rows, columns]."""
    with products_for_a_report(rows):
        return (rows @ hessian).mul_(rows).sum()


def error_norms(weight: Tensor, rounded: Tensor, hessian: Tensor) -> tuple[Tensor, Tensor]:
    """Return tr(E H E^T) with E = ``weight`` - ``rounded``, and tr(W H W^T): lost and had.

    Both are scalars; ``rounded`` has the dtype of ``hessian``, to which ``weight`` is brought.
    """
    weight = weight.detach().to(hessian.dtype)
    return weighted_norm(weight - rounded, hessian), weighted_norm(weight, hessian)
