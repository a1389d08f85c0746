"""`signround`'s rounding, its gradients and its step as CUDA kernels; only where Triton can run.

The plain operations pass over a weight some thirty times in each step. Here rounding is one pass,
its gradients another, and moving a parameter and keeping the best a third. The arithmetic is that
of the plain operations, one by one, and so are the bits; only the sums over a group, which are the
gradients of its scale and zero point, have another order.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd import Function

from benchsuite.quantizers.formats.rounding_kernels import nearest

NUMBERS_PER_PROGRAM = 512


@triton.jit
def _codes(numbers, offset, scale, zero, top):
    """Quotients, codes before the grid's ends cut them, and codes after, float32."""
    quotient = tl.div_rn(numbers, scale)
    free = nearest(quotient + offset) + zero
    return quotient, free, tl.minimum(tl.maximum(free, 0.0), top)


@triton.jit
def _places(n_groups, groups_of_row, columns, width, GROUPS: tl.constexpr):
    """The program's groups: their numbers, where each begins, how long it is, which there are."""
    groups = tl.program_id(0) * GROUPS + tl.arange(0, GROUPS)
    first = (groups % groups_of_row) * width
    starts = (groups // groups_of_row).to(tl.int64) * columns + first
    return groups, starts, tl.minimum(width, columns - first), groups < n_groups


@triton.jit
def _round_kernel(
    weight_ptr,
    offset_ptr,
    scale_ptr,
    zero_ptr,
    out_ptr,
    n_groups,
    groups_of_row,
    columns,
    width,
    top,
    GROUPS: tl.constexpr,
    NUMBERS: tl.constexpr,
):
    groups, starts, lengths, real = _places(n_groups, groups_of_row, columns, width, GROUPS)
    scale = tl.load(scale_ptr + groups, mask=real, other=1.0)[:, None]
    zero = tl.load(zero_ptr + groups, mask=real, other=0.0)[:, None]
    wide = tl.broadcast_to(scale, (GROUPS, NUMBERS))
    for start in range(0, width, NUMBERS):
        place = start + tl.arange(0, NUMBERS)
        both = real[:, None] & (place[None, :] < lengths[:, None])
        where = starts[:, None] + place[None, :]
        numbers = tl.load(weight_ptr + where, mask=both, other=0.0).to(tl.float32)
        offset = tl.load(offset_ptr + where, mask=both, other=0.0)
        _, _, codes = _codes(numbers, offset, wide, zero, top)
        rounded = (codes - zero) * scale
        tl.store(out_ptr + where, rounded.to(out_ptr.dtype.element_ty), mask=both)


@triton.jit
def _gradient_kernel(
    upstream_ptr,
    weight_ptr,
    offset_ptr,
    scale_ptr,
    zero_ptr,
    of_offset_ptr,
    of_scale_ptr,
    of_zero_ptr,
    n_groups,
    groups_of_row,
    columns,
    width,
    top,
    GROUPS: tl.constexpr,
    NUMBERS: tl.constexpr,
):
    groups, starts, lengths, real = _places(n_groups, groups_of_row, columns, width, GROUPS)
    scale = tl.load(scale_ptr + groups, mask=real, other=1.0)[:, None]
    zero = tl.load(zero_ptr + groups, mask=real, other=0.0)[:, None]
    wide = tl.broadcast_to(scale, (GROUPS, NUMBERS))
    scale_sum = tl.zeros((GROUPS, NUMBERS), dtype=tl.float32)
    zero_sum = tl.zeros((GROUPS, NUMBERS), dtype=tl.float32)
    for start in range(0, width, NUMBERS):
        place = start + tl.arange(0, NUMBERS)
        both = real[:, None] & (place[None, :] < lengths[:, None])
        where = starts[:, None] + place[None, :]
        numbers = tl.load(weight_ptr + where, mask=both, other=0.0).to(tl.float32)
        offset = tl.load(offset_ptr + where, mask=both, other=0.0)
        upstream = tl.load(upstream_ptr + where, mask=both, other=0.0).to(tl.float32)
        quotient, free, codes = _codes(numbers, offset, wide, zero, top)
        of_code = upstream * scale
        passed = tl.where((free >= 0.0) & (free <= top), of_code, 0.0)
        tl.store(of_offset_ptr + where, passed, mask=both)
        scale_sum += upstream * (codes - zero) - passed * tl.div_rn(quotient, wide)
        zero_sum += passed - of_code
    tl.store(of_scale_ptr + groups, tl.sum(scale_sum, axis=1), mask=real)
    tl.store(of_zero_ptr + groups, tl.sum(zero_sum, axis=1), mask=real)


@triton.jit
def _move_kernel(
    parameter_ptr,
    gradient_ptr,
    kept_ptr,
    better_ptr,
    size_ptr,
    n,
    least,
    most,
    NUMBERS: tl.constexpr,
):
    place = tl.program_id(0).to(tl.int64) * NUMBERS + tl.arange(0, NUMBERS)
    real = place < n
    now = tl.load(parameter_ptr + place, mask=real, other=0.0)
    better = tl.load(better_ptr) != 0
    tl.store(kept_ptr + place, now, mask=real & better)
    gradient = tl.load(gradient_ptr + place, mask=real, other=0.0)
    size = tl.load(size_ptr)
    step = tl.where(gradient > 0, size, tl.where(gradient < 0, -size, 0.0))
    moved = tl.minimum(tl.maximum(now - step, least), most)
    tl.store(parameter_ptr + place, moved, mask=real)


def _launch(weight: Tensor, scale: Tensor, width: int, top: int) -> tuple[Any, tuple[Any, ...]]:
    """Return the grid of programs, the numbers that a kernel is told and how it is compiled."""
    n_groups, columns = scale.numel(), weight.shape[1]
    numbers = min(NUMBERS_PER_PROGRAM, triton.next_power_of_2(width))
    each = NUMBERS_PER_PROGRAM // numbers
    told = (n_groups, scale.shape[1], columns, width, float(top))
    how = {"GROUPS": each, "NUMBERS": numbers, "num_warps": 4, "enable_fp_fusion": False}
    return (triton.cdiv(n_groups, each),), (told, how)


class _Rounded(Function):
    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, offset: Tensor, scale: Tensor, zero: Tensor, width: int, top: int
    ) -> Tensor:
        out = torch.empty_like(weight)
        grid, (told, how) = _launch(weight, scale, width, top)
        with torch.cuda.device_of(weight):
            _round_kernel[grid](weight, offset, scale, zero, out, *told, **how)
        ctx.save_for_backward(weight, offset, scale, zero)
        ctx.grid = width, top
        return out

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        weight, offset, scale, zero = ctx.saved_tensors
        grid, (told, how) = _launch(weight, scale, *ctx.grid)
        found = [torch.empty_like(each) for each in (offset, scale, zero)]
        given = (upstream[0].contiguous(), weight, offset, scale, zero, *found)
        with torch.cuda.device_of(weight):
            _gradient_kernel[grid](*given, *told, **how)
        return None, *found, None, None


