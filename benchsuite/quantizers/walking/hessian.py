"""The Hessian of a layer's output error, its factor, and the errors that it measures.

`Drift` has beside it what a layer needs to answer for errors of the layers before it.
"""

from copy import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from benchsuite.errors import BenchsuiteError
from benchsuite.models.replicas import Reading
from benchsuite.quantizers.walking.finite import infinite_inputs
from benchsuite.quantizers.walking.precision import (
    half_products_summed_in_full,
    products_for_a_report,
)

MAX_RETRIES = 8
INVERSION_BLOCK = 256


class Hessian:
    """H = (2/n) sum x x^T over the n input vectors seen, accumulated in float32 (or float64)."""

    def __init__(
        self, n_features: int, device: torch.device | str, dtype: torch.dtype = torch.float32
    ) -> None:
        # H is symmetric: only the blocks on and above the diagonal are summed. A GPU makes one
        # product of a thousand columns in the time in which its host starts four.
        self.total = torch.zeros(n_features, n_features, dtype=dtype, device=device)
        self._width = max(1024 if self.total.is_cuda else 256, -(-n_features // 4))
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
                _add_product(above, rows, columns, on_tensor_cores)

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


def _add_product(total: Tensor, left: Tensor, right: Tensor, on_tensor_cores: bool) -> None:
    if on_tensor_cores:
        total.add_(torch.mm(left, right, out_dtype=torch.float32))
    else:
        total.addmm_(left, right)


class Drift:
    """H of the inputs x~ that a quantized model has, and how they drift from the original's x.

    The drift is C = (2/n) sum (x - x~) x~^T, [features, features], in the dtype of H: with W x the
    outputs to keep, W (H + C) is what they have in common with the inputs that there are.
    """

    def __init__(
        self, n_features: int, device: torch.device | str, dtype: torch.dtype = torch.float32
    ) -> None:
        self.hessian = Hessian(n_features, device, dtype)
        self._total = torch.zeros(n_features, n_features, dtype=dtype, device=device)

    def update(self, inputs: Tensor, originals: Tensor) -> None:
        """Add inputs x~ [tokens, features] and the original model's x in their place.

        Half-precision numbers that are near each other have a difference that is half-precision
        too, so that nothing is lost where both are multiplied as such.
        """
        self.hessian.update(inputs)
        half = inputs.dtype in (torch.float16, torch.bfloat16)
        on_tensor_cores = half and inputs.is_cuda and self._total.dtype == torch.float32
        if not on_tensor_cores:
            inputs, originals = inputs.to(self._total.dtype), originals.to(self._total.dtype)
        with half_products_summed_in_full(inputs):
            _add_product(self._total, (originals - inputs).t(), inputs, on_tensor_cores)

    def merge(self, later: "Drift") -> None:
        """Add what another one has summed up of further inputs, on whatever device."""
        self.hessian.merge(later.hessian)
        self._total.add_(later._total.to(self._total.device, non_blocking=True))

    def to(self, device: torch.device) -> "Drift":
        """Return the same sums on another device."""
        moved = copy(self)
        moved.hessian = self.hessian.to(device)
        moved._total = self._total.to(device, non_blocking=True)
        return moved

    def mean(self) -> Tensor:
        """Return H, [features, features]; the accumulation ends."""
        self._total.mul_(2 / max(self.hessian.n_vectors, 1))
        return self.hessian.mean()

    def cross(self) -> Tensor:
        """Return C, [features, features], once H has been taken."""
        return self._total


def weighted_norm(rows: Tensor, hessian: Tensor) -> Tensor:
    """Return tr(R H R^T), a scalar, for R [rows, columns]."""
    with products_for_a_report(rows):
        return (rows @ hessian).mul_(rows).sum()


def error_norms(weight: Tensor, rounded: Tensor, hessian: Tensor) -> tuple[Tensor, Tensor]:
    """Return tr(E H E^T) with E = ``weight`` - ``rounded``, and tr(W H W^T): lost and had.

    Both are scalars; weights are brought to the dtype of ``hessian``.
    """
    weight = weight.detach().to(hessian.dtype)
    return weighted_norm(weight - rounded.to(hessian.dtype), hessian), weighted_norm(
        weight, hessian
    )


@dataclass(frozen=True)
class UpperFactor:
    """``upper`` is V with H_damped = V V^T; ``damp`` the share of the mean diagonal added."""

    upper: Tensor
    damp: float
    retries: int


def revive_dead(hessian: Tensor) -> tuple[Tensor, Tensor]:
    """Return a copy of H [n, n] with H_ii = 1 where an input never fired, and those, bool [n]."""
    dead = hessian.diagonal() == 0
    revived = hessian.clone()
    revived.diagonal().masked_fill_(dead, 1)
    return revived, dead


def invert_upper(upper: Tensor) -> Tensor:
    """Return the inverses of upper triangular matrices [..., n, n], by halves: mostly products.

    A triangular solve against the identity does not know that half of its result is zero.
    """
    n = upper.shape[-1]
    if n <= INVERSION_BLOCK:
        eye = torch.eye(n, dtype=upper.dtype, device=upper.device)
        return torch.linalg.solve_triangular(upper, eye.expand_as(upper), upper=True)
    half = n // 2
    first, last = invert_upper(upper[..., :half, :half]), invert_upper(upper[..., half:, half:])
    inverse = torch.zeros_like(upper)
    inverse[..., :half, :half], inverse[..., half:, half:] = first, last
    inverse[..., :half, half:] = (first @ upper[..., :half, half:]).neg_() @ last
    return inverse


class Factorisation:
    """V of H + damp * mean(diag H) * I, which the device may still be working on.

    It is the ordinary Cholesky factor of H with rows and columns reversed. Inverting H first, as
    the paper does, would square the condition number.
    """

    def __init__(self, hessian: Tensor, damp: float) -> None:
        damped = hessian.flip(0, 1)
        damped.diagonal().add_(damp * hessian.diagonal().mean())
        lower, info = torch.linalg.cholesky_ex(damped)
        del damped
        self.damp, self.upper = damp, lower.flip(0, 1)
        sums = torch.stack([hessian.sum(dtype=torch.float64), self.upper.sum().double()])
        self._told = Reading(torch.cat([torch.isfinite(sums), (info == 0)[None]]))

    def succeeded(self, where: str) -> bool:
        """Wait for the factor and tell whether there is one; an error if H is not finite."""
        inputs_finite, factor_finite, definite = self._told.get()
        if not inputs_finite:
            raise infinite_inputs(where)
        return definite and factor_finite


def upper_factor(
    hessian: Tensor, damp_percent: float, where: str, first: Factorisation | None = None
) -> UpperFactor:
    """Factor H + damp * mean(diag H) * I, H [n, n]; a failed Cholesky raises damp tenfold.

    ``first`` is the factorisation with ``damp_percent``, if it has been started. Raises
    BenchsuiteError when H holds non-finite numbers.
    """
    tried = first or Factorisation(hessian, damp_percent)
    for retries in range(MAX_RETRIES + 1):
        if tried.succeeded(where):
            return UpperFactor(tried.upper, tried.damp, retries)
        tried = Factorisation(hessian, max(10 * tried.damp, 1e-3))
    raise BenchsuiteError(
        f"no damping up to {tried.damp:g} of the mean diagonal makes the Hessian positive definite",
        where,
        "check the calibration data: its inputs to this layer are constant or overflow",
    )
