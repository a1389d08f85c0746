"""Names to quantizers: plain data, so that a study can be declared without torch.

``OWN`` are the project's, ``LIBRARIES`` run other people's code (room ``external``). A new
quantizer is one file with a ``quantize`` function and one entry here, or one call of
``register_quantizer`` in a user's own ``conftest.py``.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchsuite.errors import BenchsuiteError
from benchsuite.registry import Registry

REFERENCE = "fp16"
"""The name of the model as it is, which stands beside quantized ones."""

SPARSE = "2:4 sparse"
"""The kind of methods that prune: controls of what quantizing costs."""


@dataclass(frozen=True)
class Quantizer:
    """One way to quantize: a module with ``quantize``, its settings, and its kind.

    ``ranking`` is ``weight-only``, ``W8A8``, ``W4A4``, ``KV8``, ``KV4`` (the cache alone) or
    ``2:4 sparse``: methods that round activations, the cache, and those that prune, are never
    ranked beside those that do not. ``numbers`` says
    what the codes of its weights are: ``INT`` or ``FP``. ``calibrated`` methods take a batch,
    ``seeded`` ones a seed; ``options`` names the study parameters that are handed on. ``packages``
    are the distributions that it runs: without them its cells are skipped, and their versions are
    part of a record's identity.
    """

    module: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    ranking: str = "weight-only"
    numbers: str = "INT"
    calibrated: bool = True
    seeded: bool = False
    options: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


def _own(name: str, settings: Mapping[str, Any], **kind: Any) -> Quantizer:
    return Quantizer(f"benchsuite.quantizers.{name}", settings, **kind)


def _library(name: str, settings: Mapping[str, Any], *packages: str, **kind: Any) -> Quantizer:
    module = f"benchsuite.quantizers.external.{name}"
    usual: dict[str, Any] = {"seeded": True, "options": ("group_size",)}
    return Quantizer(module, settings, packages=packages, **(usual | kind))


GPTQ_VARIANTS: dict[str, dict[str, Any]] = {
    "act": {"desc_act": True},
    "asym": {"sym": False},
    "clip": {"mse": True},
    "sequential": {"true_sequential": True},
}
"""GPTQ's own settings that people leave at their defaults, one changed at a time."""

FP4_GPTQ: dict[str, dict[str, Any]] = {
    f"{format}_{name}_{widths}": {
        "format": format,
        "rotate_groups": name == "mrgptq",
        "activations": widths == "w4a4",
    }
    for format in ("nvfp4", "mxfp4")
    for name in ("gptq", "mrgptq")
    for widths in ("w4a16", "w4a4")
}
"""GPTQ on FP4, for weights or for inputs too, and behind small rotations (MR-GPTQ)."""

ASYMMETRIC = tuple(f"{name}_w{bits}" for name in ("gptaq", "qronos") for bits in (4, 3, 2))
"""Methods that answer for the layers before, which matters more the fewer bits there are."""

GGUF = {
    f"gguf_{with_matrix}{mix}": {"mix": mix, "imatrix": bool(with_matrix)}
    for mix in ("q8_0", "q5_k_m", "q4_k_m", "q3_k_m", "q4_0", "iq4_nl")
    for with_matrix in ("", "imatrix_")
    if (mix, with_matrix) != ("q8_0", "imatrix_")  # there is no scale to be searched for
}
"""llama.cpp's mixes, with and without an importance matrix."""

CACHES = ("kv_fp8_plain", "kv_fp8_tensor", "kv_fp8_head", "kv_int8", "kv_int4")
"""Rounded keys and values, weights as they are."""

VARIANTS = (
    "rtn_w4_asym",
    *(f"gptq_w4_{name}" for name in GPTQ_VARIANTS),
    *FP4_GPTQ,
    *("kv_fp8_plain", "kv_fp8_tensor", "kv_int8"),
    *(name for name in GGUF if not name.endswith("q4_k_m")),
    *("rtn_w2", "gptq_w2", "gptaq_w3", "gptaq_w2", "qronos_w3", "qronos_w2"),
    *("rotated_rtn_w4", "mixed_w5", "mixed_w4"),
    *("signround_w4", "signround_w3"),
)
"""Further settings of a method that is there already."""

