"""A linear layer in which E4M3 numbers multiply E4M3 numbers: W8A8 in floating point.

E4M3 (OCP 8-bit floating point, PyTorch's ``float8_e4m3fn``) has a sign, four bits of exponent and
three of mantissa, no infinity, and 448 as its largest number. A scale s stands beside the codes:
``x ~ s * code`` with s = max|x| / 448, so that the largest number of what shares s is met exactly.
What shares a scale is the scheme:

| scheme | weights | activations |
|---|---|---|
| ``static`` | the whole matrix | the whole input, by a scale fixed beforehand |
| ``dynamic`` | a row (output channel) | a token, while the model runs |
| ``block`` | a block of 128 x 128 | 128 neighbouring channels of a token, while the model runs |

On a GPU with FP8 units the codes are multiplied as they are (``torch._scaled_mm``, sums in
float32). Elsewhere both sides are rounded in the same way and multiplied as the numbers that their
codes stand for: quality is then real, speed is not. On any CUDA GPU the kernel of `fp8_few_tokens`
multiplies the codes of a few tokens.
"""

import hashlib
from collections.abc import Callable, Hashable
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn import functional as F

from benchsuite.errors import UsageError
from benchsuite.quantizers.formats.last_rounded import way_by
from benchsuite.quantizers.linear import FEW_TOKENS, QuantizedLinear

E4M3 = torch.float8_e4m3fn
LARGEST = 448.0
BLOCK = 128
ROWS = 4
"""The product of blocks takes a multiple of these tokens."""
SCHEMES = ("static", "dynamic", "block")


