"""Packed weights times a few tokens as one CUDA kernel; imported only where Triton can run.

Generating one token after another reads every weight once per token and computes little, so what
counts is the bytes read: the packed codes here, not a weight that was unpacked to memory before.
Codes of any width from 2 to 8 bits are taken from their bit stream (``packing``) in registers. Of
4 and 8 bits in groups that follow each other a thread takes eight columns of each of four rows at
once, as one word, and unpacks them for up to four tokens; other widths and orders take a byte, a
scale and a token at a time. For a weight of 8 billion there is a quarter of a picosecond a token.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from benchsuite.quantizers.formats.packing import words

ROWS_PER_PROGRAM = 4
COLUMNS_PER_STEP = 512
WORDS_PER_STEP = 128  # of eight columns, one for each thread
FEW_ROWS = 1024  # Up to here programs take half the rows and twice the words: else they are few.
TWO_TO_23 = 0x4B000000
"""The bits of 2^23 as a float32: the numbers from there to 2^24 are its integers."""
PACKS = not triton.knobs.runtime.interpret
"""Whether a line of assembler rounds to bfloat16, which the interpreter cannot read."""


def tokens_at_once(n_tokens: int) -> int:
    """Return for how many tokens a program unpacks its weights: more need too many registers."""
    return min(4, triton.next_power_of_2(n_tokens))


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
def _eight_inputs(inputs_ptr, token, n_tokens, word, n_columns, WORDS: tl.constexpr):
    """The inputs of words of eight columns, as four pairs of neighbours [words, 2], float32."""
    columns = word[:, None] * 8 + tl.arange(0, 8)[None, :]
    inside = (columns < n_columns) & (token < n_tokens)
    part = tl.load(inputs_ptr + token * n_columns + columns, mask=inside, other=0.0)
    low, high = tl.split(tl.permute(tl.reshape(part, (WORDS, 2, 2, 2)), (0, 3, 2, 1)))
    first, second = tl.split(low)
    third, fourth = tl.split(high)
    return (
        first.to(tl.float32),
        second.to(tl.float32),
        third.to(tl.float32),
        fourth.to(tl.float32),
    )


@triton.jit
def _level(part, zero, exponent, WHOLE: tl.constexpr, BIT: tl.constexpr, BITS: tl.constexpr):
    """2^BIT times (code - zero), float32, of the codes that begin at ``BIT`` of each int32.

    A code is put into the mantissa of 2^23, where its place is the number's own, and 2^23 taken
    away: the units that turn integers into numbers are few.
    """
    held = ((part & (((1 << BITS) - 1) << BIT)) | exponent).to(tl.float32, bitcast=True)
    if WHOLE:  # and so exact in one difference
        return held - (8388608.0 + zero * (1 << BIT))
    return (held - 8388608.0) - zero * (1 << BIT)


@triton.jit
def _pair_of_weights(
    codes, scale, zero, exponent, dtype: tl.constexpr, WHOLE: tl.constexpr, PAIR: tl.constexpr,
    BITS: tl.constexpr, PACKS: tl.constexpr,
):  # fmt: skip
    """The weights of two neighbouring columns of each word, float32 [rows, words, 2].

    They are rounded to ``dtype`` as the unpacked weight is, so that only the order of the sums
    differs. A code's place is a power of 2, which its scale takes back without a rounding.
    """
    BIT: tl.constexpr = 2 * PAIR * BITS % 16
    part = (codes >> (2 * PAIR * BITS - BIT)).to(tl.int32)
    one = _level(part, zero, exponent, WHOLE, BIT, BITS) * (scale * (1 / (1 << BIT)))
    two = _level(part, zero, exponent, WHOLE, BIT + BITS, BITS) * (scale * (1 / (1 << BIT + BITS)))
    both = tl.join(one, two)
    if dtype == tl.bfloat16 and PACKS:
        # Triton rounds one number at a time to bfloat16, which takes a slow unit.
        both = tl.inline_asm_elementwise(
            "cvt.rn.bf16x2.f32 $0, $2, $1;", "=r,r,r", [both], tl.bfloat16, is_pure=True, pack=2
        )
    return both.to(dtype).to(tl.float32)


@triton.jit
def _grouped_kernel(
    inputs_ptr,
    words_ptr,
    scales_ptr,
    zeros_ptr,
    outputs_ptr,
    n_tokens,
    n_rows,
    n_columns,
    row_words,
    n_groups,
    nothing,
    exponent,
    GROUP_WORDS: tl.constexpr,
    BITS: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    PACKS: tl.constexpr,
    ROWS: tl.constexpr,
    WORDS: tl.constexpr,
    TOKENS: tl.constexpr,
):
    dtype: tl.constexpr = inputs_ptr.dtype.element_ty
    WHOLE: tl.constexpr = SYMMETRIC or not zeros_ptr.dtype.element_ty.is_floating()
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    token = tl.program_id(1) * TOKENS
    # Laid end to end, so that a thread has the same word of each row, and that word's inputs. Of
    # two dimensions Triton 3.6 gives neighbouring threads neighbouring rows.
    place = tl.arange(0, ROWS * WORDS)
    row = tl.program_id(0) * ROWS + place // WORDS
    starts = words_ptr + row.to(tl.int64) * row_words
    first = tl.zeros((ROWS, WORDS, 2), dtype=tl.float32)
    second, third, fourth = first, first, first
    for start in range(0, row_words, WORDS):
        # ``nothing`` is 0, which Triton does not know. If it saw that words are neighbours it would
        # give a thread four of them but one word's inputs, and send all weights to other threads.
        at = start + ((place % WORDS) ^ nothing)
        there = (row < n_rows) & (at < row_words)
        codes = tl.reshape(tl.load(starts + at, mask=there, other=0), (ROWS, WORDS))
        parameter = row * n_groups + at // GROUP_WORDS
        scale = tl.load(scales_ptr + parameter, mask=there, other=0.0).to(tl.float32)
        scale = tl.reshape(scale, (ROWS, WORDS))
        if SYMMETRIC:
            zero = 1.0 * (1 << (BITS - 1))
        else:
            zero = tl.load(zeros_ptr + parameter, mask=there, other=0).to(tl.float32)
            zero = tl.reshape(zero, (ROWS, WORDS))
        word = start + (tl.arange(0, WORDS) ^ nothing)
        a = _eight_inputs(inputs_ptr, token, n_tokens, word, n_columns, WORDS)
        if TOKENS > 1:
            b = _eight_inputs(inputs_ptr, token + 1, n_tokens, word, n_columns, WORDS)
        if TOKENS > 2:
            c = _eight_inputs(inputs_ptr, token + 2, n_tokens, word, n_columns, WORDS)
            d = _eight_inputs(inputs_ptr, token + 3, n_tokens, word, n_columns, WORDS)
        for pair in tl.static_range(4):
            weights = _pair_of_weights(
                codes, scale, zero, exponent, dtype, WHOLE, pair, BITS, PACKS
            )
            first += weights * a[pair][None, :]
            if TOKENS > 1:
                second += weights * b[pair][None, :]
            if TOKENS > 2:
                third += weights * c[pair][None, :]
                fourth += weights * d[pair][None, :]
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
    inputs, n_rows = inputs.contiguous(), len(packed)
    outputs = torch.empty(len(inputs), n_rows, dtype=inputs.dtype, device=inputs.device)
    n_groups = scales.shape[1]
    weight = (packed, scales, zeros)
    with torch.cuda.device_of(inputs):
        if groups is None and bits in (4, 8) and (n_groups == 1 or group_size % 8 == 0):
            _run_by_words(outputs, inputs, *weight, bits=bits, group_size=group_size)
        else:
            _run_by_codes(outputs, inputs, *weight, groups, bits=bits, group_size=group_size)
    return outputs


def _run_by_words(
    outputs: Tensor,
    inputs: Tensor,
    packed: Tensor,
    scales: Tensor,
    zeros: Tensor | None,
    *,
    bits: int,
    group_size: int,
) -> None:
    """Fill ``outputs`` where eight neighbouring columns, of 4 or 8 bits, have one scale."""
    (n_tokens, n_columns), n_rows = inputs.shape, len(packed)
    # Eight codes of 4 or 8 bits each.
    eights = words(packed, torch.int32 if bits == 4 else torch.int64)
    (_, width), n_groups, tokens = eights.shape, scales.shape[1], tokens_at_once(n_tokens)
    halves = 2 if n_rows <= FEW_ROWS else 1
    rows, at_once = ROWS_PER_PROGRAM // halves, WORDS_PER_STEP * halves
    _grouped_kernel[(triton.cdiv(n_rows, rows), triton.cdiv(n_tokens, tokens))](
        inputs,
        eights,
        scales,
        scales if zeros is None else zeros,
        outputs,
        n_tokens,
        n_rows,
        n_columns,
        width,
        n_groups,
        0,
        TWO_TO_23,
        GROUP_WORDS=width if n_groups == 1 else group_size // 8,
        BITS=bits,
        SYMMETRIC=zeros is None,
        PACKS=PACKS,
        ROWS=rows,
        WORDS=min(at_once, triton.next_power_of_2(width)),
        TOKENS=tokens,
    )


def _run_by_codes(
    outputs: Tensor,
    inputs: Tensor,
    packed: Tensor,
    scales: Tensor,
    zeros: Tensor | None,
    groups: Tensor | None,
    *,
    bits: int,
    group_size: int,
) -> None:
    """Fill ``outputs`` for any width, group and order of columns."""
    (n_tokens, n_columns), n_rows = inputs.shape, len(packed)
    _product_kernel[(triton.cdiv(n_rows, ROWS_PER_PROGRAM), n_tokens)](
        inputs,
        packed,
        scales,
        scales if zeros is None else zeros,
        packed if groups is None else groups,
        outputs,
        n_rows,
        n_columns,
        packed.shape[1],
        scales.shape[1],
        group_size,
        BITS=bits,
        SYMMETRIC=zeros is None,
        ORDERED=groups is not None,
        ROWS=ROWS_PER_PROGRAM,
        COLUMNS=COLUMNS_PER_STEP,
    )


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
