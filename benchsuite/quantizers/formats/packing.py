"""Integers of 2 to 8 bits in a dense little-endian bit stream.

Eight codes fill exactly ``bits`` bytes, so any width packs without waste, and the bytes are the
same on every device and machine: they are what digests are taken of.
"""

import torch
from torch import Tensor


def packed_width(n_codes: int, bits: int) -> int:
    """Return the bytes that a row of ``n_codes`` codes takes."""
    return -(-n_codes // 8) * bits


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack uint8 codes [rows, n] into bytes [rows, packed_width(n, bits)], on the codes' device."""
    if codes.shape[1] % 8:
        codes = torch.nn.functional.pad(codes, (0, -codes.shape[1] % 8))
    if bits == 8:
        return codes.clone()
    if bits == 4:
        return codes[:, 0::2] | (codes[:, 1::2] << 4)
    if bits == 2:
        return (
            codes[:, 0::4] | (codes[:, 1::4] << 2) | (codes[:, 2::4] << 4) | (codes[:, 3::4] << 6)
        )
    eights = codes.reshape(codes.shape[0], -1, 8)
    word = torch.zeros(eights.shape[:2], dtype=torch.int64, device=codes.device)
    for position in range(8):
        word |= eights[..., position].long() << (position * bits)
    octets = [(word >> (8 * byte) & 0xFF).to(torch.uint8) for byte in range(bits)]
    return torch.stack(octets, -1).reshape(codes.shape[0], -1)


def unpack(packed: Tensor, bits: int, n_codes: int) -> Tensor:
    """Return the uint8 codes [rows, n_codes] of packed bytes; the inverse of ``pack``."""
    rows = packed.shape[0]
    if bits == 8:
        return packed[:, :n_codes]
    if bits == 4:
        return torch.stack((packed & 15, packed >> 4), -1).reshape(rows, -1)[:, :n_codes]
    if bits == 2:
        parts = (packed & 3, packed >> 2 & 3, packed >> 4 & 3, packed >> 6)
        return torch.stack(parts, -1).reshape(rows, -1)[:, :n_codes]
    octets = packed.reshape(rows, -1, bits)
    word = torch.zeros(octets.shape[:2], dtype=torch.int64, device=packed.device)
    for byte in range(bits):
        word |= octets[..., byte].long() << (8 * byte)
    shifts = torch.arange(8, device=packed.device) * bits
    codes = word.unsqueeze(-1) >> shifts & (2**bits - 1)
    return codes.to(torch.uint8).reshape(rows, -1)[:, :n_codes]


def words(octets: Tensor, dtype: torch.dtype = torch.int32) -> Tensor:
    """View bytes [rows, width n] as integers of ``dtype``, ``width`` bytes each, [rows, n]."""
    # Flat, since a tensor of one row may have odd strides.
    return octets.flatten().contiguous().view(dtype).reshape(len(octets), -1)


def octets(words: Tensor) -> Tensor:
    """View int32 [rows, n] as bytes [rows, 4 n]; the inverse of ``words``."""
    return words.flatten().contiguous().view(torch.uint8).reshape(len(words), -1)
