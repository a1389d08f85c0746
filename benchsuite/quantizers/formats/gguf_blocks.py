"""ggml's block formats, encoded and decoded as llama.cpp's ``ggml-quants.c`` does, bit for bit.

A row is cut into blocks, and a block becomes bytes: codes, and what they are scaled by.

| type | block | groups | a number is | bits per weight |
|---|---|---|---|---|
| Q4_0, Q5_0, Q8_0 | 32 | | d q, d in float16 | 4.5, 5.5, 8.5 |
| Q4_1, Q5_1 | 32 | | d q + m, d and m in float16 | 5, 6 |
| IQ4_NL | 32 | | d times one of 16 numbers | 4.5 |
| Q3_K, Q6_K | 256 | 16 of 16 | d s q, s of 6 (8) bits | 3.4375, 6.5625 |
| Q4_K, Q5_K | 256 | 8 of 32 | d s q - e m, s and m of 6 bits | 4.5, 5.5 |
| F16 | 1 | | itself | 16 |

Scales are searched for by `gguf_search`. A weight's error counts |x| plus the group's root mean
square, or x^2; with an ``importance`` q for each column it counts q sqrt(s + x^2), s being a mean
square of its surroundings (Q6_K: q; Q8_0: nothing is searched).

Tensors have the numbers of a block first, the blocks last, [numbers, blocks], and bytes likewise.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchsuite.quantizers.formats.gguf_search import (
    LEAST,
    NONLINEAR,
    affine,
    divided,
    nearest,
    nonlinear,
    positive,
    refined_symmetric,
    root,
    symmetric,
    total,
)
from benchsuite.quantizers.formats.tables import table

_CHUNKS = {"cpu": 1 << 19, "cuda": 1 << 24}
"""Numbers that are worked on at once: a CPU's cache holds them and their terms, and a GPU has no
time for small pieces."""

# Halves, and codes that share a byte, lie as in ``ggml-common.h``.


def _half(x: Tensor) -> Tensor:
    """Return float16 as bytes [2, blocks]."""
    return x.half().view(torch.uint8).view(-1, 2).T


def _number(octets: Tensor) -> Tensor:
    """Return the float32 of bytes [2, blocks]."""
    return octets.T.contiguous().view(torch.float16)[:, 0].float()


def _joined(codes: Tensor, bits: int) -> Tensor:
    """Put ``codes`` [k, n, blocks], uint8, together: the first in the low bits. [n, blocks]"""
    found = codes[0].clone()
    for place, more in enumerate(codes[1:], 1):
        found |= more << (place * bits)
    return found


def _split(octets: Tensor, bits: int) -> Tensor:
    """Return what `_joined` joined: [8 / bits, n, blocks]."""
    mask = (1 << bits) - 1
    return torch.stack([octets >> shift & mask for shift in range(0, 8, bits)])


def _groups(x: Tensor, size: int) -> Tensor:
    """Return [256, blocks] as [size, groups * blocks]."""
    return x.view(-1, size, x.shape[1]).transpose(0, 1).reshape(size, -1)


def _whole(x: Tensor, n_blocks: int) -> Tensor:
    """Undo `_groups`."""
    return x.view(len(x), -1, n_blocks).transpose(0, 1).reshape(-1, n_blocks)


def _rounded(x: Tensor, d: Tensor, codes: Tensor, least: int, most: int) -> Tensor:
    """Return x / d to nearest; where d is 0 the codes that the search left. d [groups * blocks]"""
    found = nearest(x / d).clamp_(least, most) - least
    return torch.where(d == 0, codes, found)


def _encode_symmetric(x: Tensor, q: Tensor | None, mean: Tensor | None, n_max: int) -> Tensor:
    """Q4_0 and Q5_0, ``mean`` being the row's mean square."""
    if q is None or mean is None:
        d = x.gather(0, x.abs().argmax(0, keepdim=True))[0] / -n_max
        inverse = torch.where(d != 0, divided(1, d), torch.zeros_like(d))
        codes = (x * inverse + (n_max + 0.5)).to(torch.uint8).clamp_(max=2 * n_max - 1)
    else:
        found, d = symmetric(x, n_max, q * root(mean + x * x))
        codes = found.to(torch.uint8)
    return torch.cat([_half(d), *_nibbles(codes, n_max == 16)])


