"""Two of four: of every four consecutive inputs of a row, two weights are zero.

NVIDIA's tensor cores since Ampere multiply such weights at twice the rate. Methods say which two
may go; `kept` makes the choice exact and `SparseLinear` holds what is left.
"""

import hashlib
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchsuite.errors import UsageError
from benchsuite.quantizers.formats.packing import pack, unpack
from benchsuite.quantizers.hashing import hash_tensor
from benchsuite.quantizers.linear import QuantizedLinear

GROUP, KEPT = 4, 2


def kept(scores: Tensor, dim: int = -1) -> Tensor:
    """Return the mask of the two highest of every four ``scores`` along ``dim``, of their shape.

    Of equal ones the first stay, on every device; NaN counts as infinity. Four are compared as two
    pairs, for a sort of so many fours takes far longer.
    """
    whole = scores.nan_to_num(math.inf, math.inf, -math.inf).unflatten(dim, (-1, GROUP))
    dim = dim if dim < 0 else dim + 1
    one, two, three, four = whole.unbind(dim)
    left, right = one >= two, three >= four  # of each pair the first is the higher one
    both_left = torch.minimum(one, two) >= torch.maximum(three, four)
    both_right = torch.minimum(three, four) > torch.maximum(one, two)
    stay = (
        both_left | (left & ~both_right),
        both_left | ~(left | both_right),
        both_right | (right & ~both_left),
        both_right | ~(right | both_left),
    )
    return torch.stack(stay, dim).view(scores.shape)


def places_of(mask: Tensor) -> Tensor:
    """Return where in its four each of the two lies, uint8 [out, in / 2] of a mask [out, in]."""
    one, two, three, four = mask.unflatten(1, (-1, GROUP)).unbind(2)
    first = torch.where(one, 0, torch.where(two, 1, 2))
    last = torch.where(four, 3, torch.where(three, 2, 1))
    return torch.stack((first, last), 2).flatten(1).to(torch.uint8)


def check_width(linear: nn.Linear, where: str) -> None:
    """Raise a usage error unless the inputs of a linear are whole groups of four."""
    if linear.in_features % GROUP:
        raise UsageError(
            f"2:4 sparsity wants inputs in fours, and this layer has {linear.in_features}",
            where,
            "use a quantizer, which takes any width",
        )


class SparseLinear(QuantizedLinear):
    """``y = x W^T + b`` with two of every four weights of a row zero.

    Buffers: ``values`` [out, in / 2], the weights that are left, in the dtype of the weight that is
    replaced; ``packed`` uint8 [out, packed bytes], where in its four each of them lies, two bits
    each. In half precision that is 9 bits per weight, as sparse tensor cores read it, beside the 16
    of the dense weight that ``dequantize`` gives. Products are dense: how fast a model runs is not
    what sparse hardware could do.
    """

    values: Tensor

    def __init__(self, weight: Tensor, mask: Tensor, *, bias: Tensor | None = None) -> None:
        """Keep ``weight`` [out, in] where ``mask`` is, which holds two of every four.

        Which of several zeros is kept does not matter: the first of them, so that the dense weight
        alone gives the layer back.
        """
        nn.Module.__init__(self)
        weight = weight.masked_fill(~mask, 0) + 0.0  # no zero has a sign
        mask = kept(weight.abs())
        self.out_features, self.in_features = weight.shape
        self.bits, self.group_size, self.dtype = 2, GROUP, weight.dtype
        self.kernel = "dequantize"
        places = places_of(mask)
        chosen = places.unflatten(1, (-1, KEPT)).long()
        left = weight.unflatten(1, (-1, GROUP)).gather(2, chosen).flatten(1)
        self.register_buffer("values", left.detach())
        self.register_buffer("packed", pack(places, 2))
        self.register_buffer("bias", None if bias is None else bias.detach())
        self._operand: Tensor | None = None
        self._operand_parameters: Tensor | None = None

    @property
    def codes(self) -> Tensor:
        """Where in its four each kept weight lies, uint8 [out, in / 2]."""
        return unpack(self.packed, 2, self.in_features // 2)

    @property
    def packed_bytes(self) -> int:
        """Bytes of what is stored in place of the weight: values and places."""
        return self.values.nbytes + self.packed.nbytes

    @property
    def digest(self) -> str:
        """Hex sha256 of values and places, equal on any device for equal ones."""
        sha = hashlib.sha256(repr(("2:4", self.out_features, self.in_features)).encode())
        hash_tensor(sha, self.packed)
        hash_tensor(sha, self.values, torch.float32)
        return sha.hexdigest()

    def dequantize(self, dtype: torch.dtype | None = None) -> Tensor:
        """Return the dense weight [out, in] in ``dtype`` (default: the replaced weight's)."""
        places = self.codes.long().unflatten(1, (-1, KEPT))
        values = self.values.unflatten(1, (-1, KEPT))
        fours = values.new_zeros(*places.shape[:2], GROUP).scatter_(2, places, values)
        return fours.flatten(1).to(dtype or self.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "SparseLinear":
        """Move and convert like any module: values are weights, not scales."""
        nn.Module._apply(self, fn, recurse)
        self.dtype = self.values.dtype
        return self.use(self.kernel)

    def use(self, kernel: str) -> "SparseLinear":
        """Choose ``dequantize`` or ``held``; there is no other kernel for a sparse layer.

        Raises ``UsageError`` for another.
        """
        if kernel not in ("dequantize", "held"):
            raise UsageError(f"a 2:4 sparse layer has no kernel {kernel!r}")
        self._operand, self.kernel = None, kernel
        return self

    def fastest_for_few_tokens(self) -> str:
        """Return ``held``: the dense weight, at the memory of the original."""
        return "held"

    def extra_repr(self) -> str:
        """Return the shape, for the module's repr."""
        return f"in={self.in_features}, out={self.out_features}, 2:4 sparse"


def sparse_linear(linear: nn.Linear, weight: Tensor, mask: Tensor) -> SparseLinear:
    """Return the layer that replaces ``linear``: ``weight`` [out, in] where ``mask`` is."""
    return SparseLinear(weight.to(linear.weight.dtype), mask, bias=linear.bias)


def widths(layer: SparseLinear) -> dict[str, float]:
    """Return the bits per weight of a layer, compressed and as a dense checkpoint holds it."""
    n_weights = layer.in_features * layer.out_features
    return {
        "compressed_bits": 8 * layer.packed_bytes / n_weights,
        "dense_bits": 8.0 * layer.values.itemsize,
    }
