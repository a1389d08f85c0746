"""The weights of packed layers of one shape as one tensor, made at once.

A weight is packed row by row, so that weights laid one under the other are one taller packed
weight, and one kernel unpacks those of all experts of a block. The codes are laid so for that
moment alone, and each layer keeps its own: what is saved, moved or digested does not change. Of 4
bits that moves a byte a weight, where unpacking moves two and a half.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchsuite.models.experts import lying_together
from benchsuite.quantizers.formats.packing import unpack

if TYPE_CHECKING:
    from benchsuite.quantizers.linear import QuantizedLinear


def stacked_weights(layers: "Sequence[QuantizedLinear]", dtype: torch.dtype) -> Tensor | None:
    """Return the weights [layers, out, in] of layers of one class in ``dtype``.

    Layers whose kernel is ``held`` keep their parts of it: the next call finds it. None for layers
    of several kernels, shapes or dtypes, and for the kernels that want weights of their own.
    """
    first = layers[0]
    if first.kernel not in ("dequantize", "held", "triton"):
        return None
    held = first.kernel == "held"
    operands = [m._operand for m in layers if m.kernel == first.kernel and m.dtype == dtype]
    if len(operands) < len(layers):
        return None
    if held:
        found = [operand for operand in operands if operand is not None]
        whole = lying_together(found) if len(found) == len(layers) else None
        if whole is not None:
            return whole
    if len({(m.out_features, m.in_features) for m in layers}) > 1:
        return None
    made = _made(layers, dtype)
    if held:
        for layer, part in zip(layers, made, strict=True):
            layer._operand = part
    return made


def _made(layers: "Sequence[QuantizedLinear]", dtype: torch.dtype) -> Tensor:
    on_cuda = layers[0].packed.is_cuda and find_spec("triton")
    if on_cuda and len({_form(layer) for layer in layers}) == 1 and are_one_taller(layers[0]):
        return unpacked_at_once(layers, dtype)
    return torch.stack([layer.dequantize(dtype) for layer in layers])


def are_one_taller(layer: "QuantizedLinear") -> bool:
    """Whether layers of a layer's form, one under the other, are such a layer."""
    held = layer._buffers
    return held.get("scales") is not None and held.get("g_idx") is None


def _form(layer: "QuantizedLinear") -> tuple[object, ...]:
    kinds = (None if t is None else (t.dtype, t.shape) for t in layer._buffers.values())
    return (layer.bits, layer.group_size, *kinds)


def unpacked_at_once(layers: "Sequence[QuantizedLinear]", dtype: torch.dtype) -> Tensor:
    """Return the weights [layers, out, in] of layers of one form, by one kernel, where Triton is.

    The same bits as each layer's ``dequantize``.
    """
    from benchsuite.quantizers.formats import few_tokens

    first = layers[0]
    weight = few_tokens.unpacked(
        torch.cat([layer.packed for layer in layers]),
        torch.cat([layer.scales for layer in layers]),
        _zeros(layers),
        None,
        bits=first.bits,
        group_size=first.group_size,
        n_columns=first.in_features,
        dtype=dtype,
    )
    return weight.view(len(layers), first.out_features, first.in_features)


def _zeros(layers: "Sequence[QuantizedLinear]") -> Tensor | None:
    """Return the zero points of all rows, [layers * out, groups], None on a symmetric grid."""
    first = layers[0]
    if first.free_zeros is not None:
        return torch.cat([layer.free_zeros for layer in layers])  # type: ignore[misc]
    if first.packed_zeros is None:
        return None
    packed = torch.cat([layer.packed_zeros for layer in layers])  # type: ignore[misc]
    zeros = unpack(packed, first.bits, first.out_features)  # [layers * groups, out]
    return zeros.view(len(layers), -1, first.out_features).transpose(1, 2).flatten(0, 1)
