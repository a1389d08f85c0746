"""The tensors of an ordinary checkpoint, which is how a pruned model is saved: zeros and all.

Every reader of the model's architecture loads it. compressed-tensors 0.19 has no writer any more of
its 2:4 formats (``sparse-24-bitmask`` is a name that it still knows), so that none is written here.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from benchsuite.quantizers.formats.sparse import SparseLinear
from benchsuite.quantizers.linear import QuantizedLinear

TITLE = "ordinary"


def holds(linear: QuantizedLinear) -> bool:
    """Say whether a layer is of the kind that the format is made for."""
    return type(linear) is SparseLinear


def lacking(linear: QuantizedLinear) -> str:
    """Return what the format would need to hold a layer, or nothing."""
    return "" if holds(linear) else "packed layers"


def settings(
    linears: Mapping[str, QuantizedLinear], folder: Path, left: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the quantization config: there is none."""
    return {}


def parts(linear: QuantizedLinear) -> dict[str, Tensor]:
    """Return a layer's tensors: the dense weight in the model's dtype, and its bias."""
    found = {"weight": linear.dequantize()}
    return found if linear.bias is None else found | {"bias": linear.bias}