OWN: dict[str, Quantizer] = {
    "rtn_w8": _own("rtn", {"bits": 8}, calibrated=False, options=("group_size",)),
    "rtn_w4": _own("rtn", {"bits": 4}, calibrated=False, options=("group_size",)),
    "rtn_w3": _own("rtn", {"bits": 3}, calibrated=False, options=("group_size",)),
    "rtn_w2": _own("rtn", {"bits": 2}, calibrated=False, options=("group_size",)),
    "rtn_w4_asym": _own(
        "rtn", {"bits": 4, "sym": False}, calibrated=False, options=("group_size",)
    ),
    "gptq_w8": _own("gptq", {"bits": 8}, options=("group_size",)),
    "gptq_w4": _own("gptq", {"bits": 4}, options=("group_size",)),
    "gptq_w3": _own("gptq", {"bits": 3}, options=("group_size",)),
    "gptq_w2": _own("gptq", {"bits": 2}, options=("group_size",)),
    **{
        f"gptq_w4_{name}": _own("gptq", {"bits": 4, **setting}, options=("group_size",))
        for name, setting in GPTQ_VARIANTS.items()
    },
    **{
        name: _own(name[:-3], {"bits": int(name[-1])}, options=("group_size",))
        for name in ASYMMETRIC
    },
    "awq_w4": _own("awq", {"bits": 4}, options=("group_size",)),
    "hqq_w8": _own("hqq", {"bits": 8}, calibrated=False),
    "hqq_w4": _own("hqq", {"bits": 4}, calibrated=False),
    "adaround_w8": _own("adaround", {"bits": 8}, options=("group_size", "iterations")),
    "adaround_w4": _own("adaround", {"bits": 4}, options=("group_size", "iterations")),
    "smoothquant_w8a8": _own("smoothquant", {}, ranking="W8A8", options=("alpha",)),
    **{
        f"fp8_{scheme}": _own(
            "fp8",
            {"scheme": scheme},
            ranking="W8A8",
            numbers="FP",
            calibrated=scheme == "static",
        )
        for scheme in ("static", "dynamic", "block")
    },
    **{
        f"{format}_w4a16": _own("fp4", {"format": format}, numbers="FP", calibrated=False)
        for format in ("nvfp4", "mxfp4")
    },
    **{
        f"{format}_w4a4": _own(
            "fp4",
            {"format": format, "activations": True},
            ranking="W4A4",
            numbers="FP",
            calibrated=format == "nvfp4",
        )
        for format in ("nvfp4", "mxfp4")
    },
    **{
        name: _own(
            "fp4_gptq",
            setting,
            ranking="W4A4" if setting["activations"] else "weight-only",
            numbers="FP",
        )
        for name, setting in FP4_GPTQ.items()
    },
    "quarot_w4a16": _own("quarot", {"bits": 4, "activation_bits": 16, "kv_bits": 16}, seeded=True),
    "quarot_w4a4kv4": _own("quarot", {"bits": 4}, ranking="W4A4", seeded=True),
    **{
        name: _own("gguf", setting, calibrated=setting["imatrix"]) for name, setting in GGUF.items()
    },
    **{
        name: _own(
            "cache",
            {"numbers": name[3:]},
            ranking="KV4" if name == "kv_int4" else "KV8",
            numbers="FP" if "fp" in name else "INT",
            calibrated=name in ("kv_fp8_tensor", "kv_fp8_head"),
        )
        for name in CACHES
    },
    **{
        f"rotated_{name}_w4": _own(
            "rotated", {"bits": 4}, calibrated=name == "gptq", seeded=True, options=("group_size",)
        )
        for name in ("rtn", "gptq")
    },
    **{f"mixed_w{bits}": _own("mixed", {"bits": bits}, options=("group_size",)) for bits in (4, 3)},
    # The widths that vLLM reads, alike in what it runs as one.
    "mixed_w5": _own(
        "mixed", {"bits": 5, "widths": (4, 8), "fused": True}, options=("group_size",)
    ),
    **{
        f"signround_w{bits}": _own(
            "signround", {"bits": bits}, seeded=True, options=("group_size", "steps")
        )
        for bits in (4, 3, 2)
    },
    "wanda_2of4": _own("wanda", {}, ranking=SPARSE),
    "sparsegpt_2of4": _own("sparsegpt", {}, ranking=SPARSE),
}

