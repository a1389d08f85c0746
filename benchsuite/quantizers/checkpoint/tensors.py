"""What the tensors of every checkpoint format have in common: shapes, dtypes, biases, one grid."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from benchsuite.errors import UsageError
from benchsuite.quantizers.linear import QuantizedLinear

T = TypeVar("T", bound=Hashable)

# Scales of whole tensors, which something is divided by.
_DIVISORS = ("input_scale", "input_global_scale", "weight_global_scale")
_MAY_BE_ZERO = ("bias", "weight")  # no scales: a layer that was never trained holds zeros


def fault_of(
    found: Mapping[str, Tensor | None],
    expected: Mapping[str, tuple[tuple[int, ...], torch.dtype | None]],
    n_out: int,
) -> str:
    """Return what is wrong with a layer's tensors, or nothing.

    ``expected`` says shape and dtype of each part, dtype None for finite floating-point numbers:
    scales, of which some are not 0.
    A bias, if there is one, has ``n_out`` of them.
    """
    if found["bias"] is not None:
        expected = {**expected, "bias": ((n_out,), None)}
    for part, (shape, dtype) in expected.items():
        tensor = found[part]
        assert tensor is not None
        if tuple(tensor.shape) != shape:
            return f"{part} has shape {list(tensor.shape)}, not {list(shape)}"
        if dtype is not None and tensor.dtype != dtype:
            return f"{part} is {tensor.dtype}, not {dtype}"
        if dtype is None and not tensor.is_floating_point():
            return f"{part} is {tensor.dtype}, not floating point"
        if dtype is None and not torch.isfinite(tensor).all():
            return f"{part} {'is' if part == 'bias' else 'are'} not all finite"
        if dtype is None and part in _DIVISORS and (tensor <= 0).any():
            return f"{part} is {tensor.min().item():g}, not above 0"
        if dtype is None and part not in _MAY_BE_ZERO and not tensor.any():
            return f"{part} are all 0, as where a file was not copied whole"
    return ""


def sound(found: Mapping[str, Tensor | None], *parts: str) -> tuple[Tensor, ...]:
    """Return some of a layer's tensors, in which `fault_of` found no fault."""
    return tuple(tensor for part in parts if (tensor := found[part]) is not None)


def bias_of(original: nn.Linear, bias: Tensor | None) -> Tensor | None:
    """Return a layer's bias in the dtype of the weight that it belongs to.

    Early AutoGPTQ gave every layer a bias, of zeros where the model has none: those are left out.
    """
    if bias is None or (original.bias is None and not bias.any()):
        return None
    return bias.to(original.weight.dtype)


def inexact(linear: QuantizedLinear) -> str:
    """Return "scales beyond float16" where a layer's are rounded by storing them in it."""
    scales = linear.scales
    same = scales.dtype == torch.float16 or torch.equal(scales.half().float(), scales.float())
    return "" if same else "scales beyond float16"


def one_of(kinds: Mapping[str, T], rule: str, folder: Path) -> T:
    """Return the one kind that all layers are of; a usage error naming two that differ."""
    found: dict[T, str] = {}
    for name, kind in kinds.items():
        found.setdefault(kind, name)
    if len(found) == 1:
        return next(iter(found))
    names = ", ".join(list(found.values())[:2])
    raise UsageError(f"{rule}, this model {len(found)} different grids, as in {names}", str(folder))
