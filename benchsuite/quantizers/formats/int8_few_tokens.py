"""W8A8 times a few tokens as two CUDA kernels; imported only where Triton can run.

As in `few_tokens`, what counts is the bytes read for a token. The first kernel rounds the inputs,
the second multiplies integers.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

# Sixteen bytes for each of 128 threads, in rows of this many columns at most.
BYTES_PER_STEP, WIDEST_STEP = 2048, 2048


@triton.jit
def _token_codes_kernel(inputs_ptr, codes_ptr, scales_ptr, n_columns, step, COLUMNS: tl.constexpr):
    token, columns = tl.program_id(0), tl.arange(0, COLUMNS)
    inside = columns < n_columns
    values = tl.load(inputs_ptr + token * n_columns + columns, mask=inside, other=0.0)
    values = values.to(tl.float32)
    scale = tl.max(tl.abs(values), axis=0) * step
    scale = tl.where(scale == 0.0, 1.0, scale)
    # Adding 1.5 * 2^23 leaves no room for a fraction: halves go to the even, as PyTorch rounds.
    codes = (tl.div_rn(values, scale) + 12582912.0) - 12582912.0
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


def integer_product(inputs: Tensor, weight: Tensor, scales: Tensor, bias: Tensor | None) -> Tensor:
    """Return ``inputs`` [tokens, in], rounded per token, times ``weight`` int8 [out, in].

    The same bits as ``int8.Int8Linear`` without this kernel: codes by
    ``activations.quantize_per_token``, sums in int32, scaled by the token's scale and then by
    ``scales`` [out, 1] in float32. The result [tokens, out] has the inputs' dtype.
    """
    inputs = inputs.contiguous()
    (n_tokens, n_columns), n_rows = inputs.shape, len(weight)
    codes = torch.empty(n_tokens, n_columns, dtype=torch.int8, device=inputs.device)
    token_scales = torch.empty(n_tokens, dtype=torch.float32, device=inputs.device)
    # A bias is added in float32 by PyTorch: a kernel would fuse it with the scale and round once.
    dtype = inputs.dtype if bias is None else torch.float32
    outputs = torch.empty(n_tokens, n_rows, dtype=dtype, device=inputs.device)
    width = triton.next_power_of_2(n_columns)
    columns = min(WIDEST_STEP, width)
    rows = max(1, BYTES_PER_STEP // columns)
    with torch.cuda.device_of(inputs):
        _token_codes_kernel[(n_tokens,)](
            inputs, codes, token_scales, n_columns, 1 / 127, COLUMNS=width, num_warps=8
        )
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
    return outputs if bias is None else outputs.add_(bias).to(inputs.dtype)