_LLMCOMPRESSOR = ("llmcompressor", "compressed-tensors")

LIBRARIES: dict[str, Quantizer] = {
    "llmcompressor_gptq": _library("llmcompressor", {"recipe": "gptq"}, *_LLMCOMPRESSOR),
    "llmcompressor_awq": _library("llmcompressor", {"recipe": "awq"}, *_LLMCOMPRESSOR),
    "llmcompressor_smoothquant": _library(
        "llmcompressor", {"recipe": "smoothquant"}, *_LLMCOMPRESSOR, ranking="W8A8", options=()
    ),
    "llmcompressor_spinquant": _library(
        "llmcompressor", {"recipe": "spinquant"}, *_LLMCOMPRESSOR, calibrated=False
    ),
    "gptqmodel_gptq": _library("gptqmodel", {"method": "gptq", "bits": 4}, "gptqmodel"),
    "gptqmodel_awq": _library("gptqmodel", {"method": "awq", "bits": 4}, "gptqmodel"),
    "autoawq_awq": _library("autoawq", {}, "autoawq"),
    "neural_compressor_gptq": _library("neural_compressor", {"bits": 4}, "neural-compressor-pt"),
    "hqq_reference": _library("hqq", {"bits": 4}, "hqq", calibrated=False, options=()),
    "autoround": _library("autoround", {"bits": 4}, "auto-round"),
    "torchao_int4": _library("torchao", {}, "torchao", calibrated=False),
    "bitsandbytes_int8": _library(
        "bitsandbytes", {}, "bitsandbytes", ranking="W8A8", calibrated=False, options=()
    ),
}

QUANTIZERS = Registry("quantizer", OWN | LIBRARIES)
"""Every quantizer by its name, the method of its cells."""


def register_quantizer(name: str, quantizer: Quantizer) -> None:
    """Add a quantizer under ``name``; a name that stands for another one is a usage error."""
    QUANTIZERS.add(name, quantizer)


def quantizer(name: str) -> Quantizer:
    """Return a quantizer's entry; an unknown name is a usage error naming the nearest."""
    return QUANTIZERS.find(name)


def method_module(name: str) -> str:
    """Return the dotted name of the project's method in ``<name>.py``, for ``Study.code``."""
    return f"{__package__}.{name}"


def method(name: str) -> Any:
    """Return the project's method in ``<name>.py``, as in ``method("gptq").quantize(...)``.

    Taken by name, it belongs to the code of those cells alone whose study names it for them.
    """
    return importlib.import_module(method_module(name))


def apply(name: str, model: Any, batch: Any, *, seed: int, progress: Any, **options: Any) -> Any:
    """Quantize ``model`` in place with a registered method and return its QuantizationResult.

    ``batch`` is int64 [n_samples, seq_len], None for methods that need no data. Of ``options``
    (study parameters) each method takes those that its entry names. A method that returns anything
    else fails its cell: nothing would be known of what it made.
    """
    from benchsuite.quantizers.result import QuantizationResult

    entry = quantizer(name)
    arguments: dict[str, Any] = {k: v for k, v in options.items() if k in entry.options}
    if entry.seeded:
        arguments["seed"] = seed
    data = (batch,) if entry.calibrated else ()
    quantize = importlib.import_module(entry.module).quantize
    made = quantize(model, *data, **entry.settings, **arguments, progress=progress)
    if not isinstance(made, QuantizationResult):
        raise BenchsuiteError(
            f"the method {name!r} returned {type(made).__name__}, not a QuantizationResult",
            entry.module,
            "change the model in place and return what Account(model).close() gives",
        )
    return made
