"""Rounding to E4M3 and E2M1 numbers in CUDA kernels; imported only where Triton can run.

Plain operations read and write whole tensors for each step of a rounding: the size, the largest of
what shares a scale, the scale, a division, a clamp, a conversion. Here each is one pass over the
inputs. The arithmetic is that of `fp8_linear` and `fp4_grid`, operation by operation: IEEE
division, nothing fused, ties to the even code. So the bits are equal, and NaN stays NaN.

Numbers are rounded and told by their bits and by arithmetic, not by a GPU's conversions of eight or
four bits: those exist on some GPUs alone. The functions without wrapper are for other kernels.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

NUMBERS_PER_PROGRAM = 2048
# What a program holds of a token at once; wider tokens are read twice.
WIDEST_TOKEN = 8192
MOST_SHARED = 16  # tokens, each of which several programs encode


@triton.jit
def nearest(x):
    """x rounded to the nearest whole number, halves to the even; right for |x| < 2^22."""
    # Adding 1.5 * 2^23 leaves no room for a fraction.
    return (x + 12582912.0) - 12582912.0


@triton.jit
def size_bits(x):
    """The bits of |x|, int32: they are ordered as the sizes are, with NaN above all."""
    return x.to(tl.int32, bitcast=True) & 0x7FFFFFFF


@triton.jit
def e4m3_codes(x):
    """The E4M3 codes, uint8, of float32 numbers of at most 448: as PyTorch converts them."""
    size = size_bits(x)
    # Twenty bits of the mantissa go, and what carries over belongs to the exponent, whose bias
    # changes from 127 to 7.
    normal = ((size + 0x7FFFF + ((size >> 20) & 1)) >> 20) - 960
    # Below 2^-6 numbers lie 2^-9 apart, as float32 numbers do from 2^14 on.
    small = (size.to(tl.float32, bitcast=True) + 16384.0).to(tl.int32, bitcast=True) - 0x46800000
    code = tl.where(size < 0x3C800000, small, normal)
    code = tl.where(size > 0x7F800000, 0x7F, code)
    return (code | ((x.to(tl.int32, bitcast=True) >> 24) & 0x80)).to(tl.uint8)


@triton.jit
def e4m3_numbers(codes):
    """What E4M3 codes, uint8, stand for, float32."""
    code = codes.to(tl.int32)
    # As float16, whose exponent's bias is 15, the same bits are 2^-8 of the number.
    half = (((code & 0x80) << 8) | ((code & 0x7F) << 7)).to(tl.int16)
    number = half.to(tl.float16, bitcast=True).to(tl.float32) * 256.0
    return tl.where((code & 0x7F) == 0x7F, float("nan"), number)


@triton.jit
def e2m1_numbers(codes):
    """What E2M1 codes 0 to 15 stand for, float32."""
    code = codes.to(tl.int32)
    # As float16 the same bits are 2^-14 of the number, 1/2 as a subnormal.
    half = (((code & 8) << 12) | ((code & 7) << 9)).to(tl.int16)
    return half.to(tl.float16, bitcast=True).to(tl.float32) * 16384.0


@triton.jit
def round_e2m1(x):
    """float32 numbers rounded to E2M1, as `fp4_grid.round_e2m1` does: -0.1 becomes -0."""
    size = tl.abs(x)
    size = tl.where(size > 6.0, 6.0, size)  # not NaN
    step = tl.where(size < 2.0, 0.5, tl.where(size < 4.0, 1.0, 2.0))
    inverse = tl.where(size < 2.0, 2.0, tl.where(size < 4.0, 1.0, 0.5))
    rounded = nearest(size * inverse) * step
    sign = x.to(tl.int32, bitcast=True) & -0x80000000
    return (size_bits(rounded) | sign).to(tl.float32, bitcast=True)


@triton.jit
def group_scale(octets, of_tensor, HAS_GLOBAL: tl.constexpr):
    """`Fp4Format.scales`: what a group's codes are multiplied by, float32, of its uint8 scale."""
    if HAS_GLOBAL:
        return tl.div_rn(e4m3_numbers(octets), of_tensor)
    power = octets.to(tl.int32)
    return tl.where(power == 0, 1 << 22, power << 23).to(tl.float32, bitcast=True)


