"""Is a folder the catalogued model, or another under its name? Answered from ``config.json``.

A stand-in (a tiny Llama under the name of Llama-2-7b, say) runs through the real loading code, and
every report marks its cells and never mixes them with the real weights'.
"""

from collections.abc import Mapping
from typing import Any

from benchsuite.catalog import SHAPE_KEYS, ModelEntry
from benchsuite.errors import UsageError
from benchsuite.models.gguf.card import MadeOf

# The catalogue's names of the shape, where a transformers configuration calls them otherwise.
_CONFIG_NAMES = {"opt": {"intermediate_size": "ffn_dim"}}

# What decides the shapes of the weights. The context length or a norm's epsilon do not: mirrors of
# one and the same checkpoint differ in them.
_DECISIVE = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
)


# Not of the shape: what a config.json says of its making.
_NOT_SHAPE = ("model_type", "architectures", "auto_map", "dtype", "torch_dtype", "_name_or_path")


def entry_of_config(
    name: str, hub_id: str, config: Mapping[str, Any], dtype: str, revision: str = "main"
) -> ModelEntry:
    """Return the catalogue entry of a model whose ``config.json`` is at hand, stored in ``dtype``.

    Raises ``UsageError`` for one without a model type.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not model_type:
        raise UsageError(
            f"the config.json of {name} names no model_type",
            fix="Give the folder of a causal language model as save_pretrained writes it",
        )
    names = {theirs: ours for ours, theirs in _CONFIG_NAMES.get(model_type, {}).items()}
    shape = {names.get(k, k): v for k, v in config.items() if k not in _NOT_SHAPE}
    complete = all(isinstance(shape.get(key), int) for key in SHAPE_KEYS)
    if not complete:  # nested, as with an image encoder beside the decoder
        return ModelEntry(name, hub_id, dtype=dtype, revision=revision)
    return ModelEntry(name, hub_id, model_type, shape, dtype, revision)


def config_arguments(entry: ModelEntry) -> dict[str, Any]:
    """Return ``entry.shape`` as keyword arguments of the transformers configuration class."""
    names = _CONFIG_NAMES.get(entry.model_type, {})
    return {names.get(key, key): value for key, value in entry.shape.items()}


# A GGUF of these types alone has the model's own weights.
_UNQUANTIZED = {"F32", "F16", "BF16"}


def stand_in_reason(
    entry: ModelEntry, config: Mapping[str, Any], made_of: MadeOf | None = None
) -> str | None:
    """Return why a checkpoint with this ``config.json`` is not the catalogued model, else None.

    ``made_of`` is the GGUF that it was dequantized from: weights that were once quantized are never
    the original's. A model that is itself catalogued as a packaged file is that file alone; one
    that a user named as it is (``--model``) stands for no other.
    """
    if not entry.shape or not entry.hub_id:
        return None
    found_type = config.get("model_type")
    if found_type != entry.model_type:
        return f"its model_type is {found_type!r}, not {entry.model_type!r}"
    names = _CONFIG_NAMES.get(entry.model_type, {})
    expected = _with_defaults(entry.shape)
    found = _with_defaults({key: config.get(names.get(key, key)) for key in _DECISIVE})
    differences = [
        f"{names.get(key, key)} is {found.get(key)}, not {expected[key]}"
        for key in _DECISIVE
        if key in expected and found.get(key) != expected[key]
    ]
    if "quantization_config" in config:
        settings = config["quantization_config"]
        named = isinstance(settings, Mapping) and settings.get("quant_method")
        differences.append(f"it is already quantized ({named or 'some method'})")
    if made_of and entry.packaged:
        if made_of.sha256 != entry.packaged.sha256:
            differences.append(f"its weights are of another file than {entry.packaged.file}")
    elif made_of and not made_of.types.keys() <= _UNQUANTIZED:
        told = ", ".join(f"{count} {kind}" for kind, count in made_of.types.items())
        differences.append(f"its weights are dequantized from a GGUF (tensors: {told})")
    return "; ".join(differences) or None


def _with_defaults(shape: Mapping[str, Any]) -> dict[str, Any]:
    full = {key: value for key, value in shape.items() if value is not None}
    heads, hidden = full.get("num_attention_heads"), full.get("hidden_size")
    if heads:
        full.setdefault("num_key_value_heads", heads)
        # A broken configuration may hold anything here; loading says so.
        if isinstance(heads, int) and isinstance(hidden, int):
            full.setdefault("head_dim", hidden // heads)
    return full
