"""The tensors of compressed-tensors' ``int-quantized`` W8A8 format, llm-compressor's own.

In place of each weight: int8 ``weight`` [out, in] around zero and ``weight_scale`` [out, 1];
activations are rounded per token while the model runs, so nothing is stored of them. transformers
reads it through compressed-tensors, vLLM by itself.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchsuite.errors import UsageError
from benchsuite.quantizers.int8 import Int8Linear
from benchsuite.quantizers.linear import QuantizedLinear

FORMAT = "int-quantized"
PARTS = ("weight", "weight_scale")

_WEIGHTS = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"}
_ACTIVATIONS = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token"}


def fault(config: Mapping[str, Any]) -> str:
    """Return why a checkpoint of this quantization config cannot be read, or nothing."""
    groups = config.get("config_groups") or {}
    if config.get("format") != FORMAT or len(groups) != 1:
        return f"its format is {config.get('format')!r} with {len(groups)} kinds of layers"
    (group,) = groups.values()
    for what, wanted in (("weights", _WEIGHTS), ("input_activations", _ACTIVATIONS)):
        given = group.get(what) or {}
        off = [key for key, value in wanted.items() if given.get(key) != value]
        if off:
            return f"{off[0]} of its {what} is {given.get(off[0])!r}, not {wanted[off[0]]!r}"
    activations = group["input_activations"]
    return "" if activations.get("dynamic") else "its activation scales are fixed"


def settings(linears: Mapping[str, QuantizedLinear], folder: Path) -> dict[str, Any]:
    """Return the quantization config; a usage error if the format cannot hold the layers."""
    if not linears:
        raise UsageError("a compressed-tensors checkpoint has quantized layers", str(folder))
    group = {
        "targets": ["Linear"],
        "weights": _WEIGHTS | {"dynamic": False},
        "input_activations": _ACTIVATIONS | {"dynamic": True, "observer": None},
        "output_activations": None,
        "format": FORMAT,
    }
    return {
        "quant_method": "compressed-tensors",
        "format": FORMAT,
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
        "kv_cache_scheme": None,
    }


def parts(linear: QuantizedLinear) -> dict[str, Tensor]:
    """Return a layer's tensors by the format's names."""
    found = {"weight": linear.packed, "weight_scale": linear.scales}
    return found if linear.bias is None else found | {"bias": linear.bias}


def layer(
    original: nn.Linear, found: Mapping[str, Tensor | None], config: Mapping[str, Any]
) -> tuple[str, QuantizedLinear | None]:
    """Return ("", the layer), or (what is wrong with its tensors, None)."""
    weight, scale, bias = found["weight"], found["weight_scale"], found["bias"]
    assert weight is not None
    assert scale is not None
    n_out, n_in = original.out_features, original.in_features
    for part, tensor, shape in (("weight", weight, (n_out, n_in)), ("scale", scale, (n_out, 1))):
        if tuple(tensor.shape) != shape:
            return f"{part} has shape {list(tensor.shape)}, not {list(shape)}", None
    if weight.dtype != torch.int8:
        return f"weight is {weight.dtype}, not int8", None
    if not torch.isfinite(scale).all():
        return "weight_scale is not all finite", None
    linear = Int8Linear(
        weight.view(torch.uint8) ^ 128,
        scale,
        bias=original.bias if bias is None else bias.to(original.weight.dtype),
        dtype=original.weight.dtype,
    )
    return "", linear