@triton.jit
def group_octets(largest, of_tensor, HAS_GLOBAL: tl.constexpr):
    """`Fp4Format.scale_bytes`: the uint8 scale of groups by their largest size, float32."""
    if HAS_GLOBAL:
        scale = tl.div_rn(largest, tl.full(largest.shape, 6.0, tl.float32)) * of_tensor
        octets = e4m3_codes(tl.where(scale > 448.0, 448.0, scale))
        return tl.where(octets == 0, 0x20, octets).to(tl.uint8)
    bits = size_bits(largest)
    # Two powers below the number's own, one more from 7/4 of a power on; 2^-127 is the least.
    power = (bits >> 23) - 2 + ((bits & 0x7FFFFF) >= 0x600000).to(tl.int32)
    return tl.minimum(tl.maximum(power, 0), 254).to(tl.uint8)


@triton.jit
def _clamped_codes(values, scale):
    quotient = tl.div_rn(values, scale)
    quotient = tl.where(quotient > 448.0, 448.0, tl.where(quotient < -448.0, -448.0, quotient))
    return e4m3_codes(quotient)


@triton.jit
def _scale_of(largest_bits):
    largest = largest_bits.to(tl.float32, bitcast=True)
    scale = tl.div_rn(largest, tl.full(largest.shape, 448.0, tl.float32))
    return tl.where(scale == 0.0, 1.1920928955078125e-07, scale)


@triton.jit
def _token_kernel(
    inputs_ptr,
    codes_ptr,
    scales_ptr,
    n_columns,
    inputs_stride,
    COLUMNS: tl.constexpr,
    ENCODED: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, COLUMNS)
    inputs, codes = inputs_ptr + token * inputs_stride, codes_ptr + token * n_columns
    largest = tl.zeros((COLUMNS,), dtype=tl.int32)
    for start in range(0, n_columns, COLUMNS):
        inside = start + columns < n_columns
        values = tl.load(inputs + start + columns, mask=inside, other=0.0).to(tl.float32)
        largest = tl.maximum(largest, size_bits(values))
    scale = _scale_of(tl.max(largest, axis=0, keep_dims=True))
    tl.store(scales_ptr + token + tl.arange(0, 1), scale)
    columns = tl.arange(0, ENCODED)
    for start in range(tl.program_id(1) * ENCODED, n_columns, tl.num_programs(1) * ENCODED):
        inside = start + columns < n_columns
        values = tl.load(inputs + start + columns, mask=inside, other=0.0).to(tl.float32)
        tl.store(codes + start + columns, _clamped_codes(values, scale), mask=inside)


