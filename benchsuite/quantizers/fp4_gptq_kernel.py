"""`fp4_gptq`'s column loop and its groups' scales as CUDA kernels; imported only where Triton can
run.

A block is what `fp4_gptq` gives its loop: a group of 16 or 32 columns whose scale was just found,
or 128 columns whose scales were found beforehand. As in `gptq_kernel` a program keeps its rows'
whole block in registers. The arithmetic is that of ``fp4_gptq.quantize_block`` and of
``Fp4Grid.fit``, operation by operation, so that codes, errors and scales have equal bits.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from benchsuite.quantizers.formats.rounding_kernels import (
    group_octets,
    group_scale,
    round_e2m1,
    size_bits,
)
from benchsuite.quantizers.gptq_kernel import ROWS_PER_PROGRAM, column_of, load_block


@triton.jit
def _block_kernel(
    work_ptr,
    factor_ptr,
    scale_ptr,
    codes_ptr,
    errors_ptr,
    n_rows,
    width,
    work_stride,
    factor_row_stride,
    factor_column_stride,
    scale_stride,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
):
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, WIDTH)
    inside = rows < n_rows
    tile = load_block(work_ptr, work_stride, rows, columns, n_rows, width)
    for i in range(width):
        # A scale is that of a half: twice it is exact, and what numbers are multiplied by.
        scale = 2.0 * tl.load(scale_ptr + i * scale_stride + rows, mask=inside, other=0.5)
        weight = column_of(tile, columns, i)
        number = round_e2m1(tl.div_rn(weight, scale))
        line = factor_ptr + i * factor_row_stride
        pivot = tl.load(line + i * factor_column_stride + tl.zeros((ROWS,), dtype=tl.int32))
        error = tl.div_rn(weight - number * scale, pivot)
        tl.store(codes_ptr + i * n_rows + rows, (2.0 * number + 12.0).to(tl.uint8), mask=inside)
        tl.store(errors_ptr + i * n_rows + rows, error, mask=inside)
        later = (columns > i) & (columns < width)
        entries = tl.load(line + columns * factor_column_stride, mask=later, other=0.0)
        tile = tile - entries[:, None] * error[None, :]


def quantize_block(
    work: Tensor, factor: Tensor, scale: Tensor, zero: Tensor, max_code: int
) -> tuple[Tensor, Tensor]:
    """Round one block on CUDA; arguments and results as in ``fp4_gptq.quantize_block``.

    All tensors are float32; ``work`` is left as it was.
    """
    work, scale = work.contiguous(), scale.contiguous()
    width, n_rows = work.shape
    codes = torch.empty(width, n_rows, dtype=torch.uint8, device=work.device)
    errors = torch.empty_like(work)
    with torch.cuda.device_of(work):
        _block_kernel[(triton.cdiv(n_rows, ROWS_PER_PROGRAM),)](
            work,
            factor,
            scale,
            codes,
            errors,
            n_rows,
            width,
            work.stride(0),
            factor.stride(0),
            factor.stride(1),
            scale.stride(0) if scale.dim() == 2 else 0,
            WIDTH=triton.next_power_of_2(width),
            ROWS=ROWS_PER_PROGRAM,
            num_warps=1,
            enable_fp_fusion=False,
        )
    return codes, errors


@triton.jit
def _fit_kernel(
    work_ptr,
    of_tensor_ptr,
    halves_ptr,
    n_rows,
    width,
    work_stride,
    HAS_GLOBAL: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
):
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    tile = load_block(work_ptr, work_stride, rows, tl.arange(0, WIDTH), n_rows, width)
    largest = tl.max(size_bits(tile), axis=0).to(tl.float32, bitcast=True)
    of_tensor = largest
    if HAS_GLOBAL:
        of_tensor = tl.load(of_tensor_ptr + rows, mask=rows < n_rows, other=1.0)
    octets = group_octets(largest, of_tensor, HAS_GLOBAL)
    halves = group_scale(octets, of_tensor, HAS_GLOBAL) * 0.5
    tl.store(halves_ptr + rows, halves, mask=rows < n_rows)


def fit(work: Tensor, of_tensor: Tensor | None) -> Tensor:
    """Return the scale of a half, float32 [rows], of a group ``work`` float32 [columns, rows].

    ``of_tensor`` is NVFP4's g of each row, float32 [rows]; None is MXFP4.
    """
    work = work.contiguous()
    width, n_rows = work.shape
    halves = torch.empty(n_rows, dtype=torch.float32, device=work.device)
    with torch.cuda.device_of(work):
        _fit_kernel[(triton.cdiv(n_rows, ROWS_PER_PROGRAM),)](
            work,
            work if of_tensor is None else of_tensor.contiguous(),
            halves,
            n_rows,
            width,
            work.stride(0),
            HAS_GLOBAL=of_tensor is not None,
            WIDTH=triton.next_power_of_2(width),
            ROWS=ROWS_PER_PROGRAM,
            num_warps=1,
            enable_fp_fusion=False,
        )
    return halves
