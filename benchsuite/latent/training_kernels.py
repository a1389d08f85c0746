"""What lies between the matrix products of a block in training, a Triton kernel each.

Backward kernels too; imported where Triton can run. Every tensor is read once and written once,
sums over a row are float32, and nothing is added atomically, so the same input gives the same bits.
Intermediate results of forward kernels are rounded where ``modeling_llama.py`` stores them.

Copies are an input with dropout, one for each LoRA layer that reads it, times ``scale``. Which
elements one keeps is drawn again wherever it is needed: from a seed int64 [1] on the device, the
copy's number ``site``, and the element's place. Philox with seven rounds passes all of TestU01's
tests (Salmon et al., 2011, "Parallel random numbers: as easy as 1, 2, 3"); eight elements share its
128 bits, so that a probability is a multiple of 1/65,536.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 2048  # elements of a program, where elements have nothing to do with each other


@dataclass(frozen=True)
class Dropout:
    """Copies that keep each element with probability 1 - ``dropped`` / 65,536, scaled."""

    seed: Tensor
    dropped: int
    scale: float

    @classmethod
    def of(cls, seed: Tensor, p: float, times: float) -> "Dropout":
        """Return what drops with probability ``p`` and keeps the mean of ``times`` the input."""
        dropped = round(p * 65536)
        return cls(seed, dropped, times * 65536 / max(1, 65536 - dropped))  # 1: of p = 1 none stays


@triton.jit
def _kept(seed_ptr, site, octets, dropped, N: tl.constexpr):
    """Return whether each of N elements, eight an octet, is kept in the copy ``site``."""
    zero = octets * 0
    a, b, c, d = tl.philox(tl.load(seed_ptr), octets, zero + site, zero, zero, 7)
    words = tl.join(tl.join(a, b), tl.join(c, d))
    return tl.reshape(tl.join(words & 0xFFFF, words >> 16), [N]).to(tl.int32) >= dropped


@triton.jit(do_not_specialize=["site"])
def _normed_kernel(
    x_ptr,
    added_ptr,
    weight_ptr,
    sum_ptr,
    out_ptr,
    copies_ptr,
    seed_ptr,
    site,
    dropped,
    scale,
    n_elements,
    width,
    eps,
    ADDED: tl.constexpr,
    COPIES: tl.constexpr,
    WIDTH: tl.constexpr,
):
    row = tl.program_id(0)
    columns = tl.arange(0, WIDTH)
    inside = columns < width
    place = row.to(tl.int64) * width + columns
    stored = tl.load(x_ptr + place, mask=inside, other=0.0)
    dtype = stored.dtype
    if ADDED:
        added = tl.load(added_ptr + place, mask=inside, other=0.0).to(tl.float32)
        stored = (stored.to(tl.float32) + added).to(dtype)
        tl.store(sum_ptr + place, stored, mask=inside)
    x = stored.to(tl.float32)
    normed = (x * tl.rsqrt(tl.sum(x * x, axis=0) / width + eps)).to(dtype).to(tl.float32)
    weight = tl.load(weight_ptr + columns, mask=inside, other=0.0).to(tl.float32)
    out = (weight * normed).to(dtype)
    tl.store(out_ptr + place, out, mask=inside)
    octets = row * (width // 8) + tl.arange(0, WIDTH // 8)
    for copy in tl.static_range(COPIES):
        kept = _kept(seed_ptr, site + copy, octets, dropped, WIDTH)
        value = tl.where(kept, out.to(tl.float32) * scale, 0.0).to(dtype)
        tl.store(copies_ptr + copy * n_elements.to(tl.int64) + place, value, mask=inside)


def normed(
    x: Tensor, added: Tensor | None, weight: Tensor, eps: float, how: Dropout, site: int, n: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return x + ``added``, its RMSNorm [N, width], and ``n`` copies of that [n, N, width]."""
    n_rows, width = x.shape
    out, copies = torch.empty_like(x), x.new_empty(n, n_rows, width)
    total = x if added is None else torch.empty_like(x)
    with torch.cuda.device_of(x):
        _normed_kernel[(n_rows,)](
            x,
            x if added is None else added,
            weight,
            total,
            out,
            copies,
            how.seed,
            site,
            how.dropped,
            how.scale,
            x.numel(),
            width,
            eps,
            ADDED=added is not None,
            COPIES=n,
            WIDTH=max(8, triton.next_power_of_2(width)),
            num_warps=_warps(width),
        )
    return total, out, copies


