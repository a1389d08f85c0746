"""ggml's searches for scales, as llama.cpp's ``ggml-quants.c`` has them, bit for bit.

Each tries a few scales and keeps the one that leaves the least weighted squared error. Sums run one
number after the other in float32, and no product is fused with a sum, as C compiled for any x86-64
does it. llama.cpp compiled for one processor (``-march=native``) fuses them, so that its own bytes
differ in few groups from those of its portable build.

Tensors have the numbers of a group first, the groups last: [numbers, groups], float32. Functions
name their counterpart in C.
"""

import numpy as np
import torch
from torch import Tensor

from benchsuite.quantizers.formats.tables import table

LEAST = 1e-15  # GROUP_MAX_EPS: of smaller numbers all are zero
_SHIFT = 12582912.0  # 1.5 * 2^23
NONLINEAR = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
"""What IQ4_NL's codes stand for."""


def nearest(x: Tensor) -> Tensor:
    """``nearest_int``, float32: to the nearest, halves to even; beyond 2^22 it is C's bit mask."""
    return ((x + _SHIFT).view(torch.int32).bitwise_and_(0x7FFFFF) - 0x400000).float()


def total(terms: Tensor) -> Tensor:
    """Sum over the first axis, one after the other."""
    found = torch.zeros_like(terms[0])
    for term in terms.unbind(0):
        found += term
    return found


