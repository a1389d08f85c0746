"""NVFP4 and MXFP4 weights times a few tokens as one CUDA kernel; imported only where Triton can
run.

As in `few_tokens`, what counts is the bytes read for a token: half a byte a weight, and one for the
scale of 16 or 32. Codes become numbers in registers, by arithmetic on their bits. A thread reads
sixteen bytes of codes at once.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from benchsuite.quantizers.formats.few_tokens import store_sums, tokens_at_once
from benchsuite.quantizers.formats.rounding_kernels import e2m1_numbers, group_scale

# Sixteen bytes for each of 128 threads, in rows of this many columns at most.
BYTES_PER_STEP, WIDEST_STEP = 2048, 2048


@triton.jit
def _plus_product(sums, weights, inputs_ptr, token, n_tokens, columns, n_columns):
    inside = (columns < n_columns) & (token < n_tokens)
    part = tl.load(inputs_ptr + token * n_columns + columns, mask=inside, other=0.0)
    return sums + weights * tl.reshape(part.to(tl.float32), (1, weights.shape[1], weights.shape[2]))


@triton.jit
def _plus_products(
    first, second, third, fourth, weights, inputs_ptr, token, n_tokens, columns, n_columns,
    TOKENS: tl.constexpr,
):  # fmt: skip
    """The sums of ``TOKENS`` tokens and their products with weights [rows, pieces, piece].

    A token beyond the last counts as zeros. What is summed for a token, and in which order, does
    not depend on the tokens beside it.
    """
    first = _plus_product(first, weights, inputs_ptr, token, n_tokens, columns, n_columns)
    if TOKENS > 1:
        second = _plus_product(second, weights, inputs_ptr, token + 1, n_tokens, columns, n_columns)
    if TOKENS > 2:
        third = _plus_product(third, weights, inputs_ptr, token + 2, n_tokens, columns, n_columns)
        fourth = _plus_product(fourth, weights, inputs_ptr, token + 3, n_tokens, columns, n_columns)
    return first, second, third, fourth


@triton.jit
def _weights(
    packed_ptr,
    scales_ptr,
    of_tensor_ptr,
    rows,
    start,
    n_rows,
    row_bytes,
    n_groups,
    HAS_GLOBAL: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The weights [ROWS, groups, GROUP], float32, of some rows and of columns from ``start`` on."""
    GROUPS: tl.constexpr = COLUMNS // GROUP
    real = rows < n_rows
    byte = start // 2 + tl.arange(0, COLUMNS // 2)
    octets = tl.load(
        packed_ptr + rows.to(tl.int64)[:, None] * row_bytes + byte[None, :],
        mask=real[:, None] & (byte < row_bytes)[None, :],
        other=0,
    )
    numbers = e2m1_numbers(tl.join(octets & 15, octets >> 4))
    # What reaches beyond the last column meets inputs of 0, and must not be infinite.
    group = start // GROUP + tl.arange(0, GROUPS)
    scale = tl.load(
        scales_ptr + rows.to(tl.int64)[:, None] * n_groups + group[None, :],
        mask=real[:, None] & (group < n_groups)[None, :],
        other=0,
    )
    of_tensor = tl.full((ROWS, GROUPS), 1.0, tl.float32)
    if HAS_GLOBAL:
        of_tensor *= tl.load(of_tensor_ptr)
    scale = group_scale(scale, of_tensor, HAS_GLOBAL)
    return tl.reshape(numbers, (ROWS, GROUPS, GROUP)) * scale[:, :, None]


