"""The quantization config of a checkpoint folder: where it lies, and whether it can be followed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchsuite.errors import BenchsuiteError
from benchsuite.models.folder import read_config, read_json
from benchsuite.quantizers.checkpoint import awq, compressed, fp4, fp8, gptq, int8, packed
from benchsuite.quantizers.checkpoint.fields import BadField, word

FORMATS: dict[str, Any] = {
    "gptq": gptq,
    "awq": awq,
    "compressed-tensors": int8,
    fp8.FORMAT: fp8,
    **fp4.CHECKPOINTS,
    packed.FORMAT: packed,
}
"""By the ``quant_method`` of a checkpoint's config, or compressed-tensors' ``format``: its first,
``int-quantized``, goes by the name of the method."""

_KEY = "quantization_config"
# AutoGPTQ's and AutoAWQ's own files, which older checkpoints have alone, and the method of each.
_FILES = {"quantize_config.json": "gptq", "quant_config.json": "awq"}
_READABLE = (
    "Give one in AutoGPTQ's format with 2, 3, 4 or 8 bits, in AutoAWQ's gemm version, or "
    "compressed-tensors' packed weights, W8A8 in integers (activations rounded per token) or FP8, "
    "NVFP4 or MXFP4"
)


def read_settings(folder: Path) -> dict[str, Any]:
    """Return the quantization settings of a checkpoint folder, its fields as they are meant.

    ``config.json`` counts before AutoGPTQ's ``quantize_config.json`` and AutoAWQ's
    ``quant_config.json``. Raises ``BenchsuiteError`` naming the file and the field.
    """
    file, settings, method = _found(folder)
    try:
        if not isinstance(settings, dict):
            raise BadField(f"{_KEY} is {settings!r}, not an object")
        method = word(settings, "quant_method", method)
        settings = settings | {"quant_method": method}
        return format_of(settings).checked(settings)
    except BadField as error:
        raise BenchsuiteError(
            f"a checkpoint of method {method!r} cannot be read: {str(error)[:400]}",
            str(file),
            _READABLE,
        ) from error


def format_of(settings: Mapping[str, Any]) -> Any:
    """Return the module that knows the format of a quantization config.

    Raises ``BadField`` where there is none.
    """
    method = settings["quant_method"]
    if method == compressed.METHOD:
        return FORMATS.get(word(settings, "format", ""), int8)
    if method not in ("gptq", "awq"):
        raise BadField("an unknown method")
    return FORMATS[method]


def has_settings(folder: Path) -> bool:
    """Say whether a checkpoint folder is a quantized one, of whatever method."""
    named = read_config(folder).get(_KEY) is not None
    return named or any((folder / name).exists() for name in _FILES)


def _found(folder: Path) -> tuple[Path, Any, str]:
    """Return (file, what it says, the method that it means unless it names one)."""
    config = read_config(folder)
    if config.get(_KEY) is not None:
        return folder / "config.json", config[_KEY], "gptq"
    for name, method in _FILES.items():
        file = folder / name
        if file.exists():
            return file, read_json(file), method
    raise unquantized(folder)


def unquantized(folder: Path, why: str = "") -> BenchsuiteError:
    """Return the error for a folder that holds no quantized model; ``why`` it is not sparse."""
    return BenchsuiteError(
        f"no readable quantization config: config.json has no {_KEY}, and neither "
        f"{' nor '.join(_FILES)} is there{f'; nor is it 2:4 sparse: {why}' if why else ''}",
        str(folder),
        "Copy the checkpoint again; a model that is not quantized is given with --local, or to "
        "`benchsuite compare`",
    )