def _of_largest(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the number of greatest magnitude of each block, the first of equal ones, and which
    blocks have none above ``LEAST``, for which 1 stands in.
    """
    largest = x.gather(0, x.abs().argmax(0, keepdim=True))[0]
    dead = largest.abs() < LEAST
    return largest.masked_fill(dead, 1.0), dead


def over(x: Tensor, y: Tensor) -> Tensor:
    """Return x / y, 0 where y is not positive."""
    return torch.where(y > 0, x / y, torch.zeros_like(x))


def root(x: Tensor) -> Tensor:
    """Return the root rounded once: PyTorch's own, of many numbers on a CPU, is MKL's nearly so."""
    return x.double().sqrt_().float()


def divided(number: float, x: Tensor) -> Tensor:
    """Return number / x, rounded once: torch's own form multiplies by 1 / x."""
    return torch.full_like(x, number) / x


def symmetric(x: Tensor, n_max: int, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """``make_qx_quants``: scales about the one that brings the largest number to -n_max.

    x [n, blocks]. Returns codes [n, blocks], 0 <= code < 2 n_max for code - n_max, and scales.
    """
    weights = x * x if weights is None else weights
    weighted = weights * x
    largest, dead = _of_largest(x)

    def codes(inverse: Tensor) -> Tensor:
        return torch.round(inverse * x).clamp_(-n_max, n_max - 1)

    scale = best = chosen = torch.zeros_like(largest)
    for step in (0, *range(-9, 0), *range(1, 10)):
        reach = np.float32(n_max) + np.float32(0.1) * np.float32(step)
        inverse = divided(-float(reach), largest)
        code = codes(inverse)
        xl, l2 = total(weighted * code), total(weights * code * code)
        better = torch.ones_like(dead) if step == 0 else (l2 > 0) & (xl * xl > best * l2)
        scale = torch.where(better, over(xl, l2), scale)
        best = torch.where(better, scale * xl, best)
        chosen = torch.where(better, inverse, chosen)
    found = (codes(chosen) + n_max).masked_fill_(dead, 0.0)
    return found, scale.masked_fill(dead, 0.0)


def _refined(
    x: Tensor, codes: Tensor, weights: Tensor, least: int, most: int
) -> tuple[Tensor, Tensor]:
    """Move one code after the other to where the scale of all others wants it, five times over.

    The end of ``make_q3_quants`` and ``make_qp_quants``. A block that no pass changes stays.
    """
    weighted = weights * x
    xl, l2 = total(weighted * codes), total(weights * codes * codes)
    for _ in range(5):
        changed = torch.zeros_like(xl, dtype=torch.bool)
        for i in range(len(x)):
            code, w, wx = codes[i], weights[i], weighted[i]
            others_xl, others_l2 = xl - wx * code, l2 - w * code * code
            new = nearest(x[i] * others_l2 / others_xl).clamp_(least, most)
            new_xl, new_l2 = others_xl + wx * new, others_l2 + w * new * new
            moved = (others_xl > 0) & (new != code) & (new_l2 > 0)
            if least == 0:  # make_qp_quants
                moved &= others_l2 > 0
            moved &= new_xl * new_xl * l2 > xl * xl * new_l2
            codes[i] = torch.where(moved, new, code)
            xl, l2 = torch.where(moved, new_xl, xl), torch.where(moved, new_l2, l2)
            changed |= moved
        if not changed.any():
            break
    return codes, over(xl, l2)


def refined_symmetric(x: Tensor, n_max: int) -> tuple[Tensor, Tensor]:
    """``make_q3_quants``: one scale, then codes one by one. Returns what `symmetric` does."""
    largest, dead = _of_largest(x)
    codes = torch.round(divided(-n_max, largest) * x).clamp_(-n_max, n_max - 1)
    codes, scale = _refined(x, codes, x * x, -n_max, n_max - 1)
    return (codes + n_max).masked_fill_(dead, 0.0), scale.masked_fill(dead, 0.0)


def positive(x: Tensor, n_max: int, weights: Tensor) -> tuple[Tensor, Tensor]:
    """``make_qp_quants``, of numbers that are not negative: codes up to n_max, and scales."""
    largest = x.amax(0)
    dead = largest < LEAST
    largest = largest.masked_fill(dead, 1.0)
    chosen, least = torch.zeros_like(largest), torch.zeros_like(largest)
    for step in (0, -4, -3, -2, -1, 1, 2, 3, 4):
        reach = np.float32(0.1) * np.float32(step) + np.float32(n_max)
        inverse = divided(float(reach), largest)
        difference = x - divided(1, inverse) * torch.round(inverse * x).clamp_(max=n_max)
        error = total(weights * difference * difference)
        better = torch.ones_like(dead) if step == 0 else error < least
        chosen, least = torch.where(better, inverse, chosen), torch.where(better, error, least)
    codes = torch.round(chosen * x).clamp_(max=n_max)
    codes, scale = _refined(x, codes, weights, 0, n_max)
    return codes.masked_fill_(dead, 0.0), scale.masked_fill(dead, 0.0)


def affine(
    x: Tensor, n_max: int, weights: Tensor, first: float, step: float, n_steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """``make_qkx2_quants`` and ``make_qkx3_quants``: x is scale times code plus low.

    Returns codes [n, blocks], scales, and -low, which is not negative.
    """
    sum_w, sum_x = total(weights), total(weights * x)
    low, high = x.amin(0).clamp_(max=0), x.amax(0)
    flat = high <= low

    def codes(inverse: Tensor, low: Tensor) -> Tensor:
        return torch.round(inverse * (x - low)).clamp_(0, n_max)

    def error(code: Tensor, scale: Tensor, low: Tensor) -> Tensor:
        difference = scale * code + low - x
        return total(weights * (difference * difference))

    inverse = divided(n_max, (high - low).masked_fill(flat, 1.0))
    scale, chosen, its_low = divided(1, inverse), inverse, low
    least = error(codes(inverse, low), scale, low)
    for number in range(n_steps + 1):
        reach = np.float32(first) + np.float32(step) * np.float32(number) + np.float32(n_max)
        inverse = divided(float(reach), (high - low).masked_fill(flat, 1.0))
        code = codes(inverse, low)
        weighted = weights * code
        c, c2, xc = total(weighted), total(weighted * code), total(weighted * x)
        d = sum_w * c2 - c * c
        new_scale, new_low = (sum_w * xc - sum_x * c) / d, (c2 * sum_x - c * xc) / d
        above = new_low > 0
        new_scale = torch.where(above, xc / c2, new_scale)
        new_low = new_low.masked_fill(above, 0.0)
        new_error = error(code, new_scale, new_low)
        better = (d > 0) & (new_error < least)
        least = torch.where(better, new_error, least)
        chosen, its_low = torch.where(better, inverse, chosen), torch.where(better, low, its_low)
        scale, low = torch.where(better, new_scale, scale), torch.where(better, new_low, low)
    return codes(chosen, its_low).masked_fill_(flat, 0.0), scale.masked_fill(flat, 0.0), -low


def nonlinear(x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """``quantize_row_iq4_nl_impl`` of single blocks: codes [n, blocks] and scales."""
    values = table(NONLINEAR, x.device)
    between = (values[1:] + values[:-1]) / 2

    def codes(inverse: Tensor) -> Tensor:
        return torch.bucketize(inverse * x, between, right=True, out_int32=True)

    largest, dead = _of_largest(x)
    scale = best = torch.zeros_like(largest)
    for number in (None, *range(-7, 8)):
        if number is None:
            inverse = divided(1, -largest / values[0])
        else:
            inverse = divided(number + NONLINEAR[0], largest)
        q = values[codes(inverse)]
        qx, q2 = total(weights * q * x), total(weights * q * q)
        better = torch.ones_like(dead) if number is None else (q2 > 0) & (qx * qx > best * q2)
        scale = torch.where(better, over(qx, q2), scale)
        best = torch.where(better, scale * qx, best)
    scale = scale.masked_fill(dead, 0.0)
    inverse = torch.where(scale != 0, divided(1, scale), torch.zeros_like(scale))
    return codes(inverse), scale