@triton.jit
def _product_kernel(
    inputs_ptr,
    packed_ptr,
    scales_ptr,
    of_tensor_ptr,
    outputs_ptr,
    n_tokens,
    n_rows,
    n_columns,
    row_bytes,
    n_groups,
    HAS_GLOBAL: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    TOKENS: tl.constexpr,
):
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    token = tl.program_id(1) * TOKENS
    first = tl.zeros((ROWS, COLUMNS // GROUP, GROUP), dtype=tl.float32)
    second, third, fourth = first, first, first
    for start in range(0, n_columns, COLUMNS):
        weights = _weights(
            packed_ptr,
            scales_ptr,
            of_tensor_ptr,
            rows,
            start,
            n_rows,
            row_bytes,
            n_groups,
            HAS_GLOBAL,
            GROUP,
            ROWS,
            COLUMNS,
        )
        # Rounded as the unpacked weight is, so that only the order of the sums differs.
        weights = weights.to(inputs_ptr.dtype.element_ty).to(tl.float32)
        columns = start + tl.arange(0, COLUMNS)
        first, second, third, fourth = _plus_products(
            first, second, third, fourth, weights, inputs_ptr, token, n_tokens, columns, n_columns,
            TOKENS,
        )  # fmt: skip
    store_sums(first, second, third, fourth, outputs_ptr, token, n_tokens, rows, n_rows, TOKENS)


@triton.jit
def _unpacking_kernel(
    packed_ptr,
    scales_ptr,
    of_tensor_ptr,
    weight_ptr,
    n_rows,
    n_columns,
    row_bytes,
    n_groups,
    HAS_GLOBAL: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    start = tl.program_id(1) * COLUMNS
    weights = _weights(
        packed_ptr,
        scales_ptr,
        of_tensor_ptr,
        rows,
        start,
        n_rows,
        row_bytes,
        n_groups,
        HAS_GLOBAL,
        GROUP,
        ROWS,
        COLUMNS,
    )
    weights = tl.reshape(weights, (ROWS, COLUMNS)).to(weight_ptr.dtype.element_ty)
    columns = start + tl.arange(0, COLUMNS)
    place = weight_ptr + rows.to(tl.int64)[:, None] * n_columns + columns[None, :]
    tl.store(place, weights, mask=(rows < n_rows)[:, None] & (columns < n_columns)[None, :])


def _tile(n_columns: int) -> tuple[int, int]:
    """Return the rows and columns of a step: sixteen bytes of codes for each of 128 threads."""
    columns = max(32, min(WIDEST_STEP, triton.next_power_of_2(n_columns)))
    return 2 * BYTES_PER_STEP // columns, columns


def product(
    inputs: Tensor, packed: Tensor, scales: Tensor, of_tensor: Tensor | None, group_size: int
) -> Tensor:
    """Return ``inputs`` [tokens, in] times the packed weight [out, in] transposed, [tokens, out].

    ``packed`` uint8 [out, ceil(in / 2)], ``scales`` uint8 [out, groups], ``of_tensor`` NVFP4's g,
    float32 [1], or None for MXFP4. Sums are float32, the result has the inputs' dtype.
    Deterministic: no sum depends on what runs beside it.
    """
    inputs = inputs.contiguous()
    (n_tokens, n_columns), n_rows = inputs.shape, len(packed)
    outputs = torch.empty(n_tokens, n_rows, dtype=inputs.dtype, device=inputs.device)
    if n_tokens:
        (rows, columns), tokens = _tile(n_columns), tokens_at_once(n_tokens)
        with torch.cuda.device_of(inputs):
            _product_kernel[(triton.cdiv(n_rows, rows), triton.cdiv(n_tokens, tokens))](
                inputs,
                packed,
                scales,
                inputs if of_tensor is None else of_tensor,
                outputs,
                n_tokens,
                n_rows,
                n_columns,
                packed.shape[1],
                scales.shape[1],
                HAS_GLOBAL=of_tensor is not None,
                GROUP=group_size,
                ROWS=rows,
                COLUMNS=columns,
                TOKENS=tokens,
            )
    return outputs


def unpacked(
    packed: Tensor,
    scales: Tensor,
    of_tensor: Tensor | None,
    group_size: int,
    *,
    n_columns: int,
    dtype: torch.dtype,
) -> Tensor:
    """Return the weight [out, in] of ``dtype``, for products with many tokens: in one kernel.

    The arguments are those of ``product``. The same bits as ``Fp4Linear.dequantize``.
    """
    weight = torch.empty(len(packed), n_columns, dtype=dtype, device=packed.device)
    rows, columns = _tile(n_columns)
    with torch.cuda.device_of(packed):
        _unpacking_kernel[(triton.cdiv(len(packed), rows), triton.cdiv(n_columns, columns))](
            packed,
            scales,
            packed if of_tensor is None else of_tensor,
            weight,
            len(packed),
            n_columns,
            packed.shape[1],
            scales.shape[1],
            HAS_GLOBAL=of_tensor is not None,
            GROUP=group_size,
            ROWS=rows,
            COLUMNS=columns,
            enable_fp_fusion=False,
        )
    return weight
