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


PLAIN = {"packed", "scales", "packed_zeros", "free_zeros", "g_idx", "bias"}
"""The buffers of a layer that the kernel for packed integers unpacks."""


def stacked_weights(layers: "Sequence[QuantizedLinear]", dtype: torch.dtype) -> Tensor | None:
    """Return the weights [layers, out, in] of layers of one class in ``dtype``.

    Layers whose kernel is ``held`` keep their parts of it, and the next call finds it. None for
    layers of several kernels, shapes or dtypes, and for a kernel with weights of its own.
    """
    kernel, first = layers[0].kernel, layers[0]
    if kernel == "int4_cpu" or any(m.kernel != kernel or m.dtype != dtype for m in layers):
        return None
    if kernel == "held":
        found = [m._operand for m in layers if m._operand is not None]
        whole = lying_together(found) if len(found) == len(layers) else None
        if whole is not None:
            return whole
    shape = (first.out_features, first.in_features)
    if any((m.out_features, m.in_features) != shape for m in layers):
        return None
    made = _made(layers, dtype)
    if kernel == "held":
        for layer, part in zip(layers, made, strict=True):
            layer._operand = part
    return made


def _made(layers: "Sequence[QuantizedLinear]", dtype: torch.dtype) -> Tensor:
    buffers = layers[0]._buffers
    taller = buffers.keys() == PLAIN and buffers["g_idx"] is None
    taller = taller and len({_form(layer) for layer in layers}) == 1
    if taller and layers[0].packed.is_cuda and find_spec("triton"):
        return unpacked_at_once(layers, dtype)
    return torch.stack([layer.dequantize(dtype) for layer in layers])


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