def _encode_affine(x: Tensor, q: Tensor | None, mean: Tensor | None, n_max: int) -> Tensor:
    """Q4_1 and Q5_1."""
    if q is None or mean is None:
        low = x.amin(0)
        d = (x.amax(0) - low) / torch.full_like(low, n_max)
        inverse = torch.where(d != 0, divided(1, d), torch.zeros_like(d))
        codes = ((x - low) * inverse + 0.5).to(torch.uint8).clamp_(max=n_max)
    else:
        found, d, below = affine(x, n_max, q * root(mean + x * x), -0.9, 0.05, 36)
        codes, low = found.to(torch.uint8), -below
    return torch.cat([_half(d), _half(low), *_nibbles(codes, n_max == 31)])


def _nibbles(codes: Tensor, fifth: bool) -> list[Tensor]:
    """Return 32 codes as bytes: the fifth bits of all, if there are, then the first and last 16."""
    above = [_joined((codes >> 4).view(4, 8, -1).transpose(0, 1), 1)] if fifth else []
    return [*above, _joined((codes & 15).view(2, 16, -1), 4)]


def _codes32(octets: Tensor, fifth: bool) -> Tensor:
    """Undo `_nibbles`: float32 [32, blocks]."""
    codes = _split(octets[-16:], 4).flatten(0, 1)
    if fifth:
        codes = codes | _split(octets[:4], 1).transpose(0, 1).flatten(0, 1) << 4
    return codes.float()


def _encode_q8_0(x: Tensor, q: Tensor | None, mean: Tensor | None) -> Tensor:
    d = x.abs().amax(0)
    d = d / torch.full_like(d, 127)
    scaled = x * torch.where(d != 0, divided(1, d), torch.zeros_like(d))
    whole = scaled.trunc()  # halves go away from zero
    codes = whole + ((scaled - whole).abs() >= 0.5) * scaled.sign()
    return torch.cat([_half(d), codes.to(torch.int8).view(torch.uint8)])


def _encode_iq4_nl(x: Tensor, q: Tensor | None, mean: Tensor | None) -> Tensor:
    weights = squares = x * x
    if q is not None:  # the block is its own surroundings: twice its mean square, and no row's
        weights = q * root(total(squares) * (2 / 32) + squares)
    codes, d = nonlinear(x, weights)
    return torch.cat([_half(d), *_nibbles(codes.to(torch.uint8), fifth=False)])


def _encode_affine_k(
    x: Tensor, q: Tensor | None, mean: Tensor | None, n_max: int, search: tuple[float, float, int]
) -> Tensor:
    """Q4_K and Q5_K; ``search`` is how far and how finely scales are tried without importance."""
    n_blocks, groups = x.shape[1], _groups(x, 32)
    if q is None:
        weights = root(total(groups * groups) / 32) + groups.abs()
        codes, scale, below = affine(groups, n_max, weights, *search)
        parts = []
        for part in (scale.view(8, -1), below.view(8, -1)):
            largest = torch.where(part > 0, part, torch.zeros_like(part)).amax(0)  # never -0
            inverse = torch.where(largest > 0, divided(63, largest), torch.zeros_like(largest))
            d = largest / torch.full_like(largest, 63)
            parts += [nearest(inverse * part).clamp_(max=63), d]
    else:
        s = (2 * total(x * x) / 256).repeat(8)
        weights = _groups(q, 32) * root(s + groups * groups)
        codes, scale, below = affine(groups, n_max, weights, -0.9, 0.05, 36)
        sums = total(weights).view(8, -1)
        parts = [*positive(scale.view(8, -1), 63, sums), *positive(below.view(8, -1), 63, sums)]
    s, d, m, e = parts
    steps, lows = _number(_half(d)) * s, _number(_half(e)) * m
    codes = _rounded(groups + lows.flatten(), steps.flatten(), codes, 0, n_max)
    whole, s, m = (part.to(torch.uint8) for part in (_whole(codes, n_blocks), s, m))
    octets = [_half(d), _half(e), s[:4] | s[4:] >> 4 << 6, m[:4] | m[4:] >> 4 << 6]
    octets.append(s[4:] & 15 | (m[4:] & 15) << 4)
    if n_max == 31:
        octets.append(_joined((whole >> 4).view(8, 32, -1), 1))
    pairs = (whole & 15).view(4, 2, 32, -1).transpose(0, 1).reshape(2, 128, -1)
    return torch.cat([*octets, _joined(pairs, 4)])


