"""HQQ (Badri and Shaji 2023, "Half-Quadratic Quantization of Large Machine Learning Models",
https://mobiusml.github.io/hqq_blog, no arXiv number): robust zero points from the weights alone.

Weights are heavy-tailed, so the zero point z of each group minimises ||W - W_r||_p with p = .7
instead of a squared error; W_r = s (W_q - z), W_q = clip(round(W / s + z)), and the step s stays
the one that covers the group's range. Half-quadratic splitting alternates two closed forms:

    W_e = sign(x) relu(|x| - |x|^(p-1) / beta),  x = W - W_r     (the errors worth keeping)
    z   = mean over the group of W_q - (W - W_e) / s

while beta grows by kappa. Defaults are those of the reference package hqq 0.2.8: 4 bits, groups of
64 along the inputs (axis 1), beta 10, kappa 1.01, at most 20 iterations, stopped at the first one
that does not lower mean |x|. Zero points are real numbers, stored in the scales' dtype. Nothing is
random and nothing is calibrated.

`fit_zeros` and `encode` are the formulas as plain operations, which CPUs use. `hqq_kernel` has both
as CUDA kernels.
"""

from dataclasses import asdict, dataclass
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from benchsuite.errors import UsageError
from benchsuite.quantizers.grid import SMALLEST_HALF
from benchsuite.quantizers.layers import Progress, block_linears, replace
from benchsuite.quantizers.linear import QuantizedLinear
from benchsuite.quantizers.result import Account, QuantizationResult


@dataclass(frozen=True)
class Solver:
    """The half-quadratic solver's settings; see the module's formulas."""

    norm: float = 0.7
    beta: float = 10.0
    kappa: float = 1.01
    iterations: int = 20

    def __post_init__(self) -> None:
        fits = 0 < self.norm <= 1 and self.beta > 0 and self.kappa >= 1 and self.iterations >= 0
        if not fits:
            raise UsageError(
                f"HQQ wants 0 < norm <= 1, beta > 0, kappa >= 1 and iterations >= 0, not {self}",
                fix="leave them at their defaults: Solver()",
            )


def range_grid(groups: Tensor, max_code: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return (scale, zero), float32 [n, 1], of the grid that covers each of ``groups`` [n, width].

    The scale is rounded to ``dtype``, in which it will be stored; a constant group gets scale 1.
    At 4 bits the first zero point is an integer, as the reference has it.
    """
    low, high = groups.amin(1, keepdim=True).float(), groups.amax(1, keepdim=True).float()
    width = high - low
    scale = (width / max_code).masked_fill_(width == 0, 1).to(dtype).float()
    scale.clamp_(min=SMALLEST_HALF)
    zero = -low / scale
    return scale, zero.round_() if max_code == 15 else zero


def encode(groups: Tensor, scale: Tensor, zero: Tensor, max_code: int) -> Tensor:
    """Return the nearest codes, in float, of ``groups``' shape; scale and zero broadcast."""
    return (groups / scale).add_(zero).round_().clamp_(0, max_code)


def shrink(x: Tensor, beta: float, norm: float) -> Tensor:
    """Return sign(x) relu(|x| - |x|^(norm-1) / beta), the generalised soft threshold."""
    size = x.abs()
    # At x = 0 the power is infinite and the threshold keeps nothing.
    return (size - size.pow(norm - 1) / beta).clamp_(min=0).mul_(x.sign())


def fit_zeros(
    groups: Tensor, scale: Tensor, zero: Tensor, max_code: int, solver: Solver
) -> tuple[Tensor, int]:
    """Improve the zero points [n, 1] of ``groups`` [n, width]; returns them and the iterations run.

    All are float32. As in the reference, the error that decides when to stop is the mean over the
    whole tensor, and the update made in the iteration that stops is kept.
    """
    beta, least = solver.beta, float("inf")
    for number in range(1, solver.iterations + 1):
        codes = encode(groups, scale, zero, max_code)
        error = groups - (codes - zero).mul_(scale)
        wanted = groups - shrink(error, beta, solver.norm)
        zero = (codes - wanted.div_(scale)).mean(1, keepdim=True)
        beta *= solver.kappa
        mean = error.abs_().mean().item()
        if not mean < least:
            return zero, number
        least = mean
    return zero, solver.iterations


def round_weight(
    weight: Tensor,
    bits: int,
    group_size: int,
    solver: Solver | None = None,
    scale_dtype: torch.dtype = torch.float16,
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Quantize ``weight`` [out, in] by HQQ.

    Returns codes uint8 [out, in], scales and zeros [out, groups] of ``scale_dtype`` and the
    iterations run. Codes are chosen for the scales and zeros as stored. The last group of a row may
    be narrower.
    """
    n_out, n_in = weight.shape
    width = n_in if group_size == -1 else min(group_size, n_in)
    if last := n_in % width:
        # A narrower last group is solved by itself: made whole, it would have another mean.
        parts = (weight[:, :-last], weight[:, -last:])
        one, other = (round_weight(part, bits, width, solver, scale_dtype) for part in parts)
        return (
            torch.cat((one[0], other[0]), 1),
            torch.cat((one[1], other[1]), 1),
            torch.cat((one[2], other[2]), 1),
            max(one[3], other[3]),
        )
    max_code, solver = 2**bits - 1, solver or Solver()
    groups = weight.reshape(-1, width).contiguous()
    scale, zero = range_grid(groups, max_code, scale_dtype)
    if groups.is_cuda and find_spec("triton"):
        from benchsuite.quantizers import hqq_kernel

        zero, iterations = hqq_kernel.fit_zeros(groups, scale, zero, max_code, **asdict(solver))
        zero = zero.to(scale_dtype)
        codes = hqq_kernel.encode(groups, scale, zero.float(), max_code)
    else:
        groups = groups.float()
        zero, iterations = fit_zeros(groups, scale, zero, max_code, solver)
        zero = zero.to(scale_dtype)
        codes = encode(groups, scale, zero.float(), max_code).to(torch.uint8)
    shape = (n_out, n_in // width)
    return (
        codes.reshape(n_out, n_in),
        scale.to(scale_dtype).reshape(shape),
        zero.reshape(shape),
        iterations,
    )


@torch.no_grad()
def quantize(
    model: nn.Module,
    *,
    bits: int = 4,
    group_size: int = 64,
    norm: float = 0.7,
    beta: float = 10.0,
    kappa: float = 1.01,
    iterations: int = 20,
    progress: Progress | None = None,
) -> QuantizationResult:
    """Quantize every block linear of ``model`` with HQQ, in place on its module tree; no data."""
    solver = Solver(norm, beta, kappa, iterations)
    account = Account(model)
    for name, linear in block_linears(model, progress):
        with account.timed(name):
            codes, scales, zeros, run = round_weight(linear.weight, bits, group_size, solver)
            packed = QuantizedLinear(
                codes,
                scales,
                zeros,
                bits=bits,
                group_size=group_size,
                bias=linear.bias,
                dtype=linear.weight.dtype,
                free_zeros=True,
            )
            replace(model, name, packed)
        account.add(name, details={"iterations": run})
    return account.close()
