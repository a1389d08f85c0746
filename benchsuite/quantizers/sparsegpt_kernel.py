"""`sparsegpt`'s column loop as one CUDA kernel per block; imported only where Triton can run.

As in `gptq_kernel` a program keeps its rows' whole block in registers. The arithmetic is that of
``sparsegpt.prune_block``, operation by operation, so that both leave equal bits.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from benchsuite.quantizers.gptq_kernel import ROWS_PER_PROGRAM, column_of, load_block


@triton.jit
def _cost(tile, columns, diagonal_ptr, i):
    """What it costs each row to lose its weight of column i."""
    weight = column_of(tile, columns, i)
    root = tl.div_rn(weight, tl.load(diagonal_ptr + i) + tl.zeros_like(weight))
    return root * root


@triton.jit
def _at_most_one(a, b, c):
    """Whether at most one of three is true: the weight is then among the two that stay."""
    return a.to(tl.int32) + b.to(tl.int32) + c.to(tl.int32) < 2


@triton.jit
def _prune(
    tile,
    stays,
    columns,
    rows,
    i,
    work_ptr,
    ratio_ptr,
    mask_ptr,
    errors_ptr,
    n_rows,
    width,
    work_stride,
    ratio_stride,
):
    """The tile without what column i costs; the column as it is, its mask and errors are stored."""
    inside = rows < n_rows
    weight = column_of(tile, columns, i)
    error = tl.where(stays, 0.0, weight)
    tl.store(work_ptr + i * work_stride + rows, weight, mask=inside)
    tl.store(mask_ptr + i * n_rows + rows, stays.to(tl.uint8), mask=inside)
    tl.store(errors_ptr + i * n_rows + rows, error, mask=inside)
    later = (columns > i) & (columns < width)
    compensation = tl.load(ratio_ptr + i * ratio_stride + columns, mask=later, other=0.0)
    return tile - compensation[:, None] * error[None, :]


@triton.jit
def _block_kernel(
    work_ptr,
    ratio_ptr,
    diagonal_ptr,
    mask_ptr,
    errors_ptr,
    n_rows,
    width,
    work_stride,
    ratio_stride,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
):
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, WIDTH)
    tile = load_block(work_ptr, work_stride, rows, columns, n_rows, width)
    for first in range(0, width, 4):
        a = _cost(tile, columns, diagonal_ptr, first)
        b = _cost(tile, columns, diagonal_ptr, first + 1)
        c = _cost(tile, columns, diagonal_ptr, first + 2)
        d = _cost(tile, columns, diagonal_ptr, first + 3)
        # Of equal costs the first stay.
        for k in tl.static_range(4):
            if k == 0:
                stays = _at_most_one(b > a, c > a, d > a)
            elif k == 1:
                stays = _at_most_one(a >= b, c > b, d > b)
            elif k == 2:
                stays = _at_most_one(a >= c, b >= c, d > c)
            else:
                stays = _at_most_one(a >= d, b >= d, c >= d)
            tile = _prune(
                tile,
                stays,
                columns,
                rows,
                first + k,
                work_ptr,
                ratio_ptr,
                mask_ptr,
                errors_ptr,
                n_rows,
                width,
                work_stride,
                ratio_stride,
            )


def prune_block(work: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """Prune one block on CUDA; arguments and results as in ``sparsegpt.prune_block``.

    All tensors are float32; each column of ``work`` is contiguous.
    """
    width, n_rows = work.shape
    diagonal = factor.diagonal()[:, None]
    ratio = (factor / diagonal).contiguous()
    mask = torch.empty(width, n_rows, dtype=torch.uint8, device=work.device)
    errors = torch.empty(width, n_rows, dtype=torch.float32, device=work.device)
    with torch.cuda.device_of(work):
        _block_kernel[(triton.cdiv(n_rows, ROWS_PER_PROGRAM),)](
            work,
            ratio,
            diagonal.contiguous(),
            mask,
            errors,
            n_rows,
            width,
            work.stride(0),
            ratio.stride(0),
            WIDTH=triton.next_power_of_2(width),
            ROWS=ROWS_PER_PROGRAM,
            num_warps=1,
            enable_fp_fusion=False,
        )
    return mask.view(torch.bool), errors.div_(diagonal)