@triton.jit(do_not_specialize=["site"])
def _normed_backward_kernel(
    out_gradient_ptr,
    copy_gradients_ptr,
    x_ptr,
    weight_ptr,
    passing_ptr,
    gradient_ptr,
    seed_ptr,
    site,
    dropped,
    scale,
    n_elements,
    width,
    eps,
    PASSING: tl.constexpr,
    COPIES: tl.constexpr,
    WIDTH: tl.constexpr,
):
    row = tl.program_id(0)
    columns = tl.arange(0, WIDTH)
    inside = columns < width
    place = row.to(tl.int64) * width + columns
    gradient = tl.load(out_gradient_ptr + place, mask=inside, other=0.0).to(tl.float32)
    octets = row * (width // 8) + tl.arange(0, WIDTH // 8)
    for copy in tl.static_range(COPIES):
        there = copy_gradients_ptr + copy * n_elements.to(tl.int64) + place
        kept = _kept(seed_ptr, site + copy, octets, dropped, WIDTH)
        value = tl.load(there, mask=inside, other=0.0).to(tl.float32)
        gradient += tl.where(kept, value * scale, 0.0)
    stored = tl.load(x_ptr + place, mask=inside, other=0.0)
    x = stored.to(tl.float32)
    scaled = tl.rsqrt(tl.sum(x * x, axis=0) / width + eps)
    normed = x * scaled
    gradient *= tl.load(weight_ptr + columns, mask=inside, other=0.0).to(tl.float32)
    along = tl.sum(gradient * normed, axis=0) / width
    found = scaled * (gradient - normed * along)
    if PASSING:
        found += tl.load(passing_ptr + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(gradient_ptr + place, found.to(stored.dtype), mask=inside)


def normed_backward(
    out_gradient: Tensor,
    copy_gradients: Tensor,
    x: Tensor,
    weight: Tensor,
    passing: Tensor | None,
    eps: float,
    how: Dropout,
    site: int,
) -> Tensor:
    """Return the gradient of both summands of ``normed``, whose sum ``x`` was.

    ``passing`` [N, width] is what the sum itself, read elsewhere, adds. The weight is frozen.
    """
    n_rows, width = x.shape
    gradient = torch.empty_like(x)
    with torch.cuda.device_of(x):
        _normed_backward_kernel[(n_rows,)](
            out_gradient,
            copy_gradients,
            x,
            weight,
            x if passing is None else passing,
            gradient,
            how.seed,
            site,
            how.dropped,
            how.scale,
            x.numel(),
            width,
            eps,
            PASSING=passing is not None,
            COPIES=len(copy_gradients),
            WIDTH=max(8, triton.next_power_of_2(width)),
            num_warps=_warps(width),
        )
    return gradient


def _warps(width: int) -> int:
    return min(16, max(1, triton.next_power_of_2(width) // 512))


@triton.jit(do_not_specialize=["site"])
def _dropped_kernel(
    x_ptr,
    added_ptr,
    out_ptr,
    seed_ptr,
    site,
    dropped,
    scale,
    n,
    ADDED: tl.constexpr,
    N: tl.constexpr,
):
    program = tl.program_id(0)
    place = program.to(tl.int64) * N + tl.arange(0, N)
    inside = place < n
    kept = _kept(seed_ptr, site, program * (N // 8) + tl.arange(0, N // 8), dropped, N)
    x = tl.load(x_ptr + place, mask=inside, other=0.0)
    found = tl.where(kept, x.to(tl.float32) * scale, 0.0)
    if ADDED:
        found += tl.load(added_ptr + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(out_ptr + place, found.to(x.dtype), mask=inside)


def dropped(x: Tensor, how: Dropout, site: int, added: Tensor | None = None) -> Tensor:
    """Return the copy ``site`` of a contiguous x, plus ``added``.

    Of a copy's gradient it is the input's, where ``added`` is what else the input gave.
    """
    out = torch.empty_like(x)
    with torch.cuda.device_of(x):
        _dropped_kernel[(triton.cdiv(x.numel(), BLOCK),)](
            x,
            x if added is None else added,
            out,
            how.seed,
            site,
            how.dropped,
            how.scale,
            x.numel(),
            ADDED=added is not None,
            N=BLOCK,
        )
    return out


@triton.jit(do_not_specialize=["site"])
def _gated_kernel(
    gate_ptr, up_ptr, out_ptr, copy_ptr, seed_ptr, site, dropped, scale, n, N: tl.constexpr
):
    program = tl.program_id(0)
    place = program.to(tl.int64) * N + tl.arange(0, N)
    inside = place < n
    kept = _kept(seed_ptr, site, program * (N // 8) + tl.arange(0, N // 8), dropped, N)
    stored = tl.load(gate_ptr + place, mask=inside, other=0.0)
    gate = stored.to(tl.float32)
    up = tl.load(up_ptr + place, mask=inside, other=0.0).to(tl.float32)
    activated = (gate * tl.sigmoid(gate)).to(stored.dtype).to(tl.float32)
    out = (activated * up).to(stored.dtype)
    tl.store(out_ptr + place, out, mask=inside)
    copy = tl.where(kept, out.to(tl.float32) * scale, 0.0)
    tl.store(copy_ptr + place, copy.to(stored.dtype), mask=inside)


def gated(gate: Tensor, up: Tensor, how: Dropout, site: int) -> tuple[Tensor, Tensor]:
    """Return silu(gate) * up, both contiguous, and the copy ``site`` of it."""
    out, copy = torch.empty_like(gate), torch.empty_like(gate)
    with torch.cuda.device_of(gate):
        _gated_kernel[(triton.cdiv(gate.numel(), BLOCK),)](
            gate,
            up,
            out,
            copy,
            how.seed,
            site,
            how.dropped,
            how.scale,
            gate.numel(),
            N=BLOCK,
            num_warps=8,
        )
    return out, copy


@triton.jit(do_not_specialize=["site"])
def _gated_backward_kernel(
    out_gradient_ptr,
    copy_gradient_ptr,
    gate_ptr,
    up_ptr,
    seed_ptr,
    site,
    dropped,
    scale,
    n,
    N: tl.constexpr,
):
    program = tl.program_id(0)
    place = program.to(tl.int64) * N + tl.arange(0, N)
    inside = place < n
    kept = _kept(seed_ptr, site, program * (N // 8) + tl.arange(0, N // 8), dropped, N)
    copy = tl.load(copy_gradient_ptr + place, mask=inside, other=0.0).to(tl.float32)
    gradient = tl.load(out_gradient_ptr + place, mask=inside, other=0.0).to(tl.float32)
    gradient += tl.where(kept, copy * scale, 0.0)
    stored = tl.load(gate_ptr + place, mask=inside, other=0.0)
    gate = stored.to(tl.float32)
    up = tl.load(up_ptr + place, mask=inside, other=0.0).to(tl.float32)
    open_ = tl.sigmoid(gate)
    activated = (gate * open_).to(stored.dtype).to(tl.float32)
    of_gate = gradient * up * open_ * (1.0 + gate * (1.0 - open_))
    tl.store(out_gradient_ptr + place, of_gate.to(stored.dtype), mask=inside)
    tl.store(copy_gradient_ptr + place, (gradient * activated).to(stored.dtype), mask=inside)


def gated_backward(
    out_gradient: Tensor, copy_gradient: Tensor, gate: Tensor, up: Tensor, how: Dropout, site: int
) -> tuple[Tensor, Tensor]:
    """Return the gradients of gate and up, written over those of result and copy."""
    with torch.cuda.device_of(gate):
        _gated_backward_kernel[(triton.cdiv(gate.numel(), BLOCK),)](
            out_gradient,
            copy_gradient,
            gate,
            up,
            how.seed,
            site,
            how.dropped,
            how.scale,
            gate.numel(),
            N=BLOCK,
            num_warps=8,
        )
    return out_gradient, copy_gradient
