"""The element-wise chains of a Llama block as one CUDA kernel each; imported where Triton can run.

transformers runs a norm as six passes over memory, a rotary embedding as ten and a gate as two.
Here each is one, which reads its inputs once and writes its result once. Intermediate results are
rounded to the tensors' dtype where ``modeling_llama.py`` of transformers 5.17 stores them, with
PyTorch's exponential and division, so that rotary embedding and gate have equal bits, and a norm
differs by the order of one float32 sum. Tensors are fp16, bf16 or fp32, all on one GPU.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra import libdevice

# The gate at Llama-2-7B's shapes is as fast within 8 % with 1,024 to 8,192 (H200).
ELEMENTS_PER_PROGRAM = 2048


@triton.jit
def _rms_norm_kernel(
    x_ptr, weight_ptr, out_ptr, n_rows, width, eps, ROWS: tl.constexpr, WIDTH: tl.constexpr
):
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, WIDTH)
    inside = (rows < n_rows)[:, None] & (columns < width)[None, :]
    place = rows[:, None] * width + columns[None, :]
    stored = tl.load(x_ptr + place, mask=inside, other=0.0)
    x = stored.to(tl.float32)
    scale = tl.rsqrt(tl.sum(x * x, axis=1) / width + eps)
    normed = (x * scale[:, None]).to(stored.dtype).to(tl.float32)
    weight = tl.load(weight_ptr + columns, mask=columns < width, other=0.0).to(tl.float32)
    tl.store(out_ptr + place, (weight[None, :] * normed).to(stored.dtype), mask=inside)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return ``weight * x / sqrt(mean(x^2) + eps)`` for x [..., width] and weight [width].

    In float32, rounded to the dtype of ``x`` and ``weight`` before and after the product with the
    weight. RMSNorm: Zhang and Sennrich, 2019, arXiv:1910.07467.
    """
    x, weight = x.contiguous(), weight.contiguous()
    width = x.shape[-1]
    n_rows = x.numel() // width
    padded = triton.next_power_of_2(width)
    rows = max(1, ELEMENTS_PER_PROGRAM // padded)
    out = torch.empty_like(x)
    with torch.cuda.device_of(x):
        _rms_norm_kernel[(triton.cdiv(n_rows, rows),)](
            x,
            weight,
            out,
            n_rows,
            width,
            eps,
            ROWS=rows,
            WIDTH=padded,
            num_warps=4 if padded <= ELEMENTS_PER_PROGRAM else 8,
            enable_fp_fusion=False,
        )
    return out


@triton.jit
def _rotate_heads(
    x_ptr,
    out_ptr,
    head_stride,
    n_heads,
    half,
    cos_ptr,
    sin_ptr,
    HEADS: tl.constexpr,
    HALF: tl.constexpr,
):
    heads = tl.arange(0, HEADS)[:, None]
    columns = tl.arange(0, HALF)
    inside = (heads < n_heads) & (columns < half)[None, :]
    place = heads * head_stride + columns[None, :]
    first = tl.load(x_ptr + place, mask=inside, other=0.0)
    dtype = first.dtype
    first = first.to(tl.float32)
    second = tl.load(x_ptr + place + half, mask=inside, other=0.0).to(tl.float32)
    real = columns < half
    cos_first = tl.load(cos_ptr + columns, mask=real, other=0.0).to(tl.float32)[None, :]
    cos_second = tl.load(cos_ptr + half + columns, mask=real, other=0.0).to(tl.float32)[None, :]
    sin_first = tl.load(sin_ptr + columns, mask=real, other=0.0).to(tl.float32)[None, :]
    sin_second = tl.load(sin_ptr + half + columns, mask=real, other=0.0).to(tl.float32)[None, :]
    # Each product is rounded before the sum, as it is where it is stored.
    kept = (first * cos_first).to(dtype).to(tl.float32)
    turned = (-second * sin_first).to(dtype).to(tl.float32)
    tl.store(out_ptr + place, (kept + turned).to(dtype), mask=inside)
    kept = (second * cos_second).to(dtype).to(tl.float32)
    turned = (first * sin_second).to(dtype).to(tl.float32)
    tl.store(out_ptr + place + half, (kept + turned).to(dtype), mask=inside)


@triton.jit
def _rotate_kernel(
    q_ptr,
    k_ptr,
    q_out_ptr,
    k_out_ptr,
    cos_ptr,
    sin_ptr,
    q_batch_stride,
    q_head_stride,
    q_token_stride,
    k_batch_stride,
    k_head_stride,
    k_token_stride,
    angle_batch_stride,
    angle_token_stride,
    n_q_heads,
    n_k_heads,
    half,
    Q_HEADS: tl.constexpr,
    K_HEADS: tl.constexpr,
    HALF: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    batch = tl.program_id(1).to(tl.int64)
    angle = batch * angle_batch_stride + token * angle_token_stride
    cos_ptr, sin_ptr = cos_ptr + angle, sin_ptr + angle
    q = batch * q_batch_stride + token * q_token_stride
    _rotate_heads(
        q_ptr + q, q_out_ptr + q, q_head_stride, n_q_heads, half, cos_ptr, sin_ptr, Q_HEADS, HALF
    )
    k = batch * k_batch_stride + token * k_token_stride
    _rotate_heads(
        k_ptr + k, k_out_ptr + k, k_head_stride, n_k_heads, half, cos_ptr, sin_ptr, K_HEADS, HALF
    )


def rotate(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``x * cos + rotate_half(x) * sin`` for q and k [batch, heads, tokens, width].

    ``cos`` and ``sin`` are [batch or 1, tokens, width]; q and k may have different numbers of
    heads. Results lie in memory as q and k do, so that attention finds the layout it would have
    had. Rotary embedding: Su et al., 2021, arXiv:2104.09864, with the halves as pairs.
    """
    (q, q_out), (k, k_out) = _with_result(q), _with_result(k)
    cos, sin = cos.contiguous(), sin.contiguous()
    n_batch, n_q_heads, n_tokens, width = q.shape
    n_k_heads, half = k.shape[1], width // 2
    with torch.cuda.device_of(q):
        _rotate_kernel[(n_tokens, n_batch)](
            q,
            k,
            q_out,
            k_out,
            cos,
            sin,
            *q.stride()[:3],
            *k.stride()[:3],
            cos.stride(0) if len(cos) > 1 else 0,
            cos.stride(1),
            n_q_heads,
            n_k_heads,
            half,
            Q_HEADS=triton.next_power_of_2(n_q_heads),
            K_HEADS=triton.next_power_of_2(n_k_heads),
            HALF=triton.next_power_of_2(half),
            num_warps=4,
            enable_fp_fusion=False,
        )
    return q_out, k_out


def _with_result(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return x and an empty tensor of its shape and strides; x is copied where it has gaps."""
    out = torch.empty_like(x)
    if x.stride(-1) != 1 or out.stride() != x.stride():
        x = x.contiguous()
        out = torch.empty_like(x)
    return x, out


@triton.jit
def _gate_kernel(gate_ptr, up_ptr, out_ptr, n_elements, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < n_elements
    stored = tl.load(gate_ptr + place, mask=inside, other=0.0)
    gate = stored.to(tl.float32)
    up = tl.load(up_ptr + place, mask=inside, other=0.0).to(tl.float32)
    activated = tl.div_rn(gate, 1.0 + libdevice.exp(-gate)).to(stored.dtype).to(tl.float32)
    tl.store(out_ptr + place, (activated * up).to(stored.dtype), mask=inside)


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """Return ``silu(gate) * up`` for two tensors of one shape and dtype, silu rounded to it.

    SwiGLU: Shazeer, 2020, arXiv:2002.05202.
    """
    gate, up = gate.contiguous(), up.contiguous()
    out = torch.empty_like(gate)
    with torch.cuda.device_of(gate):
        _gate_kernel[(triton.cdiv(gate.numel(), ELEMENTS_PER_PROGRAM),)](
            gate,
            up,
            out,
            gate.numel(),
            BLOCK=ELEMENTS_PER_PROGRAM,
            num_warps=8,
            enable_fp_fusion=False,
        )
    return out
