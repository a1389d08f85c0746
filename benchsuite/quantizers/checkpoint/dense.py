"""The tensors of an ordinary checkpoint, which is how a pruned model is saved: zeros and all.

Every reader of the model's architecture loads it. compressed-tensors 0.19 has no writer any more of
its 2:4 formats (``sparse-24-bitmask`` is a name that it still knows), so that none is written here.
Read back, it is known by its zeros: two of every four weights in each linear of its blocks.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from benchsuite.quantizers.checkpoint.tensors import bias_of, fault_of, sound
from benchsuite.quantizers.formats.sparse import GROUP, KEPT, SparseLinear, kept
from benchsuite.quantizers.linear import QuantizedLinear

TITLE = "ordinary"
PARTS = ("weight",)
EXTRA = ()


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


def rule(
    config: Mapping[str, Any], names: Sequence[str], *, packed: bool
) -> Mapping[str, Any] | None:
    """Return the settings of a layer: every linear of the blocks is pruned."""
    return config


def layer(
    original: nn.Linear, found: Mapping[str, Tensor | None], config: Mapping[str, Any]
) -> tuple[str, QuantizedLinear | None]:
    """Return ("", the layer), or (what is wrong with its tensors, None)."""
    n_out, n_in = original.out_features, original.in_features
    wrong = fault_of(found, {"weight": ((n_out, n_in), None)}, n_out)
    if wrong:
        return wrong, None
    (weight,) = sound(found, *PARTS)
    weight = weight.to(original.weight.dtype)
    if n_in % GROUP or (weight != 0).unflatten(1, (-1, GROUP)).sum(2).max() > KEPT:
        return "more than two of four weights are not zero", None
    return "", SparseLinear(weight, kept(weight.abs()), bias=bias_of(original, found["bias"]))
