"""Quantization of activations: one scale per token, or per group of a token's channels.

Scales come from the token itself while the model runs (dynamic quantization), so nothing is
calibrated. A clip ratio below 1 gives up the largest values for a finer step. ``fake_`` functions
return the values that the integers stand for, in the dtype of what they were given: the accuracy of
the quantized model is then real, its speed is not.
"""

from collections.abc import Hashable

import torch
from torch import Tensor, nn

from benchsuite.errors import UsageError
from benchsuite.quantizers.formats.last_rounded import RoundsInputs


def quantize_per_token(x: Tensor, bits: int = 8, clip_ratio: float = 1.0) -> tuple[Tensor, Tensor]:
    """Quantize x [..., channels] symmetrically with one scale per token.

    Returns (codes int8 of x's shape, scales float32 [..., 1]) with ``x ~ scales * codes``: the
    scale is clip_ratio * max|x| / (2^(bits-1) - 1), codes lie in [-2^(bits-1), 2^(bits-1) - 1]. A
    token of zeros has scale 1.
    """
    top = 2 ** (bits - 1) - 1
    values = x.float()
    scales = values.abs().amax(-1, keepdim=True).mul_(clip_ratio / top)
    scales.masked_fill_(scales == 0, 1)
    return (values / scales).round_().clamp_(-top - 1, top).to(torch.int8), scales


def fake_quantize_per_token(x: Tensor, bits: int, clip_ratio: float = 1.0) -> Tensor:
    """Return x [..., channels] rounded to what ``quantize_per_token`` keeps of it."""
    codes, scales = quantize_per_token(x, bits, clip_ratio)
    return (codes * scales).to(x.dtype)


def fake_quantize_groups(x: Tensor, bits: int, group_size: int, clip_ratio: float = 1.0) -> Tensor:
    """Round x [..., channels] asymmetrically, each group of ``group_size`` channels on its own.

    A group covers clip_ratio * [min(x, 0), max(x, 0)] with 2^bits levels, of which one is 0. A
    narrower last dimension is one group; otherwise it must hold whole groups. Raises ``UsageError``
    where it does not.
    """
    top = 2**bits - 1
    width = min(group_size, x.shape[-1])
    if x.shape[-1] % width:
        raise UsageError(
            f"{x.shape[-1]} channels do not divide into groups of {width}",
            "activation quantization",
            "choose a group size that divides them",
        )
    groups = x.float().unflatten(-1, (-1, width))
    low = groups.amin(-1, keepdim=True).clamp_(max=0).mul_(clip_ratio)
    high = groups.amax(-1, keepdim=True).clamp_(min=0).mul_(clip_ratio)
    scales = (high - low) / top
    scales.masked_fill_(scales == 0, 1)
    zeros = (-low / scales).round_()
    codes = (groups / scales).round_().add_(zeros).clamp_(0, top)
    return codes.sub_(zeros).mul_(scales).flatten(-2).to(x.dtype)


class ActivationQuantizer(nn.Module, RoundsInputs):
    """Rounds its input per token, symmetrically; see ``fake_quantize_per_token``."""

    def __init__(self, bits: int, clip_ratio: float = 1.0) -> None:
        super().__init__()
        self.bits, self.clip_ratio = bits, clip_ratio

    def way_of_rounding(self) -> Hashable:
        """Return what all that round to as many bits, cut off alike, have in common."""
        return "token", self.bits, self.clip_ratio

    def forward(self, x: Tensor) -> Tensor:
        """Return x [..., channels], rounded."""
        return self.rounded_once(x, lambda: fake_quantize_per_token(x, self.bits, self.clip_ratio))

    def extra_repr(self) -> str:
        """Return the settings, for the module's repr."""
        return f"bits={self.bits}, clip_ratio={self.clip_ratio}"


class KeyValueQuantizer(nn.Module):
    """Rounds a head's keys or values in groups, asymmetrically; see ``fake_quantize_groups``."""

    def __init__(self, bits: int, group_size: int = 128, clip_ratio: float = 1.0) -> None:
        super().__init__()
        self.bits, self.group_size, self.clip_ratio = bits, group_size, clip_ratio

    def forward(self, x: Tensor) -> Tensor:
        """Return x [..., head_dim], rounded."""
        return fake_quantize_groups(x, self.bits, self.group_size, self.clip_ratio)

    def extra_repr(self) -> str:
        """Return the settings, for the module's repr."""
        return f"bits={self.bits}, group_size={self.group_size}, clip_ratio={self.clip_ratio}"