@triton.jit
def _group_kernel(
    inputs_ptr,
    codes_ptr,
    scales_ptr,
    n_tokens,
    n_columns,
    n_groups,
    inputs_stride,
    scales_token_stride,
    scales_group_stride,
    FIXED: tl.constexpr,
    GROUPS: tl.constexpr,
    GROUP: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    groups = tl.program_id(1) * GROUPS + tl.arange(0, GROUPS)
    columns = groups[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
    inside = columns < n_columns
    # Tokens behind the last are there because the product wants a multiple of some: zeros.
    read = inside & (token < n_tokens)
    values = tl.load(inputs_ptr + token * inputs_stride + columns, mask=read, other=0.0)
    values = values.to(tl.float32)
    if FIXED:
        scale = tl.load(scales_ptr + tl.zeros((GROUPS,), dtype=tl.int32)).to(tl.float32)
    else:
        scale = _scale_of(tl.max(size_bits(values), axis=1))
        place = scales_ptr + token * scales_token_stride + groups * scales_group_stride
        tl.store(place, scale, mask=groups < n_groups)
    codes = _clamped_codes(values, tl.broadcast_to(scale[:, None], (GROUPS, GROUP)))
    tl.store(codes_ptr + token * n_columns + columns, codes, mask=inside)


@triton.jit
def _e2m1_kernel(
    inputs_ptr,
    of_tensor_ptr,
    outputs_ptr,
    n_columns,
    inputs_stride,
    HAS_GLOBAL: tl.constexpr,
    GROUPS: tl.constexpr,
    GROUP: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    groups = tl.program_id(1) * GROUPS + tl.arange(0, GROUPS)
    columns = groups[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
    inside = columns < n_columns
    values = tl.load(inputs_ptr + token * inputs_stride + columns, mask=inside, other=0.0)
    values = values.to(tl.float32)
    largest = tl.max(size_bits(values), axis=1).to(tl.float32, bitcast=True)
    of_tensor = largest
    if HAS_GLOBAL:
        of_tensor = tl.load(of_tensor_ptr + tl.zeros((GROUPS,), dtype=tl.int32))
    octets = group_octets(largest, of_tensor, HAS_GLOBAL)
    scale = tl.broadcast_to(group_scale(octets, of_tensor, HAS_GLOBAL)[:, None], (GROUPS, GROUP))
    rounded = round_e2m1(tl.div_rn(values, scale)) * scale
    rounded = rounded.to(outputs_ptr.dtype.element_ty)
    tl.store(outputs_ptr + token * n_columns + columns, rounded, mask=inside)


def _rows(inputs: Tensor) -> Tensor:
    """Return inputs [tokens, n] whose rows are each in one piece."""
    return inputs if inputs.stride(1) == 1 else inputs.contiguous()


def round_tokens(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return codes E4M3 of inputs [tokens, n] and the scales float32 [tokens, 1], one a token."""
    inputs = _rows(inputs)
    n_tokens, n_columns = inputs.shape
    codes = torch.empty(inputs.shape, dtype=torch.uint8, device=inputs.device)
    scales = torch.empty(n_tokens, 1, dtype=torch.float32, device=inputs.device)
    width = min(WIDEST_TOKEN, triton.next_power_of_2(n_columns))
    # Few tokens leave processors idle: several look for a token's largest, each encodes a part.
    shared = n_tokens <= MOST_SHARED and width > NUMBERS_PER_PROGRAM
    encoded = NUMBERS_PER_PROGRAM if shared else width
    if inputs.numel():
        with torch.cuda.device_of(inputs):
            _token_kernel[(n_tokens, triton.cdiv(n_columns, encoded) if shared else 1)](
                inputs,
                codes,
                scales,
                n_columns,
                inputs.stride(0),
                COLUMNS=width,
                ENCODED=encoded,
                num_warps=8,
                enable_fp_fusion=False,
            )
    return codes.view(torch.float8_e4m3fn), scales


def round_groups(inputs: Tensor, group_size: int, n_rows: int) -> tuple[Tensor, Tensor]:
    """Return codes E4M3 [n_rows, n] of inputs [tokens, n], the scales float32 [n_rows, groups].

    Rows behind the tokens are zeros. Scales lie in memory group by group, as the product of blocks
    reads them.
    """
    n_groups = -(-inputs.shape[1] // group_size)
    scales = torch.empty(n_groups, n_rows, dtype=torch.float32, device=inputs.device).t()
    return _grouped(inputs, scales, group_size, n_rows, fixed=False), scales


def round_fixed(inputs: Tensor, scale: Tensor) -> Tensor:
    """Return codes E4M3 of inputs [tokens, n] by one ``scale`` [1] for all."""
    return _grouped(inputs, scale.reshape(1, 1), NUMBERS_PER_PROGRAM, len(inputs), fixed=True)


def _grouped(
    inputs: Tensor, scales: Tensor, group_size: int, n_rows: int, *, fixed: bool
) -> Tensor:
    inputs = _rows(inputs)
    n_tokens, n_columns = inputs.shape
    codes = torch.empty(n_rows, n_columns, dtype=torch.uint8, device=inputs.device)
    n_groups, groups = -(-n_columns // group_size), NUMBERS_PER_PROGRAM // group_size
    if codes.numel():
        with torch.cuda.device_of(inputs):
            _group_kernel[(n_rows, triton.cdiv(n_groups, groups))](
                inputs,
                codes,
                scales,
                n_tokens,
                n_columns,
                n_groups,
                inputs.stride(0),
                scales.stride(0),
                scales.stride(1),
                FIXED=fixed,
                GROUPS=groups,
                GROUP=group_size,
                enable_fp_fusion=False,
            )
    return codes.view(torch.float8_e4m3fn)


def rounded_e2m1(inputs: Tensor, of_tensor: Tensor | None, group_size: int) -> Tensor:
    """Return what `Fp4Format.rounded` leaves of inputs [..., n], of their dtype.

    ``of_tensor`` is NVFP4's g, float32 [1]; None is MXFP4.
    """
    flat = _rows(inputs.reshape(-1, inputs.shape[-1]))
    n_tokens, n_columns = flat.shape
    outputs = torch.empty(flat.shape, dtype=inputs.dtype, device=inputs.device)
    groups = NUMBERS_PER_PROGRAM // group_size
    if outputs.numel():
        with torch.cuda.device_of(inputs):
            _e2m1_kernel[(n_tokens, triton.cdiv(n_columns, groups * group_size))](
                flat,
                flat if of_tensor is None else of_tensor,
                outputs,
                n_columns,
                flat.stride(0),
                HAS_GLOBAL=of_tensor is not None,
                GROUPS=groups,
                GROUP=group_size,
                enable_fp_fusion=False,
            )
    return outputs.reshape(inputs.shape)
