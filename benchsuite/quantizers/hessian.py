"""The Hessian of a layer's output error and the factor of its inverse that GPTQ consumes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from benchsuite.errors import BenchsuiteError
from benchsuite.quantizers.precision import half_products_summed_in_full, products_for_a_report

MAX_RETRIES = 8
INVERSION_BLOCK = 512


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

    def mean(self) -> Tensor:
        """Return H, [features, features], completing the sum in place: the accumulation ends."""
        self.total.mul_(2 / max(self.n_vectors, 1))
        return self.total.triu_().add_(self.total.triu(1).t())


def weighted_norm(rows: Tensor, hessian: Tensor) -> Tensor:
    """Return tr(R H R^T), a scalar, for R [rows, columns]."""
    with products_for_a_report(rows):
        return (rows @ hessian).mul_(rows).sum()


@dataclass(frozen=True)
class InverseFactor:
    """``upper`` is U with H_damped^-1 = U^T U; ``damp`` the share of the mean diagonal added."""

    upper: Tensor
    damp: float
    retries: int


def revive_dead(hessian: Tensor) -> tuple[Tensor, Tensor]:
    """Return (a copy of H with H_ii = 1 where an input never fired, the mask of those inputs)."""
    dead = hessian.diagonal() == 0
    revived = hessian.clone()
    revived.diagonal().masked_fill_(dead, 1)
    return revived, dead


def invert_upper(upper: Tensor) -> Tensor:
    """Return the inverse of an upper triangular matrix, by halves: most of it is two products.

    A triangular solve against the identity does not know that half of its result is zero.
    """
    n = len(upper)
    if n <= INVERSION_BLOCK:
        eye = torch.eye(n, dtype=upper.dtype, device=upper.device)
        return torch.linalg.solve_triangular(upper, eye, upper=True)
    half = n // 2
    first, last = invert_upper(upper[:half, :half]), invert_upper(upper[half:, half:])
    inverse = torch.zeros_like(upper)
    inverse[:half, :half], inverse[half:, half:] = first, last
    inverse[:half, half:] = (first @ upper[:half, half:]).neg_() @ last
    return inverse


def inverse_factor(hessian: Tensor, damp_percent: float, where: str) -> InverseFactor:
    """Factor the inverse of H + damp * mean(diag H) * I; a failed Cholesky raises damp tenfold.

    The upper Cholesky factor of the inverse is the inverse of the upper factor V of H = V V^T,
    which is the ordinary Cholesky factor of H with rows and columns reversed: one factorisation and
    one triangular solve, where inverting first would square the condition number.

    Raises BenchsuiteError when H holds non-finite numbers.
    """
    mean = hessian.diagonal().mean()
    if not torch.isfinite(hessian.sum()):
        raise BenchsuiteError(
            "the Hessian has infinite or missing entries",
            where,
            "the model's activations overflow on this calibration data: load it in bfloat16 or "
            "float32",
        )
    damp = damp_percent
    for retries in range(MAX_RETRIES + 1):
        damped = hessian.flip(0, 1)
        damped.diagonal().add_(damp * mean)
        lower, info = torch.linalg.cholesky_ex(damped)
        if not info.item():
            upper = invert_upper(lower.flip(0, 1))
            if torch.isfinite(upper.sum()):
                return InverseFactor(upper, damp, retries)
        damp = max(10 * damp, 1e-3)
    raise BenchsuiteError(
        f"no damping up to {damp:g} of the mean diagonal makes the Hessian positive definite",
        where,
        "check the calibration data: its inputs to this layer are constant or overflow",
    )