def rounded(
    weight: Tensor, offset: Tensor, scale: Tensor, zero: Tensor, *, width: int, max_code: int
) -> Tensor:
    """Return ``weight`` [out, in] as it is rounded with ``offset``, in its own dtype.

    ``offset`` is float32 [out, in], ``scale`` and ``zero`` are float32 [out, groups] of ``width``
    columns, the last of which may have fewer. Rounding counts as the identity in gradients, which
    all but the weight have.
    """
    given = (weight.contiguous(), offset, scale.contiguous(), zero.contiguous(), width, max_code)
    found: Tensor = _Rounded.apply(*given)  # type: ignore[no-untyped-call]
    return found


def move(
    parameter: Tensor,
    gradient: Tensor,
    kept: Tensor,
    better: Tensor,
    size: Tensor,
    least: float,
    most: float,
) -> None:
    """Move float32 ``parameter`` by ``size`` against the sign of ``gradient``, from least to most.

    Where ``better``, bool [1], holds, ``kept`` first gets what the parameter was. ``size`` is
    float32 [1]; all others have one shape, in rows.
    """
    n = parameter.numel()
    grid = (triton.cdiv(n, NUMBERS_PER_PROGRAM),)
    given = (parameter, gradient.contiguous(), kept, better.view(torch.uint8), size)
    with torch.cuda.device_of(parameter):
        _move_kernel[grid](
            *given, n, least, most, NUMBERS=NUMBERS_PER_PROGRAM, enable_fp_fusion=False
        )
