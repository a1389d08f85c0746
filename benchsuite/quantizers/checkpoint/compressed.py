"""What all formats of compressed-tensors have in common: one kind of layers, and those left out.

The config names a ``format`` and, in ``config_groups``, how weights and inputs of a kind of layers
are rounded. Modules that ``ignore`` names, in full or by ``re:`` and a pattern, keep their weights.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchsuite.errors import UsageError
from benchsuite.quantizers.checkpoint import fields
from benchsuite.quantizers.checkpoint.fields import BadField

METHOD = "compressed-tensors"


def groups(config: Mapping[str, Any], *formats: str) -> list[dict[str, Any]]:
    """Return the groups of layers of a config in one of ``formats``.

    Raises ``BadField`` naming what cannot be read or followed.
    """
    found = config.get("config_groups")
    if not isinstance(found, dict) or not all(isinstance(g, dict) for g in found.values()):
        raise BadField(f"config_groups is {found!r}, not an object of objects")
    if config.get("format") not in formats or not found:
        raise BadField(f"its format is {config.get('format')!r} with {len(found)} kinds of layers")
    fields.absent(config, "kv_cache_scheme", "transform_config")
    for one in found.values():
        fields.absent(one, "output_activations")
    sparsity = config.get("sparsity_config") or {}
    if sparsity and not (isinstance(sparsity, dict) and sparsity.get("format") == "dense"):
        raise BadField(f"sparsity_config is {sparsity!r}, which is not supported here")
    return list(found.values())


def only_group(config: Mapping[str, Any], *formats: str) -> dict[str, Any]:
    """Return the one group of a config in one of ``formats`` that rounds all linear layers.

    Raises ``BadField`` naming what cannot be read or followed.
    """
    found = groups(config, *formats)
    if len(found) != 1:
        raise BadField(f"its format is {config.get('format')!r} with {len(found)} kinds of layers")
    targets = fields.names(found[0], "targets")
    if targets != ["Linear"]:
        raise BadField(f"targets is {targets!r}, and only all linear layers are supported")
    return found[0]


def misses(given: Any, wanted: Mapping[str, Any], what: str) -> str:
    """Return what differs from the ``wanted`` fields in a group's ``what``, or nothing.

    Raises ``BadField`` where it is no object, or ``num_bits`` no number.
    """
    given = given or {}
    if not isinstance(given, dict):
        raise BadField(f"{what} is {given!r}, not an object")
    for key, value in wanted.items():
        has = fields.number(given, key) if key == "num_bits" else given.get(key)
        if has != value:
            return f"{key} of its {what} is {has!r}, not {value!r}"
    return ""


def ignored(config: Mapping[str, Any]) -> list[str]:
    """Return what ``ignore`` names; raises ``BadField`` where a pattern is none."""
    entries = fields.names(config, "ignore")
    for entry in entries:
        if entry.startswith("re:"):
            fields.pattern("ignore", entry.removeprefix("re:"))
    return entries


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


def group(
    format: str,
    weights: Mapping[str, Any],
    activations: Mapping[str, Any] | None,
    targets: Sequence[str] = ("Linear",),
) -> dict[str, Any]:
    """Return the entry of ``config_groups`` for the layers that ``targets`` names."""
    return {
        "targets": list(targets),
        "weights": dict(weights),
        "input_activations": None if activations is None else dict(activations),
        "output_activations": None,
        "format": format,
    }


def settings(
    format: str,
    weights: Mapping[str, Any],
    activations: Mapping[str, Any] | None,
    folder: Path,
    left: Sequence[str],
    *,
    empty: bool,
) -> dict[str, Any]:
    """Return the quantization config; ``left`` names modules that keep their weights.

    A model without layers (``empty``) is a usage error.
    """
    kinds = [] if empty else [group(format, weights, activations)]
    return grouped_settings(format, kinds, folder, left)


def grouped_settings(
    format: str, kinds: Sequence[Mapping[str, Any]], folder: Path, left: Sequence[str]
) -> dict[str, Any]:
    """Return the quantization config of several groups of layers, as ``group`` makes them."""
    if not kinds:
        raise UsageError(
            "a compressed-tensors checkpoint has quantized layers, and the model has none",
            str(folder),
            "quantize it first: quantizers.rtn.quantize(model)",
        )
    return {
        "quant_method": METHOD,
        "format": format,
        "quantization_status": "compressed",
        "config_groups": {f"group_{i}": dict(group) for i, group in enumerate(kinds)},
        "ignore": ["lm_head", *left],
        "kv_cache_scheme": None,
    }
