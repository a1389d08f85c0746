"""The tensors of compressed-tensors' ``int-quantized`` W8A8 format, llm-compressor's own.

In place of each weight: int8 ``weight`` [out, in] around zero and ``weight_scale`` [out, 1];
activations are rounded per token while the model runs, so nothing is stored of them. transformers
reads it through compressed-tensors, vLLM by itself. Modules that ``ignore`` names, in full or by
``re:`` and a pattern, keep their weights.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchsuite.errors import UsageError
from benchsuite.quantizers import checkpoint_fields as fields
from benchsuite.quantizers.checkpoint_fields import BadField
from benchsuite.quantizers.checkpoint_tensors import bias_of, fault_of
from benchsuite.quantizers.int8 import Int8Linear
from benchsuite.quantizers.linear import QuantizedLinear

FORMAT = "int-quantized"
TITLE = "compressed-tensors W8A8"
PARTS = ("weight", "weight_scale")

_WEIGHTS = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"}
_ACTIVATIONS = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token"}


def checked(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's quantization config with its fields as they are meant.

    Raises ``BadField`` naming the one that cannot be read.
    """
    groups = config.get("config_groups")
    if not isinstance(groups, dict) or not all(isinstance(g, dict) for g in groups.values()):
        raise BadField(f"config_groups is {groups!r}, not an object of objects")
    if config.get("format") != FORMAT or len(groups) != 1:
        raise BadField(f"its format is {config.get('format')!r} with {len(groups)} kinds of layers")
    (group,) = groups.values()
    for what, wanted in (("weights", _WEIGHTS), ("input_activations", _ACTIVATIONS)):
        given = group.get(what) or {}
        if not isinstance(given, dict):
            raise BadField(f"{what} is {given!r}, not an object")
        for key, value in wanted.items():
            has = fields.number(given, key) if key == "num_bits" else given.get(key)
            if has != value:
                raise BadField(f"{key} of its {what} is {has!r}, not {value!r}")
    if not group["input_activations"].get("dynamic"):
        raise BadField("its activation scales are fixed")
    targets = fields.names(group, "targets")
    if targets != ["Linear"]:
        raise BadField(f"targets is {targets!r}, and only all linear layers are supported")
    fields.absent(config, "kv_cache_scheme", "transform_config")
    fields.absent(group, "output_activations")
    sparsity = config.get("sparsity_config") or {}
    if sparsity and not (isinstance(sparsity, dict) and sparsity.get("format") == "dense"):
        raise BadField(f"sparsity_config is {sparsity!r}, which is not supported here")
    ignored = fields.names(config, "ignore")
    for entry in ignored:
        if entry.startswith("re:"):
            fields.pattern("ignore", entry.removeprefix("re:"))
    return {**config, "ignore": ignored}


def rule(
    config: Mapping[str, Any], names: Sequence[str], *, packed: bool
) -> Mapping[str, Any] | None:
    """Return the settings of the layer that goes by ``names``, None where it keeps its weight."""
    for entry in config["ignore"]:
        if entry == "Linear" or entry in names:
            return None
        if entry.startswith("re:"):
            pattern = fields.pattern("ignore", entry.removeprefix("re:"))
            if any(pattern.match(name) for name in names):
                return None
    return config


def lacking(linear: QuantizedLinear) -> str:
    """Return what the format would need to hold a layer, or nothing."""
    return "" if type(linear) is Int8Linear else "weights without rounded activations"


def settings(
    linears: Mapping[str, QuantizedLinear], folder: Path, left: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the quantization config; ``left`` names modules that keep their weights."""
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
        "ignore": ["lm_head", *left],
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
    n_out, n_in = original.out_features, original.in_features
    expected = {"weight": ((n_out, n_in), torch.int8), "weight_scale": ((n_out, 1), None)}
    wrong = fault_of(found, expected, n_out)
    if wrong:
        return wrong, None
    weight, scale = found["weight"], found["weight_scale"]
    assert weight is not None
    assert scale is not None
    linear = Int8Linear(
        weight.view(torch.uint8) ^ 128,
        scale,
        bias=bias_of(original, found["bias"]),
        dtype=original.weight.dtype,
    )
    return "", linear
