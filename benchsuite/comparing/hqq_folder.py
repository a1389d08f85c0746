"""Folders in HQQ's format, decoded by the library ``hqq`` and read as plain weights.

Its packed tensors lie under ``NAME.W_q`` with their scales, zeros and settings beside them, as
``AutoHQQHFModel.save_to_safetensors`` writes them, and transformers' ``HqqConfig`` did while it
could. transformers 5 reads neither: each layer is unpacked here, and the model gets its weight.
"""

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from benchsuite.errors import BenchsuiteError, CellCannotRun
from benchsuite.models import generation_settings, own_code, soundness
from benchsuite.models.folder import tensor_headers, weight_files

_PACKED = ".W_q"
_PICKLED = "qmodel.pt"
_NOTE = "hqq dequantized the weights: their size in memory is no engine's"


def is_hqq(folder: Path) -> bool:
    """Say whether a folder's weights are HQQ's; one that hqq pickled is a ``BenchsuiteError``."""
    if (folder / _PICKLED).exists() and not any(folder.glob("*.safetensors")):
        raise BenchsuiteError(
            f"its weights are a pickle of hqq's, {_PICKLED}",
            str(folder),
            "Write them as safetensors where you trust it: "
            "AutoHQQHFModel.save_to_safetensors(AutoHQQHFModel.from_quantized(folder), other)",
        )
    return any(name.endswith(_PACKED) for _, name, _, _ in tensor_headers(folder))


def open_hqq(
    word: str, folder: Path, device: str, trusted: bool, dtype: str
) -> tuple[nn.Module, str, Sequence[str]]:
    """Return the model of a folder in HQQ's format, who read it, and what to know of that.

    It computes in ``dtype``. Raises ``BenchsuiteError`` for layers that hqq cannot unpack, and
    ``CellCannotRun`` where hqq is not installed.
    """
    if find_spec("hqq") is None:
        raise CellCannotRun(
            "its weights are in HQQ's format, and hqq is not installed",
            str(folder),
            "Install what reads it: pip install hqq",
        )
    kind = getattr(torch, dtype)
    try:
        state = _state(folder, kind)
    except (KeyError, ValueError, RuntimeError, AssertionError) as error:
        raise BenchsuiteError(
            f"hqq cannot unpack a layer: {type(error).__name__}: {error}",
            str(folder),
            "Save it again with the version of hqq that is installed, or copy its files again",
        ) from error
    from transformers import AutoConfig, AutoModelForCausalLM

    from benchsuite.models.plainly import compute_plainly

    with soundness.quiet_transformers(), own_code.refused(word):
        config: Any = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=trusted
        )
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        model = AutoModelForCausalLM.from_config(config, dtype=kind, trust_remote_code=trusted)
    report = model.load_state_dict(state, strict=False)
    tied = set(getattr(model, "_tied_weights_keys", None) or ())
    missing = [key for key in report.missing_keys if key not in tied]
    soundness.check_complete(
        {"missing_keys": missing, "unexpected_keys": report.unexpected_keys}, word
    )
    model.tie_weights()
    compute_plainly(model)
    model.generation_config = generation_settings.read(folder) or model.generation_config
    return model.to(device), "benchsuite with hqq", (_NOTE,)


def _state(folder: Path, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the folder's tensors by name, packed layers as their weights."""
    found: dict[str, Tensor] = {}
    for file in weight_files(folder):
        with safe_open(file, "pt") as tensors:
            found |= {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
    for layer in [name.removesuffix(_PACKED) for name in found if name.endswith(_PACKED)]:
        inside = re.compile(rf"{re.escape(layer)}\.(\w+)")
        parts = {m[1]: found.pop(name) for name in list(found) if (m := inside.fullmatch(name))}
        bias = parts.pop("bias", None)
        found[f"{layer}.weight"] = _unpacked(parts, dtype)
        if bias is not None:
            found[f"{layer}.bias"] = bias
    return {name: t.to(dtype) if t.is_floating_point() else t for name, t in found.items()}


def _unpacked(parts: dict[str, Tensor], dtype: torch.dtype) -> Tensor:
    """Return a layer's weight [out, in]: hqq's own arithmetic, in the dtype it is stored for."""
    from hqq.core.quantize import HQQLinear

    layer = HQQLinear(None, None, compute_dtype=dtype, device="cpu")
    layer.load_state_dict({**parts, "W_q": nn.Parameter(parts["W_q"], requires_grad=False)})
    return layer.dequantize().detach()
