"""GPTQ's column loop as one fused CUDA kernel per block; imported only where Triton can run.

A block of 128 columns costs some 1,000 small torch operations, which on a GPU is all launch
overhead. Rows are independent, so each program keeps its rows' whole block in registers and walks
the columns. The arithmetic is that of ``gptq.quantize_block`` and of ``gptaq.quantize_block``,
operation by operation: IEEE division, nothing fused, so that both give equal codes from the same
factor.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from benchsuite.quantizers.formats.rounding_kernels import nearest

ROWS_PER_PROGRAM = 32
"""One warp with one row per thread: a row's block is the thread's own registers."""


@triton.jit
def load_block(work_ptr, work_stride, rows, columns, n_rows, width):
    """The block's columns, one a line, of the program's rows; zeros where it has none."""
    return tl.load(
        work_ptr + columns[:, None] * work_stride + rows[None, :],
        mask=(columns < width)[:, None] & (rows < n_rows)[None, :],
        other=0.0,
    )


@triton.jit
def column_of(tile, columns, i):
    """Column i of a block in registers."""
    return tl.sum(tl.where(columns[:, None] == i, tile, 0.0), axis=0)


@triton.jit
def _block_kernel(
    work_ptr,
    ratio_ptr,
    passed_ptr,
    scale_ptr,
    zero_ptr,
    codes_ptr,
    errors_ptr,
    n_rows,
    width,
    work_stride,
    ratio_stride,
    passed_stride,
    parameter_stride,
    max_code,
    PASSES_DRIFT: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
):
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, WIDTH)
    inside = rows < n_rows
    tile = load_block(work_ptr, work_stride, rows, columns, n_rows, width)
    for i in range(width):
        scale = tl.load(scale_ptr + i * parameter_stride + rows, mask=inside, other=1.0)
        zero = tl.load(zero_ptr + i * parameter_stride + rows, mask=inside, other=0.0)
        weight = column_of(tile, columns, i)
        # What lies beyond 2^22 is cut off anyway.
        level = nearest(tl.div_rn(weight, scale))
        level = tl.minimum(tl.maximum(level, -zero), max_code - zero)
        error = weight - level * scale
        tl.store(codes_ptr + i * n_rows + rows, (level + zero).to(tl.uint8), mask=inside)
        tl.store(errors_ptr + i * n_rows + rows, error, mask=inside)
        later = (columns > i) & (columns < width)
        compensation = tl.load(ratio_ptr + i * ratio_stride + columns, mask=later, other=0.0)
        tile = tile - compensation[:, None] * error[None, :]
        if PASSES_DRIFT:
            tl.store(work_ptr + i * work_stride + rows, weight, mask=inside)
            share = tl.load(passed_ptr + i * passed_stride + columns, mask=later, other=0.0)
            tile = tile + share[:, None] * weight[None, :]


def quantize_block(
    work: Tensor, factor: Tensor, scale: Tensor, zero: Tensor, max_code: int
) -> tuple[Tensor, Tensor]:
    """Round one block on CUDA; arguments and results as in ``gptq.quantize_block``.

    All tensors are float32; ``work`` is left as it was.
    """
    return _launch(work.contiguous(), factor, None, scale, zero, max_code)


def quantize_drifted_block(
    work: Tensor, factor: Tensor, passed: Tensor, scale: Tensor, zero: Tensor, max_code: int
) -> tuple[Tensor, Tensor]:
    """Round one block on CUDA; arguments and results as in ``gptaq.quantize_block``.

    All tensors are float32; each column of ``work`` is contiguous, and is left as it was when it
    was rounded.
    """
    return _launch(work, factor, passed.contiguous(), scale, zero, max_code)


def _launch(
    work: Tensor,
    factor: Tensor,
    passed: Tensor | None,
    scale: Tensor,
    zero: Tensor,
    max_code: int,
) -> tuple[Tensor, Tensor]:
    scale, zero = scale.contiguous(), zero.contiguous()
    width, n_rows = work.shape
    diagonal = factor.diagonal()[:, None]
    # The factor may lie column by column in memory, as linear algebra leaves it.
    ratio = (factor / diagonal).contiguous()
    codes = torch.empty(width, n_rows, dtype=torch.uint8, device=work.device)
    errors = torch.empty(width, n_rows, dtype=torch.float32, device=work.device)
    with torch.cuda.device_of(work):
        _block_kernel[(triton.cdiv(n_rows, ROWS_PER_PROGRAM),)](
            work,
            ratio,
            ratio if passed is None else passed,
            scale,
            zero,
            codes,
            errors,
            n_rows,
            width,
            work.stride(0),
            ratio.stride(0),
            ratio.stride(0) if passed is None else passed.stride(0),
            scale.stride(0) if scale.dim() == 2 else 0,
            float(max_code),
            PASSES_DRIFT=passed is not None,
            WIDTH=triton.next_power_of_2(width),
            ROWS=ROWS_PER_PROGRAM,
            num_warps=1,
            enable_fp_fusion=False,
        )
    return codes, errors.div_(diagonal)
