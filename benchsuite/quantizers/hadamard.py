"""Hadamard matrices and their transform, of every order that decoders have.

A Hadamard matrix H of order n has entries +1 and -1 and H H^T = n I, so H / sqrt(n) is orthogonal.
Large orders are Kronecker products of small ones. Powers of two are products of the matrix of order
2 (Sylvester). Anything else has a core by Paley (1933) over the finite field of q elements: order
q + 1 for q = 3 mod 4, order 2 (q + 1) for q = 1 mod 4. This covers 12, 20, 28, 36, 76, 108, 140,
148, 344 and with them the widths of the supported families (11008 = 344 * 32, 14336 = 28 * 512).
Where no order is known (14 heads), the transform is block diagonal: ``largest_order`` per block.
"""

import math
from functools import cache

import torch
from torch import Tensor

LARGEST_SYLVESTER = 64
"""Powers of two are split into factors of at most this order: few products, none of them large."""

LARGEST_DEGREE = 3
"""Fields of p^k elements are built for k up to 3: there, no roots means irreducible."""


def _prime_power(q: int) -> tuple[int, int] | None:
    """Return (p, k) with q = p^k, or None."""
    p = next((d for d in range(2, math.isqrt(q) + 1) if q % d == 0), q)
    k = round(math.log(q, p))
    return (p, k) if p**k == q and k <= LARGEST_DEGREE else None


def _irreducible(p: int, k: int) -> list[int]:
    """Return c with x^k + c[k-1] x^(k-1) + ... + c[0] irreducible over GF(p), k = 2 or 3."""
    for number in range(p**k):
        c = [number // p**i % p for i in range(k)]
        if all((x**k + sum(c[i] * x**i for i in range(k))) % p for x in range(p)):
            return c
    raise AssertionError("there is an irreducible polynomial of every degree")


def _characters(p: int, k: int) -> Tensor:
    """Return chi(a - b), int64 [q, q] over the elements of GF(p^k): 0, or 1 where it is a square.

    Elements are polynomials over GF(p); element number a has the digits of a in base p.
    """
    q = p**k
    places = p ** torch.arange(k)
    digits = torch.arange(q)[:, None] // places % p
    square = torch.zeros(q, 2 * k - 1, dtype=torch.int64)
    for i in range(k):
        square[:, i : i + k] += digits[:, i : i + 1] * digits
    for degree in range(2 * k - 2, k - 1, -1):
        modulus = torch.tensor(_irreducible(p, k))
        square[:, degree - k : degree] -= square[:, degree : degree + 1] * modulus
    chi = torch.full((q,), -1)
    chi[(square[:, :k] % p * places).sum(1)] = 1
    chi[0] = 0
    return chi[((digits[:, None] - digits[None]) % p * places).sum(2)]


@cache
def paley(order: int) -> Tensor | None:
    """Return Paley's Hadamard matrix, int64 [order, order], or None where there is none."""
    for q, remainder in ((order - 1, 3), (order // 2 - 1, 1)):
        if order % 4 or q < 3 or q % 4 != remainder:
            continue
        field = _prime_power(q)
        if field is None:
            continue
        bordered = torch.ones(q + 1, q + 1, dtype=torch.int64)
        bordered[0, 0] = 0
        bordered[1:, 1:] = _characters(*field)
        eye = torch.eye(q + 1, dtype=torch.int64)
        if remainder == 3:
            bordered[1:, 0] = -1
            return bordered + eye
        pair, sign = torch.tensor([[1, 1], [1, -1]]), torch.tensor([[1, -1], [-1, -1]])
        return torch.kron(bordered, pair) + torch.kron(eye, sign)
    return None


@cache
def factors(order: int) -> tuple[int, ...] | None:
    """Return the orders whose Kronecker product has ``order``, or None where none is known."""
    powers = (order & -order).bit_length() - 1
    core = order >> powers
    parts: list[int] = []
    if core > 1:
        for used in range(2, powers + 1):
            if paley(core << used) is not None:
                parts, powers = [core << used], powers - used
                break
        else:
            return None
    while powers:
        step = min(powers, LARGEST_SYLVESTER.bit_length() - 1)
        parts.append(1 << step)
        powers -= step
    return tuple(parts)


@cache
def largest_order(n: int) -> int:
    """Return the largest divisor of ``n`` that is a known order: the width of a block."""
    return max(d for d in range(1, n + 1) if n % d == 0 and factors(d) is not None)


def _factor_matrix(order: int) -> Tensor:
    """Return the matrix of one factor, int64 [order, order]."""
    if order & (order - 1):
        matrix = paley(order)
        assert matrix is not None
        return matrix
    matrix = torch.ones(1, 1, dtype=torch.int64)
    while len(matrix) < order:
        matrix = torch.kron(matrix, torch.tensor([[1, 1], [1, -1]]))
    return matrix


@cache
def _operand(order: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return one factor, transposed and of orthonormal rows, where the transform needs it."""
    with torch.inference_mode(False):
        matrix = _factor_matrix(order).t().to(device, dtype)
        return (matrix / math.sqrt(order)).contiguous()


def hadamard_matrix(n: int) -> Tensor:
    """Return the matrix that ``transform`` multiplies rows by, orthogonal float64 [n, n]."""
    return transform(torch.eye(n, dtype=torch.float64))


def transform(x: Tensor, inner: int = 1) -> Tensor:
    """Return x [..., n * inner] times (I kron H kron I_inner) / sqrt(order of H), of x's dtype.

    H has the largest known order that divides n; usually that is n itself. ``inner`` consecutive
    entries are transformed alike: with the size of a head, the transform goes across heads. Half
    precision is computed in float32. As the matrix is orthogonal, transforming a weight's input
    columns and the inputs alike leaves their product as it was.
    """
    work = x if x.dtype == torch.float64 else x.float()
    order = largest_order(x.shape[-1] // inner)
    right = order * inner
    for factor in factors(order) or ():
        right //= factor
        matrix = _operand(factor, work.dtype, x.device)
        if right == 1:
            work = work.reshape(-1, factor) @ matrix.t()
        else:
            work = matrix @ work.reshape(-1, factor, right)
    return work.reshape(x.shape).to(x.dtype)
