"""The tensors of compressed-tensors' ``float-quantized`` W8A8 formats, llm-compressor's own.

In place of each weight: E4M3 ``weight`` [out, in] and ``weight_scale``, by scheme:

| scheme | ``weight_scale`` | ``input_scale`` |
|---|---|---|
| ``static`` (FP8) | [1] | [1] |
| ``dynamic`` (FP8_DYNAMIC) | [out, 1] | none: per token, while the model runs |
| ``block`` (FP8_BLOCK) | [out / 128, in / 128], rounded up | none: per 128 channels of a token |

Others that the format can hold (rows beside fixed inputs, for one) are left to other readers.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchsuite.quantizers.checkpoint import compressed
from benchsuite.quantizers.checkpoint.compressed import rule
from benchsuite.quantizers.checkpoint.fields import BadField
from benchsuite.quantizers.checkpoint.tensors import bias_of, fault_of, one_of, sound
from benchsuite.quantizers.formats.fp8_linear import BLOCK, E4M3, Fp8Linear
from benchsuite.quantizers.linear import QuantizedLinear

FORMAT = "float-quantized"
TITLE = "compressed-tensors FP8"
PARTS = ("weight", "weight_scale")
EXTRA = ("input_scale",)

__all__ = ["checked", "holds", "lacking", "layer", "parts", "rule", "settings"]

_E4M3 = {"num_bits": 8, "type": "float", "symmetric": True}
_FIXED, _ON_THE_FLY = {"dynamic": False}, {"dynamic": True}
SCHEMES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "static": (
        _E4M3 | _FIXED | {"strategy": "tensor"},
        _E4M3 | _FIXED | {"strategy": "tensor"},
    ),
    "dynamic": (
        _E4M3 | _FIXED | {"strategy": "channel"},
        _E4M3 | _ON_THE_FLY | {"strategy": "token"},
    ),
    "block": (
        _E4M3 | _FIXED | {"strategy": "block", "block_structure": [BLOCK, BLOCK]},
        _E4M3 | _ON_THE_FLY | {"strategy": "group", "group_size": BLOCK},
    ),
}
"""By scheme: how weights are rounded, and how inputs are."""


def checked(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's quantization config with its fields as they are meant, and ``scheme``.

    Raises ``BadField`` naming what cannot be read.
    """
    group = compressed.only_group(config, FORMAT)
    faults = {}
    for scheme, (weights, activations) in SCHEMES.items():
        wanted = {"weights": weights, "input_activations": activations}
        faults[scheme] = [compressed.misses(group.get(k), w, k) for k, w in wanted.items()]
        if not any(faults[scheme]):
            return {**config, "ignore": compressed.ignored(config), "scheme": scheme}
    nearest = min(faults.values(), key=lambda found: sum(map(bool, found)))
    raise BadField(next(filter(None, nearest)))


def holds(linear: QuantizedLinear) -> bool:
    """Say whether a layer is of the kind that the format is made for."""
    return type(linear) is Fp8Linear


def lacking(linear: QuantizedLinear) -> str:
    """Return what the format would need to hold a layer, or nothing."""
    assert isinstance(linear, Fp8Linear)
    if linear.scheme == "block" and linear.in_features % BLOCK:
        return f"narrower last group of {BLOCK} inputs ({linear.in_features} of them)"
    return ""


def settings(
    linears: Mapping[str, QuantizedLinear], folder: Path, left: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the quantization config; ``left`` names modules that keep their weights."""
    schemes = {name: m.scheme for name, m in linears.items() if isinstance(m, Fp8Linear)}
    scheme = one_of(schemes, "an FP8 checkpoint has one scheme", folder)
    weights, activations = SCHEMES[scheme]
    return compressed.settings(FORMAT, weights, activations, folder, left, empty=not linears)


def parts(linear: QuantizedLinear) -> dict[str, Tensor]:
    """Return a layer's tensors by the format's names."""
    assert isinstance(linear, Fp8Linear)
    found = {"weight": linear.weight_codes, "weight_scale": linear.scales}
    found |= {} if linear.input_scale is None else {"input_scale": linear.input_scale}
    return found if linear.bias is None else found | {"bias": linear.bias}


def layer(
    original: nn.Linear, found: Mapping[str, Tensor | None], config: Mapping[str, Any]
) -> tuple[str, QuantizedLinear | None]:
    """Return ("", the layer), or (what is wrong with its tensors, None)."""
    n_out, n_in, scheme = original.out_features, original.in_features, config["scheme"]
    blocks = (-(-n_out // BLOCK), -(-n_in // BLOCK))
    shape = {"static": (1,), "dynamic": (n_out, 1), "block": blocks}[scheme]
    expected: dict[str, tuple[tuple[int, ...], torch.dtype | None]]
    expected = {"weight": ((n_out, n_in), E4M3), "weight_scale": (shape, None)}
    if scheme == "static":
        if found["input_scale"] is None:
            return "missing input_scale", None
        expected["input_scale"] = ((1,), None)
        # One number is written with and without a dimension of its own.
        scales = ("weight_scale", "input_scale")
        found = {k: _flat(t) if k in scales else t for k, t in found.items()}
    wrong = fault_of(found, expected, n_out)
    if wrong:
        return wrong, None
    weight, scale = sound(found, *PARTS)
    if not torch.isfinite(weight.float()).all():
        return "weight is not all finite", None
    linear = Fp8Linear(
        weight,
        scale,
        scheme=scheme,
        input_scale=found["input_scale"] if scheme == "static" else None,
        bias=bias_of(original, found["bias"]),
        dtype=original.weight.dtype,
    )
    return "", linear


def _flat(tensor: Tensor | None) -> Tensor | None:
    return tensor.reshape(1) if tensor is not None and tensor.dim() == 0 else tensor
