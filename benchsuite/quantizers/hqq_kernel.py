"""`hqq`'s solver and its last rounding as CUDA kernels; imported only where Triton can run.

A group's next zero point depends on that group alone; only the decision to stop reads the whole
tensor. So one launch runs all iterations of a group in the place where its weights lie, and keeps
the zero points and the error of each. The host sums the errors, sees which iteration was the last,
and takes its zero points. Weights are read in their own dtype; no float32 copy is made.

The arithmetic is the plain solver's in its order, so equal zero points give equal codes, ties too.
Three things differ in the last bits: the order of a group's sum and of the error's, the power in
the threshold, which is approximate, and W_e, which is divided by s apart from W. A zero point
differs by about a millionth of the largest code, and a weight midway between two codes may take the
other. The errors' sum has a fixed order: equal weights give equal zero points.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from benchsuite.quantizers.formats.rounding_kernels import nearest

STEPS_PER_LAUNCH = 20
"""HQQ's default number of iterations; their zero points are kept until the last is known."""

NUMBERS_PER_PROGRAM = 512


@triton.jit
def _quotient(numbers, scale, inverse):
    """numbers / scale as IEEE rounds it, of ``inverse`` = 1 / scale as IEEE rounds that.

    The steps are those of a GPU's own division, which takes the inverse anew for each number.
    """
    near = numbers * inverse
    near = tl.fma(tl.fma(-near, scale, numbers), inverse, near)
    return tl.fma(tl.fma(-near, scale, numbers), inverse, near)


@triton.jit
def _nearest_codes(places, top):
    """Whole numbers, from 0 to ``top``, nearest to ``places``; NaN may become any of them."""
    return nearest(tl.minimum(tl.maximum(places, 0.0), top))


@triton.jit
def _solve_kernel(
    numbers_ptr,
    scale_ptr,
    zero_ptr,
    zeros_ptr,
    errors_ptr,
    n_groups,
    width,
    n_steps,
    n_programs,
    top,
    norm,
    log_beta,
    log_kappa,
    share,
    GROUPS: tl.constexpr,
    NUMBERS: tl.constexpr,
):
    groups = tl.program_id(0) * GROUPS + tl.arange(0, GROUPS)
    real = groups < n_groups
    starts = numbers_ptr + groups.to(tl.int64)[:, None] * width
    scale = tl.load(scale_ptr + groups, mask=real, other=1.0)
    zero = tl.load(zero_ptr + groups, mask=real, other=0.0)
    inverse = tl.div_rn(tl.full((GROUPS,), 1.0, dtype=tl.float32), scale)
    wide = tl.broadcast_to(scale[:, None], (GROUPS, NUMBERS))
    wide_inverse = tl.broadcast_to(inverse[:, None], (GROUPS, NUMBERS))
    zeros_ptr += groups
    errors_ptr += tl.program_id(0)
    for i in range(n_steps):
        log_of_beta = log_beta + i * log_kappa
        # Below beta^(-1 / (2-p)) an error is smaller than its threshold. Most weights' all are, and
        # need no power; the margin is for what rounds otherwise.
        least = 0.999 * tl.exp2(log_of_beta / (norm - 2.0))
        zero_sum = tl.zeros((GROUPS, NUMBERS), dtype=tl.float32)
        error_sum = tl.zeros((GROUPS, NUMBERS), dtype=tl.float32)
        for start in range(0, width, NUMBERS):
            place = start + tl.arange(0, NUMBERS)
            both = real[:, None] & (place < width)[None, :]
            numbers = tl.load(starts + place[None, :], mask=both, other=0.0).to(tl.float32)
            quotient = _quotient(numbers, wide, wide_inverse)
            codes = _nearest_codes(quotient + zero[:, None], top)
            error = numbers - (codes - zero[:, None]) * wide
            size = tl.abs(error)
            zeros = codes - quotient
            if tl.max(size) > least:
                threshold = tl.exp2((norm - 1.0) * tl.log2(size) - log_of_beta)
                # No comparison holds for the NaN that 0 gives at p = 1: it keeps nothing.
                kept = tl.where(size > threshold, size - threshold, 0.0)
                zeros += tl.where(error < 0, -kept, kept) * wide_inverse
            zero_sum += tl.where(both, zeros, 0.0)
            error_sum += tl.where(both, size, 0.0)
        zero = tl.sum(zero_sum, axis=1) * share
        tl.store(zeros_ptr, zero, mask=real)
        tl.store(errors_ptr, tl.sum(error_sum))
        zeros_ptr += n_groups
        errors_ptr += n_programs