def scale_of(largest: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the scales, in ``dtype``, of numbers whose greatest magnitudes are ``largest``.

    Where all are zero it is the dtype's epsilon, as in compressed-tensors; any would do.
    """
    largest = largest.float()
    # By a tensor: PyTorch divides by a number on a CPU, and multiplies by 1/448 on a GPU.
    scale = (largest / torch.full_like(largest, LARGEST)).to(dtype)
    return scale.masked_fill_(scale == 0, torch.finfo(dtype).eps)


def encode(values: Tensor, scale: Tensor) -> Tensor:
    """Return ``values / scale``, which broadcasts, rounded to nearest even, E4M3.

    What lies beyond 448 becomes 448.
    """
    return (values.float() / scale.float()).clamp_(-LARGEST, LARGEST).to(E4M3)


def spread(scales: Tensor, shape: torch.Size) -> Tensor:
    """Repeat the scales of 128 x 128 blocks for each number of a matrix of ``shape``."""
    rows = scales.repeat_interleave(BLOCK, 0)[: shape[0]]
    return rows.repeat_interleave(BLOCK, 1)[:, : shape[1]]


@cache
def _has_units(device: torch.device, scheme: str) -> bool:
    """Whether a device multiplies E4M3 numbers itself: from Ada on, blocks on Hopper alone."""
    if device.type != "cuda":
        return False
    capability = torch.cuda.get_device_capability(device)
    return capability[0] == 9 if scheme == "block" else capability >= (8, 9)


def scaled_product(
    codes: Tensor, scales: Tensor, weight: Tensor, weight_scales: Tensor, dtype: torch.dtype
) -> Tensor:
    """Return (scales codes) (weight_scales weight)^T [tokens, out], of ``dtype``.

    ``codes`` [tokens, in] and ``weight`` [out, in] are E4M3. Their scales are float32: one each,
    or [tokens, 1] and [out, 1], or [tokens, in / 128] and [out / 128, in / 128].
    """
    if weight_scales.dim() < 2 or weight_scales.shape[1] == 1 == scales.shape[-1]:
        return torch._scaled_mm(codes, weight.t(), scales, weight_scales.t(), out_dtype=dtype)
    # The units read the scales of 128 channels column by column, in steps of 16 bytes. Where they
    # lie so already, nothing is copied here.
    tokens = len(codes)
    missing = -tokens % ROWS
    codes, scales = (F.pad(x, (0, 0, 0, missing)) if missing else x for x in (codes, scales))
    columns = scales.t().contiguous().t()
    made = torch._scaled_mm(codes, weight.t(), columns, weight_scales.t(), out_dtype=dtype)
    return made[:tokens]


class Fp8Linear(QuantizedLinear):
    """``y = x W^T + b`` with both x and W in E4M3, by one of `SCHEMES`.

    ``packed`` holds the weight's codes, uint8 [out, in]: E4M3 numbers bit by bit, which no change
    of the model's dtype touches. ``scales`` are [1], [out, 1] or [out / 128, in / 128], rounded up;
    ``input_scale`` [1] is there in the static scheme alone. A block or group at the end of a row or
    column may be narrower.
    """

    rounds_inputs = True
    input_scale: Tensor | None

    def __init__(
        self,
        codes: Tensor,
        scales: Tensor,
        *,
        scheme: str,
        input_scale: Tensor | None = None,
        bias: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Take ``codes`` E4M3 [out, in] and the weight's ``scales``."""
        if scheme not in SCHEMES:
            raise UsageError(f"unknown FP8 scheme {scheme!r}", fix=f"Known: {', '.join(SCHEMES)}")
        super().__init__(
            codes.view(torch.uint8),
            scales,
            None,
            bits=8,
            group_size=BLOCK if scheme == "block" else -1,
            bias=bias,
            dtype=dtype,
        )
        self.scheme = scheme
        self.register_buffer("input_scale", input_scale)

    @property
    def weight_codes(self) -> Tensor:
        """The weight's codes as numbers, E4M3 [out, in]."""
        return self.packed.view(E4M3)[:, : self.in_features]  # bytes come in eights

    @property
    def runs_in_fp8(self) -> bool:
        """Whether the product is one of E4M3 numbers where the layer is now, or a simulated one."""
        if not _has_units(self.packed.device, self.scheme):
            return False
        if self.scheme == "block":
            return self.in_features % (4 * BLOCK) == 0 and self.out_features % BLOCK == 0
        return self.in_features % 16 == 0 and self.out_features % 16 == 0

    @property
    def packed_bytes(self) -> int:
        """Bytes of codes and scales, that of the inputs included."""
        fixed = self.input_scale
        return super().packed_bytes + (0 if fixed is None else fixed.numel() * fixed.element_size())

    @property
    def digest(self) -> str:
        """Hex sha256 of scheme, codes and scales, equal on any device for equal values."""
        fixed = [] if self.input_scale is None else self.input_scale.float().tolist()
        told = f"{self.scheme} {fixed} {super().digest}"
        return hashlib.sha256(told.encode()).hexdigest()

    def dequantize(self, dtype: torch.dtype | None = None) -> Tensor:
        """Return the weight [out, in] in ``dtype`` (default: the replaced weight's)."""
        scales = self.scales.float()
        if self.scheme == "block":
            scales = spread(scales, self.weight_codes.shape)
        return (self.weight_codes.float() * scales).to(dtype or self.dtype)

    def use(self, kernel: str) -> "Fp8Linear":
        """Choose ``dequantize`` or ``held``, which differ where FP8 products are simulated.

        ``triton`` multiplies the codes of up to `FEW_TOKENS` in a kernel on CUDA, with FP8 units or
        without; for more it is ``dequantize``. Raises ``UsageError`` for another.
        """
        if kernel not in ("dequantize", "held", "triton"):
            raise UsageError(f"an FP8 layer has no kernel {kernel!r}")
        if kernel == "triton":
            self._check_triton()
        self._operand, self.kernel = None, kernel
        return self

    def fastest_for_few_tokens(self) -> str:
        """Return ``triton`` where it can run, else the kernel as it is."""
        return "triton" if self.packed.is_cuda and find_spec("triton") else self.kernel

    def way_of_rounding(self) -> Hashable:
        """Return the scheme, and the scale where it is fixed."""
        return way_by(self.scheme, self.input_scale)

    def round_inputs(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return (codes E4M3 [tokens, in], scales float32 [1], [tokens, 1] or [tokens, groups]).

        On CUDA one kernel makes both, to the bits of `plainly_rounded`. There the block scheme's
        rows go on to a multiple of four, which the product wants: zeros, to be left out of it.
        """
        if not (inputs.is_cuda and find_spec("triton")):
            return self.plainly_rounded(inputs)
        from benchsuite.quantizers.formats import rounding_kernels

        if self.input_scale is not None:
            codes = rounding_kernels.round_fixed(inputs, self.input_scale)
            return codes, self.input_scale.float()
        if self.scheme == "dynamic":
            return rounding_kernels.round_tokens(inputs)
        return rounding_kernels.round_groups(inputs, BLOCK, len(inputs) + -len(inputs) % ROWS)

    def plainly_rounded(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `round_inputs` does by PyTorch's operations, on any device."""
        if self.input_scale is not None:
            return encode(inputs, self.input_scale), self.input_scale.float()
        if self.scheme == "dynamic":
            scales = scale_of(inputs.abs().amax(-1, keepdim=True))
            return encode(inputs, scales), scales
        groups = F.pad(inputs, (0, -self.in_features % BLOCK)).unflatten(-1, (-1, BLOCK))
        scales = scale_of(groups.abs().amax(-1))
        codes = encode(groups, scales[..., None]).flatten(-2)
        return codes[..., : self.in_features].contiguous(), scales

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [..., out] for inputs [..., in], of their dtype."""
        flat = inputs.reshape(-1, self.in_features)
        codes, scales = self.rounded_once(inputs, lambda: self.round_inputs(flat))
        if self.kernel == "triton" and len(flat) <= FEW_TOKENS:
            made = self._few_tokens(codes, scales, len(flat), inputs.dtype)
            return made.reshape(*inputs.shape[:-1], self.out_features)
        if self.runs_in_fp8:
            weight_scales = self.scales.float()
            made = scaled_product(codes, scales, self.weight_codes, weight_scales, inputs.dtype)
            made = made[: len(flat)].reshape(*inputs.shape[:-1], self.out_features)
            return made if self.bias is None else made + self.bias
        if self.scheme == "block":
            scales = scales.repeat_interleave(BLOCK, 1)[:, : self.in_features]
        rounded = (codes.float() * scales)[: len(flat)].to(inputs.dtype).reshape(inputs.shape)
        if self.kernel == "held" and self._operand is None:
            self._operand = self.dequantize()
        weight = self._operand
        if weight is None or weight.dtype != inputs.dtype:
            weight = self.dequantize(inputs.dtype)
        return F.linear(rounded, weight, self.bias)

    def _few_tokens(
        self, codes: Tensor, scales: Tensor, n_tokens: int, dtype: torch.dtype
    ) -> Tensor:
        from benchsuite.quantizers.formats import fp8_few_tokens

        weight = (self.packed, self.scales, self.bias)
        return fp8_few_tokens.product(
            codes, scales, *weight, n_tokens=n_tokens, scheme=self.scheme, dtype=dtype
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Fp8Linear":
        """Move like any module, but keep the dtypes of stored scales."""
        fixed = self.input_scale
        super()._apply(fn, recurse)
        moved = self.input_scale
        if fixed is not None and moved is not None and moved.dtype != fixed.dtype:
            self.input_scale = fixed.to(moved.device)
        return self

    def extra_repr(self) -> str:
        """Return the shape and scheme, for the module's repr."""
        return f"in={self.in_features}, out={self.out_features}, E4M3, {self.scheme}"
