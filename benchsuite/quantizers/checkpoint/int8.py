"""The tensors of compressed-tensors' ``int-quantized`` W8A8 format, llm-compressor's own.

In place of each weight: int8 ``weight`` [out, in] around zero and ``weight_scale`` [out, 1];
activations are rounded per token while the model runs, so nothing is stored of them. transformers
reads it through compressed-tensors, vLLM by itself.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchsuite.quantizers.checkpoint import compressed
from benchsuite.quantizers.checkpoint.compressed import rule
from benchsuite.quantizers.checkpoint.fields import BadField
from benchsuite.quantizers.checkpoint.tensors import bias_of, fault_of, sound
from benchsuite.quantizers.formats.int8 import Int8Linear
from benchsuite.quantizers.linear import QuantizedLinear

FORMAT = "int-quantized"
TITLE = "compressed-tensors W8A8"
PARTS = ("weight", "weight_scale")
EXTRA = ()

__all__ = ["checked", "holds", "lacking", "layer", "parts", "rule", "settings"]

_WEIGHTS = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"}
_ACTIVATIONS = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token"}


def checked(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's quantization config with its fields as they are meant.

    Raises ``BadField`` naming the one that cannot be read.
    """
    group = compressed.only_group(config, FORMAT)
    for what, wanted in (("weights", _WEIGHTS), ("input_activations", _ACTIVATIONS)):
        wrong = compressed.misses(group.get(what), wanted, what)
        if wrong:
            raise BadField(wrong)
    if not group["input_activations"].get("dynamic"):
        raise BadField("its activation scales are fixed")
    return {**config, "ignore": compressed.ignored(config)}


def holds(linear: QuantizedLinear) -> bool:
    """Say whether a layer is of the kind that the format is made for."""
    return type(linear) is Int8Linear


def lacking(linear: QuantizedLinear) -> str:
    """Return what the format would need to hold a layer, or nothing."""
    return "" if type(linear) is Int8Linear else "weights without rounded activations"


def settings(
    linears: Mapping[str, QuantizedLinear], folder: Path, left: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the quantization config; ``left`` names modules that keep their weights."""
    activations = _ACTIVATIONS | {"dynamic": True, "observer": None}
    weights = _WEIGHTS | {"dynamic": False}
    return compressed.settings(FORMAT, weights, activations, folder, left, empty=not linears)


def parts(linear: QuantizedLinear) -> dict[str, Tensor]:
    """Return a layer's tensors by the format's names."""
    found = {"weight": linear.packed, "weight_scale": linear.scales}
    return found if linear.bias is None else found | {"bias": linear.bias}


def layer(
    original: nn.Linear, found: Mapping[str, Tensor | None], config: Mapping[str, Any]
) -> tuple[str, QuantizedLinear | None]:
    """Return ("", the layer), or (what is wrong with its tensors, None)."""
    n_out, n_in = original.out_features, original.in_features
    expected = {"weight": ((n_out, n_in), torch.int8), "weight_scale": ((n_out, 1), None)}
    wrong = fault_of(found, expected, n_out)
    if wrong:
        return wrong, None
    weight, scale = sound(found, *PARTS)
    linear = Int8Linear(
        weight.view(torch.uint8) ^ 128,
        scale,
        bias=bias_of(original, found["bias"]),
        dtype=original.weight.dtype,
    )
    return "", linear