@triton.jit
def _encode_kernel(
    numbers_ptr,
    scale_ptr,
    zero_ptr,
    codes_ptr,
    n_groups,
    width,
    top,
    GROUPS: tl.constexpr,
    NUMBERS: tl.constexpr,
):
    groups = tl.program_id(0) * GROUPS + tl.arange(0, GROUPS)
    real = groups < n_groups
    starts = groups.to(tl.int64)[:, None] * width
    scale = tl.load(scale_ptr + groups, mask=real, other=1.0)
    zero = tl.load(zero_ptr + groups, mask=real, other=0.0)
    for start in range(0, width, NUMBERS):
        place = start + tl.arange(0, NUMBERS)
        both = real[:, None] & (place < width)[None, :]
        where = starts + place[None, :]
        numbers = tl.load(numbers_ptr + where, mask=both, other=0.0).to(tl.float32)
        wide = tl.broadcast_to(scale[:, None], (GROUPS, NUMBERS))
        codes = _nearest_codes(tl.div_rn(numbers, wide) + zero[:, None], top)
        tl.store(codes_ptr + where, codes.to(tl.uint8), mask=both)


def _blocks(groups: Tensor) -> tuple[int, dict[str, int | bool]]:
    """Return the number of programs and what a program holds of ``groups`` [n, width]."""
    n_groups, width = groups.shape
    numbers = min(NUMBERS_PER_PROGRAM, triton.next_power_of_2(width))
    each = NUMBERS_PER_PROGRAM // numbers
    # A single warp sums without waiting for another.
    sizes = {"GROUPS": each, "NUMBERS": numbers, "num_warps": 1, "enable_fp_fusion": False}
    return triton.cdiv(n_groups, each), sizes


def fit_zeros(
    groups: Tensor,
    scale: Tensor,
    zero: Tensor,
    max_code: int,
    *,
    norm: float,
    beta: float,
    kappa: float,
    iterations: int,
) -> tuple[Tensor, int]:
    """Improve the zero points as `hqq.fit_zeros` does; returns them and the iterations run.

    ``groups`` [n, width] of any float dtype, contiguous; ``scale`` and ``zero`` float32 [n, 1].
    """
    n_groups, width = groups.shape
    n_programs, sizes = _blocks(groups)
    least = float("inf")
    for done in range(0, iterations, STEPS_PER_LAUNCH):
        steps = min(STEPS_PER_LAUNCH, iterations - done)
        zeros = torch.empty(steps, n_groups, 1, device=groups.device)
        errors = torch.empty(steps, n_programs, device=groups.device)
        with torch.cuda.device_of(groups):
            _solve_kernel[(n_programs,)](
                groups,
                scale,
                zero,
                zeros,
                errors,
                n_groups,
                width,
                steps,
                n_programs,
                float(max_code),
                norm,
                math.log2(beta) + done * math.log2(kappa),
                math.log2(kappa),
                1.0 / width,
                **sizes,
            )
        # Float32 at last, as the plain mean is: a fall below its precision is none.
        means = (errors.sum(1, dtype=torch.float64) / groups.numel()).float()
        for step, mean in enumerate(means.tolist()):
            if not mean < least:
                return zeros[step], done + step + 1
            least = mean
        zero = zeros[-1]
    return zero, iterations


def encode(groups: Tensor, scale: Tensor, zero: Tensor, max_code: int) -> Tensor:
    """Return the nearest codes, uint8, of ``groups``; arguments as in `fit_zeros`."""
    codes = torch.empty(groups.shape, dtype=torch.uint8, device=groups.device)
    n_programs, sizes = _blocks(groups)
    with torch.cuda.device_of(groups):
        _encode_kernel[(n_programs,)](
            groups, scale, zero, codes, *groups.shape, float(max_code), **sizes
        )
    return codes