def _encode_q3_k(x: Tensor, q: Tensor | None, mean: Tensor | None) -> Tensor:
    n_blocks, groups = x.shape[1], _groups(x, 16)
    if q is None:
        codes, scale = refined_symmetric(groups, 4)
        s, d = _eighths(scale.view(16, -1), 32)
        s = s.clamp_(-32, 31) + 32
    else:
        near = (2 * total(x * x) / 256).repeat(16)
        weights = _groups(q, 16) * root(near + groups * groups)
        codes, scale = symmetric(groups, 4, weights)
        s, d = symmetric(scale.view(16, -1), 32, total(weights).view(16, -1))
    steps = (_number(_half(d)) * (s - 32)).flatten()
    codes = _rounded(groups, steps, codes, -4, 3)
    whole, s = _whole(codes, n_blocks).to(torch.uint8), s.to(torch.uint8)
    high = _joined((whole >> 2).view(8, 32, -1), 1)
    low = _joined((whole & 3).view(2, 4, 32, -1).transpose(0, 1).reshape(4, 64, -1), 2)
    scales = [_joined((s & 15).view(2, 8, -1), 4), _joined((s >> 4).view(4, 4, -1), 2)]
    return torch.cat([high, low, *scales, _half(d)])


def _encode_q6_k(x: Tensor, q: Tensor | None, mean: Tensor | None) -> Tensor:
    n_blocks, groups = x.shape[1], _groups(x, 16)
    codes, scale = symmetric(groups, 32, None if q is None else _groups(q, 16))
    s, d = _eighths(scale.view(16, -1), 128)
    s = s.clamp_(max=127)
    codes = _rounded(groups, (_number(_half(d)) * s).flatten(), codes, -32, 31)
    whole = _whole(codes, n_blocks).to(torch.uint8)
    low = (whole & 15).view(2, 2, 64, -1).transpose(0, 1).reshape(2, 128, -1)
    high = (whole >> 4).view(2, 4, 32, -1).transpose(0, 1).reshape(4, 64, -1)
    octets = [_joined(low, 4), _joined(high, 2), s.to(torch.int8).view(torch.uint8), _half(d)]
    return torch.cat(octets).masked_fill_(scale.view(16, -1).abs().amax(0) < LEAST, 0)


