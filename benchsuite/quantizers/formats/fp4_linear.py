"""A linear layer whose weight is NVFP4 or MXFP4, and whose inputs may be.

Weights are packed, two codes a byte. Their products are those of the numbers that codes stand for:
the units that multiply such codes are those of other GPUs than Hopper. A few tokens read the packed
codes all the same (`fp4_few_tokens`). Rounding of inputs is then a simulation: quality is real,
speed is not.
"""

import hashlib
from collections.abc import Callable, Hashable, Mapping
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchsuite.errors import UsageError
from benchsuite.quantizers.formats.fp4_grid import FORMATS, Fp4Format, numbers_of
from benchsuite.quantizers.formats.last_rounded import way_by
from benchsuite.quantizers.linear import FEW_TOKENS, QuantizedLinear


class Fp4Linear(QuantizedLinear):
    """``y = x W^T + b`` with W, and x if ``activations`` says so, in one of `fp4_grid.FORMATS`.

    ``packed`` holds the codes, uint8 [out, in / 2], the first of two in the low bits; ``scales``
    theirs, uint8 bit by bit [out, groups], which no change of the model's dtype touches. Of NVFP4
    ``global_scale`` is g of the weight, ``input_global_scale`` that of rounded inputs: float32 [1].
    """

    global_scale: Tensor | None
    input_global_scale: Tensor | None

    def __init__(
        self,
        codes: Tensor,
        scales: Tensor,
        global_scale: Tensor | None,
        *,
        format: Fp4Format,
        activations: bool = False,
        input_global_scale: Tensor | None = None,
        bias: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Take ``codes`` uint8 [out, in] and ``scales`` uint8 [out, groups]."""
        super().__init__(
            codes, scales, None, bits=4, group_size=format.group_size, bias=bias, dtype=dtype
        )
        self.format, self.activations = format, activations
        self.register_buffer("global_scale", global_scale)
        self.register_buffer("input_global_scale", input_global_scale)

    @property
    def rounds_inputs(self) -> bool:  # type: ignore[override]
        """Whether inputs are in the format too, as ``activations`` says."""
        return self.activations

    @property
    def packed_bytes(self) -> int:
        """Bytes of codes and scales, g's included."""
        fixed = (self.global_scale, self.input_global_scale)
        return super().packed_bytes + sum(4 * t.numel() for t in fixed if t is not None)

    @property
    def digest(self) -> str:
        """Hex sha256 of format, codes and scales, equal on any device for equal values."""
        fixed = (self.global_scale, self.input_global_scale)
        told = [None if t is None else t.tolist() for t in fixed]
        text = f"{self.format.name} {self.activations} {told} {super().digest}"
        return hashlib.sha256(text.encode()).hexdigest()

    def dequantize(self, dtype: torch.dtype | None = None) -> Tensor:
        """Return the weight [out, in] in ``dtype`` (default: the replaced weight's).

        On CUDA one kernel makes it, where Triton is, to the bits of `plainly_dequantized`.
        """
        if self.packed.is_cuda and find_spec("triton"):
            return self._whole(dtype or self.dtype)
        return self.plainly_dequantized(dtype)

    def plainly_dequantized(self, dtype: torch.dtype | None = None) -> Tensor:
        """Return the weight [out, in] by PyTorch's own operations, a dozen passes over it."""
        scales = self.format.scales(self.scales, self.global_scale)
        weight = numbers_of(self.codes) * self.format.spread(scales, self.in_features)
        return weight.to(dtype or self.dtype)

    def use(self, kernel: str) -> "Fp4Linear":
        """Choose ``dequantize``, which rebuilds the weight in every call, ``held`` or ``triton``.

        The last reads the packed codes on CUDA for up to `FEW_TOKENS` at once, and rebuilds the
        weight, in one kernel, for more. Raises ``UsageError`` for another.
        """
        if kernel not in ("dequantize", "held", "triton"):
            raise UsageError(f"an FP4 layer has no kernel {kernel!r}")
        if kernel == "triton":
            self._check_triton()
        self._operand, self.kernel = None, kernel
        return self

    def fastest_for_few_tokens(self) -> str:
        """Return ``triton`` where it can run, else the kernel as it is."""
        return "triton" if self.packed.is_cuda and find_spec("triton") else self.kernel

    def way_of_rounding(self) -> Hashable:
        """Return the format and g of the inputs; None where they are not rounded."""
        return way_by(self.format.name, self.input_global_scale) if self.activations else None

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [..., out] for inputs [..., in], of their dtype."""
        if self.activations:
            given, g = inputs, self.input_global_scale
            inputs = self.rounded_once(given, lambda: self.format.rounded(given, g))
        return self._by_triton(inputs) if self.kernel == "triton" else self._by_weight(inputs)

    def _whole(self, dtype: torch.dtype) -> Tensor:
        from benchsuite.quantizers.formats import fp4_few_tokens

        weight = (self.packed, self.scales, self.global_scale, self.format.group_size)
        return fp4_few_tokens.unpacked(*weight, n_columns=self.in_features, dtype=dtype)

    def _by_triton(self, inputs: Tensor) -> Tensor:
        from benchsuite.quantizers.formats import fp4_few_tokens

        if inputs.numel() > FEW_TOKENS * self.in_features:
            return F.linear(inputs, self._whole(inputs.dtype), self.bias)
        weight = (self.packed, self.scales, self.global_scale, self.format.group_size)
        outputs = fp4_few_tokens.product(inputs.reshape(-1, self.in_features), *weight)
        return self._finished(outputs, inputs)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Fp4Linear":
        """Move like any module, but keep scales of whole tensors in float32."""
        fixed = {name: getattr(self, name) for name in ("global_scale", "input_global_scale")}
        super()._apply(fn, recurse)
        for name, before in fixed.items():
            moved = getattr(self, name)
            if moved is not None and moved.dtype != before.dtype:
                setattr(self, name, before.to(moved.device))
        return self

    def extra_repr(self) -> str:
        """Return the shape and format, for the module's repr."""
        inputs = ", inputs too" if self.activations else ""
        return f"in={self.in_features}, out={self.out_features}, {self.format.name}{inputs}"


def format_named(name: str) -> Fp4Format:
    """Return the format of a name; an unknown one is a usage error."""
    if name not in FORMATS:
        raise UsageError(f"unknown FP4 format {name!r}", fix=f"Known: {', '.join(FORMATS)}")
    return FORMATS[name]


def shared_largest(linears: Mapping[str, nn.Linear]) -> dict[str, Tensor]:
    """Return max|W|, a scalar, of each linear and those that engines run as one with it, by path.

    Those are linears of one module that read one input: q, k and v; gate and up.
    """
    own = {path: linear.weight.detach().abs().amax() for path, linear in linears.items()}
    of_module: dict[str, Tensor] = {}
    for path, largest in own.items():
        parent = path.rpartition(".")[0]
        of_module[parent] = torch.maximum(of_module.get(parent, largest), largest)
    return {path: of_module[path.rpartition(".")[0]] for path in own}
