"""W8A8 times a few tokens as two CUDA kernels; imported only where Triton can run.

As in `few_tokens`, what counts is the bytes read for a token. The first kernel rounds the inputs,
the second multiplies integers.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from benchsuite.quantizers.formats.rounding_kernels import size_bits

# Sixteen bytes for each of 128 threads, in rows of this many columns at most.
BYTES_PER_STEP, WIDEST_STEP = 2048, 2048


@triton.jit
def _token_codes_kernel(inputs_ptr, codes_ptr, scales_ptr, n_columns, step, COLUMNS: tl.constexpr):
    token, columns = tl.program_id(0), tl.arange(0, COLUMNS)
    inside = columns < n_columns
    values = tl.load(inputs_ptr + token * n_columns + columns, mask=inside, other=0.0)
    values = values.to(tl.float32)
    # By their bits, so that NaN is the largest: then it is the scale, as with plain operations.
    scale = tl.max(size_bits(values), axis=0).to(tl.float32, bitcast=True) * step
    scale = tl.where(scale == 0.0, 1.0, scale)
    # Adding 1.5 * 2^23 leaves no room for a fraction: halves go to the even, as PyTorch rounds.
    codes = (tl.div_rn(values, scale) + 12582912.0) - 12582912.0
    codes = tl.where(codes == codes, codes, 0.0)
    codes = tl.minimum(tl.maximum(codes, -128.0), 127.0).to(tl.int8)
    tl.store(codes_ptr + token * n_columns + columns, codes, mask=inside)
    tl.store(scales_ptr + token, scale)


@triton.jit
def _integer_kernel(
    codes_ptr,
    token_scales_ptr,
    weight_ptr,
    scales_ptr,
    outputs_ptr,
    n_rows,
    n_columns,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    token = tl.program_id(1)
    real = rows < n_rows
    starts = weight_ptr + rows.to(tl.int64)[:, None] * n_columns
    sums = tl.zeros((ROWS, COLUMNS), dtype=tl.int32)
    for start in range(0, n_columns, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        inside = columns < n_columns
        both = real[:, None] & inside[None, :]
        weights = tl.load(starts + columns[None, :], mask=both, other=0).to(tl.int32)
        part = tl.load(codes_ptr + token * n_columns + columns, mask=inside, other=0)
        sums += weights * part.to(tl.int32)[None, :]
    total = tl.sum(sums, axis=1).to(tl.float32) * tl.load(token_scales_ptr + token)
    total = total * tl.load(scales_ptr + rows, mask=real, other=0.0).to(tl.float32)
    total = total.to(outputs_ptr.dtype.element_ty)
    tl.store(outputs_ptr + token * n_rows + rows, total, mask=real)


def round_tokens(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return codes int8 of inputs [tokens, in] and scales float32 [tokens, 1], one a token.

    The same bits as ``activations.quantize_per_token``.
    """
    inputs = inputs.contiguous()
    n_tokens, n_columns = inputs.shape
    codes = torch.empty(inputs.shape, dtype=torch.int8, device=inputs.device)
    scales = torch.empty(n_tokens, 1, dtype=torch.float32, device=inputs.device)
    width = triton.next_power_of_2(n_columns)
    with torch.cuda.device_of(inputs):
        _token_codes_kernel[(n_tokens,)](
            inputs, codes, scales, n_columns, 1 / 127, COLUMNS=width, num_warps=8
        )
    return codes, scales


def integer_product(
    codes: Tensor,
    token_scales: Tensor,
    weight: Tensor,
    scales: Tensor,
    bias: Tensor | None,
    *,
    dtype: torch.dtype,
) -> Tensor:
    """Return tokens, ``codes`` int8 [tokens, in], times ``weight`` int8 [out, in], of ``dtype``.

    The same bits as ``int8.Int8Linear`` without this kernel: sums in int32, scaled by
    ``token_scales`` [tokens, 1] and then by ``scales`` [out, 1] in float32.
    """
    codes = codes.contiguous()
    (n_tokens, n_columns), n_rows = codes.shape, len(weight)
    # A bias is added in float32 by PyTorch: a kernel would fuse it with the scale and round once.
    made = dtype if bias is None else torch.float32
    outputs = torch.empty(n_tokens, n_rows, dtype=made, device=codes.device)
    columns = min(WIDEST_STEP, triton.next_power_of_2(n_columns))
    rows = max(1, BYTES_PER_STEP // columns)
    with torch.cuda.device_of(codes):
        _integer_kernel[(triton.cdiv(n_rows, rows), n_tokens)](
            codes,
            token_scales,
            weight,
            scales,
            outputs,
            n_rows,
            n_columns,
            ROWS=rows,
            COLUMNS=columns,
        )
    return outputs if bias is None else outputs.add_(bias).to(dtype)
