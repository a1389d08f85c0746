"""Packed weights times a few tokens as one CUDA kernel; imported only where Triton can run.

Generating one token after another reads every weight once per token and computes little, so what
counts is the bytes read: the packed codes here, not a weight that was unpacked to memory before.
Codes of any width from 2 to 8 bits are taken from their bit stream (``packing``) in registers. Of
4 and 8 bits in groups that follow each other a thread reads sixteen bytes at once, a scale once a
group, and unpacks them for up to four tokens; other widths and orders take a byte, a scale and a
token at a time.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS_PER_PROGRAM = 4
COLUMNS_PER_STEP = 512
# Of whole groups: sixteen bytes for each of 128 threads, in rows of this many columns at most.
BYTES_PER_STEP, WIDEST_STEP = 2048, 2048
NARROWEST_PIECE = 32


def tokens_at_once(n_tokens: int) -> int:
    """Return for how many tokens a program unpacks its weights: more need too many registers."""
    return min(4, triton.next_power_of_2(n_tokens))


@triton.jit
def _plus_product(sums, weights, inputs_ptr, token, n_tokens, columns, n_columns):
    inside = (columns < n_columns) & (token < n_tokens)
    part = tl.load(inputs_ptr + token * n_columns + columns, mask=inside, other=0.0)
    return sums + weights * tl.reshape(part.to(tl.float32), (1, weights.shape[1], weights.shape[2]))


@triton.jit
def plus_products(
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
def _store_sum(sums, outputs_ptr, token, n_tokens, rows, n_rows):
    total = tl.sum(tl.sum(sums, axis=2), axis=1).to(outputs_ptr.dtype.element_ty)
    there = (rows < n_rows) & (token < n_tokens)
    tl.store(outputs_ptr + token * n_rows + rows, total, mask=there)


@triton.jit
def store_sums(
    first, second, third, fourth, outputs_ptr, token, n_tokens, rows, n_rows, TOKENS: tl.constexpr
):
    """Store the outputs of ``TOKENS`` tokens, their sums [rows, pieces, piece] over each row."""
    _store_sum(first, outputs_ptr, token, n_tokens, rows, n_rows)
    if TOKENS > 1:
        _store_sum(second, outputs_ptr, token + 1, n_tokens, rows, n_rows)
    if TOKENS > 2:
        _store_sum(third, outputs_ptr, token + 2, n_tokens, rows, n_rows)
        _store_sum(fourth, outputs_ptr, token + 3, n_tokens, rows, n_rows)


@triton.jit
def _grouped_kernel(
    inputs_ptr,
    packed_ptr,
    scales_ptr,
    zeros_ptr,
    outputs_ptr,
    n_tokens,
    n_rows,
    n_columns,
    row_bytes,
    n_groups,
    group_size,
    BITS: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    PIECE: tl.constexpr,
    TOKENS: tl.constexpr,
):
    PIECES: tl.constexpr = COLUMNS // PIECE
    BYTES: tl.constexpr = COLUMNS * BITS // 8
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    token = tl.program_id(1) * TOKENS
    real = rows < n_rows
    octets = packed_ptr + rows.to(tl.int64)[:, None] * row_bytes
    first = tl.zeros((ROWS, PIECES, PIECE), dtype=tl.float32)
    second, third, fourth = first, first, first
    for start in range(0, n_columns, COLUMNS):
        byte = start * BITS // 8 + tl.arange(0, BYTES)
        both = real[:, None] & (byte < row_bytes)[None, :]
        codes = tl.load(octets + byte[None, :], mask=both, other=0)
        if BITS == 4:
            codes = tl.reshape(tl.join(codes & 15, codes >> 4), (ROWS, COLUMNS))
        codes = tl.reshape(codes, (ROWS, PIECES, PIECE)).to(tl.float32)
        # A piece lies in one group; what reaches beyond the last column meets inputs of 0.
        edge = start + tl.arange(0, PIECES) * PIECE
        parameter = rows[:, None] * n_groups + (edge // group_size)[None, :]
        known = real[:, None] & (edge < n_columns)[None, :]
        scale = tl.load(scales_ptr + parameter, mask=known, other=0.0).to(tl.float32)
        if SYMMETRIC:
            levels = codes - (1 << (BITS - 1))
        else:
            zero = tl.load(zeros_ptr + parameter, mask=known, other=0).to(tl.float32)
            levels = codes - zero[:, :, None]
        # Rounded as the unpacked weight is, so that only the order of the sums differs.
        weights = (levels * scale[:, :, None]).to(inputs_ptr.dtype.element_ty).to(tl.float32)
        columns = start + tl.arange(0, COLUMNS)
        first, second, third, fourth = plus_products(
            first, second, third, fourth, weights, inputs_ptr, token, n_tokens, columns, n_columns,
            TOKENS,
        )  # fmt: skip
    store_sums(first, second, third, fourth, outputs_ptr, token, n_tokens, rows, n_rows, TOKENS)


@triton.jit
def _product_kernel(
    inputs_ptr,
    packed_ptr,
    scales_ptr,
    zeros_ptr,
    groups_ptr,
    outputs_ptr,
    n_rows,
    n_columns,
    row_bytes,
    n_groups,
    group_size,
    BITS: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    ORDERED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    token = tl.program_id(1)
    real = rows < n_rows
    sums = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for start in range(0, n_columns, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        inside = columns < n_columns
        both = real[:, None] & inside[None, :]
        bit = columns * BITS
        octet = packed_ptr + rows[:, None] * row_bytes + (bit >> 3)[None, :]
        word = tl.load(octet, mask=both, other=0).to(tl.int32)
        if 8 % BITS != 0:
            # A code may reach into the next byte; the last byte of a row has none after it.
            more = both & ((bit >> 3) + 1 < row_bytes)[None, :]
            word = word | (tl.load(octet + 1, mask=more, other=0).to(tl.int32) << 8)
        code = ((word >> (bit & 7)[None, :]) & ((1 << BITS) - 1)).to(tl.float32)
        if ORDERED:
            group = tl.load(groups_ptr + columns, mask=inside, other=0)
        else:
            group = columns // group_size
        parameter = rows[:, None] * n_groups + group[None, :]
        scale = tl.load(scales_ptr + parameter, mask=both, other=0.0).to(tl.float32)
        if SYMMETRIC:
            level = code - (1 << (BITS - 1))
        else:
            level = code - tl.load(zeros_ptr + parameter, mask=both, other=0).to(tl.float32)
        token_part = tl.load(inputs_ptr + token * n_columns + columns, mask=inside, other=0.0)
        # Rounded as the unpacked weight is, so that only the order of the sums differs.
        weight = (level * scale).to(token_part.dtype).to(tl.float32)
        sums += weight * token_part.to(tl.float32)[None, :]
    total = tl.sum(sums, axis=1)
    total = total.to(outputs_ptr.dtype.element_ty)
    tl.store(outputs_ptr + token * n_rows + rows, total, mask=real)


def product(
    inputs: Tensor,
    packed: Tensor,
    scales: Tensor,
    zeros: Tensor | None,
    groups: Tensor | None,
    *,
    bits: int,
    group_size: int,
) -> Tensor:
    """Return ``inputs`` [tokens, in] times the packed weight [out, in] transposed, [tokens, out].

    ``packed`` uint8 [out, packed bytes], ``scales`` and ``zeros`` [out, groups] (None: 2^(bits-1)),
    ``groups`` int32 [in] the group of each column (None: column // group_size). Sums are float32,
    the result has the inputs' dtype. Deterministic: no sum depends on what runs beside it.
    """
    inputs = inputs.contiguous()
    (n_tokens, n_columns), n_rows = inputs.shape, len(packed)
    outputs = torch.empty(n_tokens, n_rows, dtype=inputs.dtype, device=inputs.device)
    piece = _piece(n_columns, bits, group_size) if groups is None else 0
    tensors = (inputs, packed, scales, scales if zeros is None else zeros)
    sizes = (n_rows, n_columns, packed.shape[1], scales.shape[1], group_size)
    with torch.cuda.device_of(inputs):
        if piece:
            columns = min(WIDEST_STEP, triton.next_power_of_2(n_columns))
            rows = max(1, BYTES_PER_STEP * 8 // bits // columns)
            tokens = tokens_at_once(n_tokens)
            _grouped_kernel[(triton.cdiv(n_rows, rows), triton.cdiv(n_tokens, tokens))](
                *tensors,
                outputs,
                n_tokens,
                *sizes,
                BITS=bits,
                SYMMETRIC=zeros is None,
                ROWS=rows,
                COLUMNS=columns,
                PIECE=min(piece, columns),
                TOKENS=tokens,
            )
        else:
            _product_kernel[(triton.cdiv(n_rows, ROWS_PER_PROGRAM), n_tokens)](
                *tensors,
                packed if groups is None else groups,
                outputs,
                *sizes,
                BITS=bits,
                SYMMETRIC=zeros is None,
                ORDERED=groups is not None,
                ROWS=ROWS_PER_PROGRAM,
                COLUMNS=COLUMNS_PER_STEP,
            )
    return outputs


@triton.jit
def _unpacking_kernel(
    packed_ptr,
    scales_ptr,
    zeros_ptr,
    groups_ptr,
    weight_ptr,
    n_columns,
    row_bytes,
    n_groups,
    group_size,
    BITS: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    ORDERED: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = columns < n_columns
    bit = columns * BITS
    octet = packed_ptr + row * row_bytes + (bit >> 3)
    word = tl.load(octet, mask=inside, other=0).to(tl.int32)
    if 8 % BITS != 0:
        more = inside & ((bit >> 3) + 1 < row_bytes)
        word = word | (tl.load(octet + 1, mask=more, other=0).to(tl.int32) << 8)
    code = ((word >> (bit & 7)) & ((1 << BITS) - 1)).to(tl.float32)
    group = (
        tl.load(groups_ptr + columns, mask=inside, other=0) if ORDERED else columns // group_size
    )
    parameter = row * n_groups + group
    if SYMMETRIC:
        level = code - (1 << (BITS - 1))
    else:
        level = code - tl.load(zeros_ptr + parameter, mask=inside, other=0).to(tl.float32)
    weight = level * tl.load(scales_ptr + parameter, mask=inside, other=0.0).to(tl.float32)
    weight = weight.to(weight_ptr.dtype.element_ty)
    tl.store(weight_ptr + row * n_columns + columns, weight, mask=inside)


def unpacked(
    packed: Tensor,
    scales: Tensor,
    zeros: Tensor | None,
    groups: Tensor | None,
    *,
    bits: int,
    group_size: int,
    n_columns: int,
    dtype: torch.dtype,
) -> Tensor:
    """Return the weight [out, in] of ``dtype``, for products with many tokens: in one kernel.

    The arguments are those of ``product``. The same bits as
    ``QuantizedLinear.plainly_dequantized``.
    """
    weight = torch.empty(len(packed), n_columns, dtype=dtype, device=packed.device)
    with torch.cuda.device_of(packed):
        _unpacking_kernel[(len(packed), triton.cdiv(n_columns, COLUMNS_PER_STEP))](
            packed,
            scales,
            scales if zeros is None else zeros,
            packed if groups is None else groups,
            weight,
            n_columns,
            packed.shape[1],
            scales.shape[1],
            group_size,
            BITS=bits,
            SYMMETRIC=zeros is None,
            ORDERED=groups is not None,
            COLUMNS=COLUMNS_PER_STEP,
        )
    return weight


def _piece(n_columns: int, bits: int, group_size: int) -> int:
    """Return how many columns, a power of 2, surely share a scale; 0 where they are too few."""
    if bits not in (4, 8):
        return 0
    if group_size >= n_columns:
        return WIDEST_STEP
    piece = group_size & -group_size
    return piece if piece >= NARROWEST_PIECE else 0
