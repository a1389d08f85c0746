"""A linear layer in which 8-bit integers multiply 8-bit integers."""

from collections.abc import Hashable
from importlib.util import find_spec

import torch
from torch import Tensor

from benchsuite.errors import UsageError
from benchsuite.quantizers.formats.activations import quantize_per_token
from benchsuite.quantizers.linear import QuantizedLinear

SMALLEST_CUDA_BATCH = 17
"""``torch._int_mm`` on CUDA refuses fewer rows, so that a few tokens are padded with zeros."""

MOST_TOKENS = 8
"""Up to here the kernels of `int8_few_tokens` are used where they were chosen."""


def int8_matmul(left: Tensor, right: Tensor) -> Tensor:
    """Return left @ right^T, int32 [m, n], exactly; ``left`` int8 [m, k], ``right`` int8 [n, k].

    Runs on the integer units through ``torch._int_mm`` where that can: not on other devices than
    CUDA and the CPU, not on CUDA for sizes that are no multiple of 8, and not on the CPU for k = 1,
    of which PyTorch 2.13 makes noise. There the product is taken in float64, which holds every sum
    of fewer than 2^39 such products exactly.
    """
    rows, columns = left.shape
    if left.is_cuda and columns % 8 == 0 and len(right) % 8 == 0:
        missing = max(SMALLEST_CUDA_BATCH - rows, 0)
        padded = torch.nn.functional.pad(left, (0, 0, 0, missing))
        return torch._int_mm(padded, right.t())[:rows]
    if left.device.type == "cpu" and columns > 1:
        return torch._int_mm(left, right.t())
    return (left.double() @ right.double().t()).to(torch.int32)


class Int8Linear(QuantizedLinear):
    """``y = x W^T + b`` in integers: W8 per output channel, A8 per token, both symmetric.

    The inputs are quantized while the model runs, the product is accumulated in int32 and scaled
    once: ``y = (codes_x codes_W^T) * scale_x * scale_W + b``. ``packed`` holds the weight's codes
    as signed int8 [out, in], ready for the integer units, so that every kernel choice gives the
    same bits.
    """

    rounds_inputs = True

    def __init__(
        self,
        codes: Tensor,
        scales: Tensor,
        *,
        bias: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Take ``codes`` uint8 [out, in] around 128 and ``scales`` [out, 1]."""
        super().__init__(codes, scales, None, bits=8, group_size=-1, bias=bias, dtype=dtype)
        self.packed = (codes ^ 128).view(torch.int8)

    @property
    def codes(self) -> Tensor:
        """The weight's integers as the grid counts them, uint8 [out, in] around 128."""
        return self.packed.view(torch.uint8) ^ 128

    def dequantize(self, dtype: torch.dtype | None = None) -> Tensor:
        """Return the weight [out, in] in ``dtype``; no kernel reads its signed codes for that."""
        return self.plainly_dequantized(dtype)

    def use(self, kernel: str) -> "Int8Linear":
        """Choose ``triton``, two kernels for up to `MOST_TOKENS` on CUDA, or PyTorch's product.

        That is what ``dequantize`` and ``held`` both mean here. Raises ``UsageError`` for another.
        """
        if kernel not in ("dequantize", "held", "triton"):
            raise UsageError(f"an 8-bit integer layer has no kernel {kernel!r}")
        if kernel == "triton":
            self._check_triton()
        self.kernel = kernel
        return self

    def fastest_for_few_tokens(self) -> str:
        """Return ``triton`` where it can run, else the kernel as it is."""
        return "triton" if self.packed.is_cuda and find_spec("triton") else self.kernel

    def way_of_rounding(self) -> Hashable:
        """Return what all layers of this kind have in common."""
        return "int8"

    def round_inputs(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return (codes int8 [tokens, in], scales float32 [tokens, 1]).

        One kernel makes those of a few tokens where it was chosen, to the bits of
        `quantize_per_token`.
        """
        if not self._in_kernels(inputs):
            return quantize_per_token(inputs)
        from benchsuite.quantizers.formats import int8_few_tokens

        return int8_few_tokens.round_tokens(inputs)

    def _in_kernels(self, flat: Tensor) -> bool:
        return self.kernel == "triton" and len(flat) <= MOST_TOKENS

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [..., out] for inputs [..., in], of their dtype."""
        flat = inputs.reshape(-1, self.in_features)
        codes, scales = self.rounded_once(inputs, lambda: self.round_inputs(flat))
        if self._in_kernels(flat):
            from benchsuite.quantizers.formats import int8_few_tokens

            weight = (self.packed, self.scales, self.bias)
            outputs = int8_few_tokens.integer_product(codes, scales, *weight, dtype=inputs.dtype)
            return outputs.reshape(*inputs.shape[:-1], self.out_features)
        outputs = int8_matmul(codes, self.packed).float()
        outputs.mul_(scales).mul_(self.scales.float().t())
        if self.bias is not None:
            outputs.add_(self.bias)
        return outputs.to(inputs.dtype).reshape(*inputs.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        """Return the shape and grids, for the module's repr."""
        return f"in={self.in_features}, out={self.out_features}, weights=8, activations=8"
