"""NVFP4 and MXFP4: four-bit numbers in small groups, each group beside an eight-bit scale.

A number is E2M1 (OCP Microscaling Formats 1.0, section 5.3.3): a sign, two bits of exponent, one of
mantissa. Codes 0 to 7 stand for 0, 1/2, 1, 3/2, 2, 3, 4, 6; codes 8 to 15 for the same with a minus
sign. It is rounded to the nearest, of two equally near ones to that of even code, and what lies
beyond 6 is 6. The scale, and what shares it, is the format's:

| | group | scale of a group | beside it |
|---|---|---|---|
| ``nvfp4`` (NVIDIA) | 16 | E4M3 | one float32 for the tensor |
| ``mxfp4`` (OCP) | 32 | E8M0: 2^(byte - 127) | nothing |

**NVFP4.** With g = 448 * 6 / max|x| of the whole tensor, a group's scale is max|x of the group| / 6
times g, in E4M3: the largest group's is 448, the largest E4M3 number. A number stands for
``code * scale / g``. A scale that rounds to 0 becomes 1/8.

**MXFP4.** The specification's example (section 6.3) takes 2^(floor(log2 max|x|) - 2), so that the
largest number lies between 4 and 8, of which those above 6 are cut off. From 7 on it is doubled
here, as compressed-tensors does: cutting an eighth and more off the largest number costs more than
coarser small ones. A group of zeros has byte 0.
"""

from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn import functional as F

from benchsuite.quantizers.formats.tables import table

VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""What codes 0 to 7 stand for."""

LARGEST = 6.0
E4M3, LARGEST_E4M3 = torch.float8_e4m3fn, 448.0
SMALLEST_SCALE_BYTE = 0x20  # 1/8 in E4M3
LARGEST_BYTE = 254  # 255 is no number


def round_e2m1(x: Tensor) -> Tensor:
    """Return x rounded to E2M1 numbers, of its shape and dtype; -0.1 becomes -0, a code too."""
    size = x.abs().clamp_(max=LARGEST)
    # Numbers lie 1/2 apart below 2, 1 below 4, 2 above; halves go to even, as the codes do.
    step = torch.where(size < 2, 0.5, torch.where(size < 4, 1.0, 2.0)).to(x.dtype)
    return (size / step).round_().mul_(step).copysign_(x)


def codes_of(numbers: Tensor) -> Tensor:
    """Return the codes of E2M1 numbers, uint8 of their shape: 0 to 7, and 8 more with a minus."""
    size = numbers.abs()
    # 2 m up to 2, then m + 2 up to 4, then m / 2 + 4: the least of the three.
    code = torch.minimum(torch.minimum(2 * size, size + 2), size / 2 + 4).to(torch.uint8)
    return code + 8 * numbers.signbit().to(torch.uint8)


def numbers_of(codes: Tensor) -> Tensor:
    """Return what codes stand for, float32 of their shape."""
    return table((*VALUES, *(-value for value in VALUES)), codes.device)[codes.long()]


@dataclass(frozen=True)
class Fp4Format:
    """One of `FORMATS`: how many numbers share a scale, and what kind of number a scale is."""

    name: str
    group_size: int
    has_global: bool

    def global_scale(self, largest: Tensor) -> Tensor | None:
        """Return g, float32 of ``largest``'s shape, from max|x| of what is to share it.

        A tensor of zeros has g = 1 where g would be infinite. None where the format has none.
        """
        if not self.has_global:
            return None
        tiny = torch.finfo(torch.float32).tiny
        scale = LARGEST_E4M3 * LARGEST / largest.float().clamp(min=tiny)
        return scale.nan_to_num_(nan=1.0, posinf=1.0)

    def scale_bytes(self, largest: Tensor, of_tensor: Tensor | None) -> Tensor:
        """Return the scales, uint8 bit by bit, of groups with max|x| = ``largest`` [..., groups].

        ``of_tensor`` is g, float32 [1] or what broadcasts; None where the format has none.
        """
        if of_tensor is not None:
            largest = largest.float()
            # By a tensor: PyTorch divides by a number on a CPU, and multiplies by 1/6 on a GPU.
            sixth = largest / torch.full_like(largest, LARGEST)
            scale = (sixth * of_tensor).clamp_(max=LARGEST_E4M3).to(E4M3)
            return scale.view(torch.uint8).masked_fill_(scale.float() == 0, SMALLEST_SCALE_BYTE)
        mantissa, exponent = torch.frexp(largest.float())  # 1/2 <= mantissa < 1
        power = exponent - 1 - 2 + (mantissa >= 7 / 8).to(exponent.dtype)
        return (power + 127).clamp_(0, LARGEST_BYTE).masked_fill_(largest == 0, 0).to(torch.uint8)

    def scales(self, octets: Tensor, of_tensor: Tensor | None) -> Tensor:
        """Return what codes are multiplied by, float32 of the shape of ``octets``, scales uint8."""
        if of_tensor is not None:
            return octets.view(E4M3).float() / of_tensor
        bits = octets.to(torch.int32) << 23  # the exponent of a float32
        return bits.masked_fill_(octets == 0, 1 << 22).view(torch.float32)  # 2^-127 is subnormal

    def groups(self, x: Tensor) -> Tensor:
        """Return x [..., n] as [..., groups, group size]; zeros make the last group whole."""
        return F.pad(x, (0, -x.shape[-1] % self.group_size)).unflatten(-1, (-1, self.group_size))

    def spread(self, scales: Tensor, n: int) -> Tensor:
        """Repeat scales [..., groups] for each of n numbers."""
        return scales.repeat_interleave(self.group_size, -1)[..., :n]

    def fit(self, x: Tensor, of_tensor: Tensor | None) -> Tensor:
        """Return the scales, uint8 [..., groups], of x [..., n]."""
        return self.scale_bytes(self.groups(x).abs().amax(-1), of_tensor)

    def encode(self, x: Tensor, of_tensor: Tensor | None) -> tuple[Tensor, Tensor]:
        """Round x [..., n] to nearest; return codes uint8 [..., n], scales uint8 [..., groups]."""
        octets = self.fit(x, of_tensor)
        scales = self.spread(self.scales(octets, of_tensor), x.shape[-1])
        return codes_of(round_e2m1(x.float() / scales)), octets

    def rounded(self, x: Tensor, of_tensor: Tensor | None) -> Tensor:
        """Return what is left of x [..., n] when it is rounded to nearest, of its dtype.

        ``of_tensor`` is g, float32 [1]. On CUDA one kernel does it.
        """
        if x.is_cuda and find_spec("triton"):
            from benchsuite.quantizers.formats.rounding_kernels import rounded_e2m1

            return rounded_e2m1(x, of_tensor, self.group_size)
        return self.plainly_rounded(x, of_tensor)

    def plainly_rounded(self, x: Tensor, of_tensor: Tensor | None) -> Tensor:
        """Return the same bits as `rounded` by PyTorch's operations, on any device."""
        scales = self.spread(self.scales(self.fit(x, of_tensor), of_tensor), x.shape[-1])
        return (round_e2m1(x.float() / scales) * scales).to(x.dtype)


FORMATS = {
    "nvfp4": Fp4Format("nvfp4", 16, has_global=True),
    "mxfp4": Fp4Format("mxfp4", 32, has_global=False),
}
