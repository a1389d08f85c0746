"""E4M3 weights times a few tokens in E4M3 as one CUDA kernel; imported only where Triton can run.

As in `few_tokens`, what counts is the bytes read for a token: one a weight, which
``torch._scaled_mm`` reads slowly for so few tokens. A thread reads sixteen bytes of each of four
rows at once. What it does with them must be little too: a code becomes a float32 by two shifts and
a mask on its word of four. No GPU with FP8 units is needed.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F

from benchsuite.quantizers.formats.few_tokens import tokens_at_once
from benchsuite.quantizers.formats.packing import words

ROWS_PER_PROGRAM = 4
WORDS_PER_WARP = 128  # of a row: sixteen bytes for each of 32 threads
MOST_WARPS = 4
BLOCK = 128  # as in `fp8_linear`, which calls this module
# Codes are decoded as 2^-120 of their numbers. What brings inputs up, and products of the two.
LIFT, REST = tl.constexpr(2.0**127), tl.constexpr(2.0**113)


@triton.jit
def _numbers(codes):
    """2^-120 of what the four E4M3 codes of each int32 stand for, float32, the lowest byte first.

    As float32, whose exponent's bias is 127 and not 7, a code's bits are 2^-120 of its number, the
    small ones as subnormals. The sign's copies on the way there are masked. No code 0x7F is one.
    """
    first = ((codes << 24) >> 4) & -0x78100000
    second = ((codes << 16) >> 4) & -0x78100000
    third = ((codes << 8) >> 4) & -0x78100000
    fourth = (codes >> 4) & -0x78100000
    return (
        first.to(tl.float32, bitcast=True),
        second.to(tl.float32, bitcast=True),
        third.to(tl.float32, bitcast=True),
        fourth.to(tl.float32, bitcast=True),
    )


@triton.jit
def _plus_product(
    sums,
    first,
    second,
    third,
    fourth,
    codes_ptr,
    token_scales_ptr,
    block_scales,
    token,
    n_tokens,
    word,
    row_words,
    block,
    n_blocks,
    token_stride,
    block_stride,
    PER_BLOCK: tl.constexpr,
):
    inside = (word < row_words) & (token < n_tokens)
    codes = tl.load(codes_ptr + token * row_words + word, mask=inside, other=0)
    a, b, c, d = _numbers(codes)
    # By 2^127, so that products are 2^-113 of what they stand for, multiples of 2^-131.
    a, b, c, d = a * LIFT, b * LIFT, c * LIFT, d * LIFT
    # A code 0x7F is no number: a word with one of them makes the token's outputs none.
    a = tl.where(((codes & 0x7F7F7F7F) + 0x01010101) & -0x7F7F7F80 != 0, float("nan"), a)
    # Products of two E4M3 numbers are exact in float32; the order of their sums is written here.
    part = first * a[None, :]
    part = tl.fma(second, tl.broadcast_to(b[None, :], second.shape), part)
    part = tl.fma(third, tl.broadcast_to(c[None, :], third.shape), part)
    part = tl.fma(fourth, tl.broadcast_to(d[None, :], fourth.shape), part)
    part = tl.sum(tl.reshape(part, (sums.shape[0], sums.shape[1], 4)), axis=2)
    if PER_BLOCK:
        place = token_scales_ptr + token * token_stride + block * block_stride
        known = (block < n_blocks) & (token < n_tokens)
        scale = tl.load(place, mask=known, other=0.0) * block_scales
        part = part * REST * scale[None, :]
    return sums + part


@triton.jit
def _store(
    sums,
    token_scales_ptr,
    row_scales,
    bias_ptr,
    outputs_ptr,
    token,
    n_tokens,
    rows,
    n_rows,
    token_stride,
    PER_BLOCK: tl.constexpr,
    HAS_BIAS: tl.constexpr,
):
    there = (rows < n_rows) & (token < n_tokens)
    total = tl.sum(sums, axis=1)
    if not PER_BLOCK:
        scale = tl.load(token_scales_ptr + token * token_stride, mask=token < n_tokens, other=0.0)
        total = total * REST * scale * row_scales
    if HAS_BIAS:
        total += tl.load(bias_ptr + rows, mask=there, other=0.0).to(tl.float32)
    place = outputs_ptr + token * n_rows + rows
    tl.store(place, total.to(outputs_ptr.dtype.element_ty), mask=there)


@triton.jit
def _product_kernel(
    codes_ptr,
    token_scales_ptr,
    weight_ptr,
    scales_ptr,
    bias_ptr,
    outputs_ptr,
    n_tokens,
    n_rows,
    row_words,
    n_blocks,
    token_stride,
    block_stride,
    row_stride,
    PER_BLOCK: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    BLOCK_WORDS: tl.constexpr,
    ROWS: tl.constexpr,
    WORDS: tl.constexpr,
    TOKENS: tl.constexpr,
):
    PIECES: tl.constexpr = WORDS // 4
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    token = tl.program_id(1) * TOKENS
    real = rows < n_rows
    starts = weight_ptr + rows.to(tl.int64)[:, None] * row_words
    one = tl.zeros((ROWS, PIECES), dtype=tl.float32)
    two, three, four = one, one, one
    for start in range(0, row_words, WORDS):
        word = start + tl.arange(0, WORDS)
        inside = real[:, None] & (word < row_words)[None, :]
        a, b, c, d = _numbers(tl.load(starts + word[None, :], mask=inside, other=0))
        # The rows of a program lie in one block, and so do the sixteen columns of a piece.
        block = (start + 4 * tl.arange(0, PIECES)) // BLOCK_WORDS
        block_scales = tl.full((PIECES,), 1.0, tl.float32)
        if PER_BLOCK:
            of_rows = scales_ptr + tl.program_id(0) * ROWS // (4 * BLOCK_WORDS) * n_blocks
            block_scales = tl.load(of_rows + block, mask=block < n_blocks, other=0.0)
            block_scales = block_scales.to(tl.float32)
        one = _plus_product(
            one, a, b, c, d, codes_ptr, token_scales_ptr, block_scales, token, n_tokens, word,
            row_words, block, n_blocks, token_stride, block_stride, PER_BLOCK,
        )  # fmt: skip
        if TOKENS > 1:
            two = _plus_product(
                two, a, b, c, d, codes_ptr, token_scales_ptr, block_scales, token + 1, n_tokens,
                word, row_words, block, n_blocks, token_stride, block_stride, PER_BLOCK,
            )  # fmt: skip
        if TOKENS > 2:
            three = _plus_product(
                three, a, b, c, d, codes_ptr, token_scales_ptr, block_scales, token + 2, n_tokens,
                word, row_words, block, n_blocks, token_stride, block_stride, PER_BLOCK,
            )  # fmt: skip
            four = _plus_product(
                four, a, b, c, d, codes_ptr, token_scales_ptr, block_scales, token + 3, n_tokens,
                word, row_words, block, n_blocks, token_stride, block_stride, PER_BLOCK,
            )  # fmt: skip
    row_scales = tl.full((ROWS,), 1.0, tl.float32)
    if not PER_BLOCK:
        row_scales = tl.load(scales_ptr + rows * row_stride, mask=real, other=0.0).to(tl.float32)
    _store(
        one, token_scales_ptr, row_scales, bias_ptr, outputs_ptr, token, n_tokens, rows, n_rows,
        token_stride, PER_BLOCK, HAS_BIAS,
    )  # fmt: skip
    if TOKENS > 1:
        _store(
            two, token_scales_ptr, row_scales, bias_ptr, outputs_ptr, token + 1, n_tokens, rows,
            n_rows, token_stride, PER_BLOCK, HAS_BIAS,
        )  # fmt: skip
    if TOKENS > 2:
        _store(
            three, token_scales_ptr, row_scales, bias_ptr, outputs_ptr, token + 2, n_tokens, rows,
            n_rows, token_stride, PER_BLOCK, HAS_BIAS,
        )  # fmt: skip
        _store(
            four, token_scales_ptr, row_scales, bias_ptr, outputs_ptr, token + 3, n_tokens, rows,
            n_rows, token_stride, PER_BLOCK, HAS_BIAS,
        )  # fmt: skip


def product(
    codes: Tensor,
    token_scales: Tensor,
    packed: Tensor,
    scales: Tensor,
    bias: Tensor | None,
    *,
    n_tokens: int,
    scheme: str,
    dtype: torch.dtype,
) -> Tensor:
    """Return what the first ``n_tokens`` rows of ``codes`` make of the weight [out, in], of
    ``dtype`` [tokens, out].

    ``codes`` E4M3 [n_tokens or more, in] and ``token_scales`` float32 are those of
    `fp8_linear.Fp8Linear.round_inputs`, ``packed``, ``scales`` and ``bias`` those of the layer.
    Sums are float32, their scales applied once to a whole sum, in the scheme ``block`` to that of
    sixteen columns, and the result is rounded once. Deterministic: no sum depends on what runs
    beside it.
    """
    n_rows, row_bytes = packed.shape
    per_block = scheme == "block"
    codes = codes[:n_tokens].view(torch.uint8)
    if codes.shape[1] < row_bytes:  # packed rows come in eights
        codes = F.pad(codes, (0, row_bytes - codes.shape[1]))
    outputs = torch.empty(n_tokens, n_rows, dtype=dtype, device=packed.device)
    warps = min(MOST_WARPS, triton.next_power_of_2(triton.cdiv(row_bytes, 4 * WORDS_PER_WARP)))
    rows, tokens = ROWS_PER_PROGRAM, tokens_at_once(n_tokens)
    one_each = scheme == "static"
    if n_tokens:
        with torch.cuda.device_of(packed):
            _product_kernel[(triton.cdiv(n_rows, rows), triton.cdiv(n_tokens, tokens))](
                words(codes),
                token_scales,
                words(packed),
                scales,
                outputs if bias is None else bias,
                outputs,
                n_tokens,
                n_rows,
                row_bytes // 4,
                scales.shape[1] if per_block else 1,
                0 if one_each else token_scales.stride(0),
                token_scales.stride(1) if per_block else 0,
                0 if one_each else 1,
                PER_BLOCK=per_block,
                HAS_BIAS=bias is not None,
                BLOCK_WORDS=BLOCK // 4,
                ROWS=rows,
                WORDS=warps * WORDS_PER_WARP,
                TOKENS=tokens,
                num_warps=warps,
                enable_fp_fusion=False,
            )
    return outputs