def _eighths(scale: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """Return scales [groups, blocks] over d, which brings the largest to -reach, and d."""
    largest = scale.gather(0, scale.abs().argmax(0, keepdim=True))[0]
    none = largest == 0
    inverse = divided(-reach, largest.masked_fill(none, 1.0)).masked_fill_(none, 0.0)
    d = divided(1, inverse.masked_fill(none, 1.0)).masked_fill_(none, 0.0)
    return nearest(inverse * scale).masked_fill_(none, -float(reach)), d


def _decode_symmetric(octets: Tensor, n_max: int) -> Tensor:
    return (_codes32(octets[2:], n_max == 16) - n_max) * _number(octets[:2])


def _decode_affine(octets: Tensor, n_max: int) -> Tensor:
    codes = _codes32(octets[4:], n_max == 31)
    return codes * _number(octets[:2]) + _number(octets[2:4])


def _decode_q8_0(octets: Tensor) -> Tensor:
    return octets[2:].view(torch.int8).float() * _number(octets[:2])


def _decode_iq4_nl(octets: Tensor) -> Tensor:
    return table(NONLINEAR, octets.device)[_codes32(octets[2:], fifth=False).long()] * _number(
        octets[:2]
    )


def _decode_affine_k(octets: Tensor, n_max: int) -> Tensor:
    d, e, packed = _number(octets[:2]), _number(octets[2:4]), octets[4:16]
    s = torch.cat([packed[:4] & 63, packed[8:] & 15 | packed[:4] >> 6 << 4])
    m = torch.cat([packed[4:8] & 63, packed[8:] >> 4 | packed[4:8] >> 6 << 4])
    codes = _split(octets[-128:], 4).view(2, 4, 32, -1).transpose(0, 1).reshape(8, 32, -1)
    if n_max == 31:
        codes = codes | _split(octets[16:48], 1) << 4
    steps, lows = (d * s.float())[:, None], (e * m.float())[:, None]
    return (steps * codes.float() - lows).flatten(0, 1)


def _decode_q3_k(octets: Tensor) -> Tensor:
    high, low, packed = _split(octets[:32], 1), _split(octets[32:96], 2), octets[96:108]
    s = _split(packed[:8], 4).flatten(0, 1) | _split(packed[8:], 2).flatten(0, 1) << 4
    steps = _number(octets[108:]) * (s.float() - 32)
    low = low.view(4, 2, 32, -1).transpose(0, 1).reshape(8, 32, -1)
    codes = (low | high << 2).view(16, 16, -1)
    return (steps[:, None] * (codes.float() - 4)).flatten(0, 1)


def _decode_q6_k(octets: Tensor) -> Tensor:
    low = _split(octets[:128], 4).view(2, 2, 64, -1).transpose(0, 1).reshape(256, -1)
    high = _split(octets[128:192], 2).view(4, 2, 32, -1).transpose(0, 1).reshape(256, -1)
    steps = _number(octets[208:]) * octets[192:208].view(torch.int8).float()
    codes = (low | high << 4).view(16, 16, -1)
    return (steps[:, None] * (codes.float() - 32)).flatten(0, 1)


def _encode_f16(x: Tensor, q: Tensor | None, mean: Tensor | None) -> Tensor:
    return _half(x[0])


@dataclass(frozen=True)
class Block:
    """One of `BLOCKS`: how many numbers become how many bytes, and how.

    ``encode`` takes numbers float32 [size, blocks], None or their columns' importance, of the same
    shape, and None or the mean square of each block's row; it returns uint8 [n_bytes, blocks], of
    which ``decode`` makes numbers.
    """

    size: int
    n_bytes: int
    encode: Callable[[Tensor, Tensor | None, Tensor | None], Tensor]
    decode: Callable[[Tensor], Tensor]

    @property
    def bits(self) -> float:
        """Bits per weight."""
        return 8 * self.n_bytes / self.size


def _block(size: int, n_bytes: int, encode: Any, decode: Any, **kind: Any) -> Block:
    like = {key: value for key, value in kind.items() if key == "n_max"}
    return Block(size, n_bytes, partial(encode, **kind), partial(decode, **like))


BLOCKS: dict[str, Block] = {
    "Q4_0": _block(32, 18, _encode_symmetric, _decode_symmetric, n_max=8),
    "Q4_1": _block(32, 20, _encode_affine, _decode_affine, n_max=15),
    "Q5_0": _block(32, 22, _encode_symmetric, _decode_symmetric, n_max=16),
    "Q5_1": _block(32, 24, _encode_affine, _decode_affine, n_max=31),
    "Q8_0": _block(32, 34, _encode_q8_0, _decode_q8_0),
    "IQ4_NL": _block(32, 18, _encode_iq4_nl, _decode_iq4_nl),
    "Q3_K": _block(256, 110, _encode_q3_k, _decode_q3_k),
    "Q4_K": _block(256, 144, _encode_affine_k, _decode_affine_k, n_max=15, search=(-1, 0.1, 20)),
    "Q5_K": _block(256, 176, _encode_affine_k, _decode_affine_k, n_max=31, search=(-0.5, 0.1, 15)),
    "Q6_K": _block(256, 210, _encode_q6_k, _decode_q6_k),
    "F16": _block(1, 2, _encode_f16, lambda octets: _number(octets)[None]),
}


def encode(weight: Tensor, kind: str, importance: Tensor | None = None) -> Tensor:
    """Return ``weight`` [rows, n] as a type of ggml's, uint8 [rows, bytes]; blocks divide n.

    ``importance``, float32 [n], is the mean of a column's squared inputs, or anything like it.
    """
    block, n = BLOCKS[kind], weight.shape[1]
    per_row = n // block.size
    # A row's mean square is asked for by the types of 32 alone.
    rows = max(1, _CHUNKS.get(weight.device.type, 1 << 19) // n)
    found = []
    for part in weight.split(rows):
        x = part.float()
        mean = q = None
        if importance is not None:
            q = importance.float().view(per_row, block.size).T.repeat(1, len(part)).contiguous()
            mean = (total((x * x).T) / torch.full_like(x[:, 0], n)).repeat_interleave(per_row)
        octets = block.encode(x.reshape(-1, block.size).T.contiguous(), q, mean)
        found.append(octets.T.reshape(len(part), -1))
    return torch.cat(found)


def decode(octets: Tensor, kind: str) -> Tensor:
    """Return what bytes, uint8 [rows, bytes], stand for: float32 [rows, n]."""
    block = BLOCKS[kind]
    numbers = block.decode(octets.reshape(-1, block.n_bytes).T.contiguous())
    return numbers.T.reshape(len(octets), -1).contiguous()
