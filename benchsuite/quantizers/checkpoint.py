"""Quantized models on disk, in the formats of AutoGPTQ, AutoAWQ and compressed-tensors.

The first two libraries are archived, but their formats are what gptqmodel, transformers and vLLM
load; the third's is llm-compressor's own and holds W8A8. One module each (``checkpoint_gptq``,
``checkpoint_awq``, ``checkpoint_int8``) knows a format's settings and tensors; this one does what
is common: files, the other tensors of the model, and naming every fault.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from benchsuite.catalog import is_gguf
from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.models import loading, own_code
from benchsuite.models.architecture import architecture_of
from benchsuite.models.folder import read_config, refuse_adapter, weight_files
from benchsuite.models.gguf import model_folder
from benchsuite.quantizers import checkpoint_awq, checkpoint_gptq, checkpoint_int8
from benchsuite.quantizers.int8 import Int8Linear
from benchsuite.quantizers.layers import replace
from benchsuite.quantizers.linear import QuantizedLinear, quantized_linears

FORMATS: dict[str, Any] = {
    "gptq": checkpoint_gptq,
    "awq": checkpoint_awq,
    "compressed-tensors": checkpoint_int8,
}
"""By the ``quant_method`` of a checkpoint's config."""

REINSTALL = "Save it again with --save-models, or copy it again"


def save(
    model: Any,
    folder: Path | str,
    *,
    format: str | None = None,
    tokenizer: Any = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write a quantized model: safetensors, ``config.json``, ``quantize_config.json``, tokenizer.

    ``format`` is ``gptq`` (AutoGPTQ's: any grid of integers), ``awq`` (AutoAWQ's: 4 bits, no act
    order) or ``compressed-tensors`` (W8A8); None takes the one in which engines expect such a
    model. ``details`` (calibration, seed, digests; JSON-able) goes into the ``meta`` of the
    quantization config. Raises a usage error if the format cannot hold the model.
    """
    from huggingface_hub import save_torch_state_dict

    folder = Path(folder)
    linears = quantized_linears(model)
    format = format or format_for(linears)
    if format not in FORMATS:
        raise UsageError(f"unknown format {format!r}", fix=f"Known: {', '.join(FORMATS)}")
    _check_layers(model, linears, format, folder)
    settings = FORMATS[format].settings(linears, folder) | {
        "meta": {"quantizer": "benchsuite", **(details or {})}
    }
    state = _state(model, linears, format)
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads(model.config.to_json_string(use_diff=False))
    config["quantization_config"] = settings
    config["architectures"] = [type(model).__name__]  # unset in a model built from its shape
    config["dtype"] = str(next(model.parameters()).dtype).removeprefix("torch.")
    _write_json(folder / "config.json", config)
    _write_json(folder / "quantize_config.json", settings)
    if getattr(model, "generation_config", None) is not None:
        model.generation_config.save_pretrained(folder)
    save_torch_state_dict(state, folder, metadata={"format": "pt"})
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def format_for(linears: Mapping[str, QuantizedLinear]) -> str:
    """Return the format for a model of these layers: W8A8 has its own, as has asymmetric W4."""
    layers = linears.values()
    if layers and all(isinstance(layer, Int8Linear) for layer in layers):
        return "compressed-tensors"
    asymmetric = all(layer.bits == 4 and layer.packed_zeros is not None for layer in layers)
    return "awq" if layers and asymmetric and all(m.g_idx is None for m in layers) else "gptq"


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _check_layers(
    model: nn.Module, linears: Mapping[str, QuantizedLinear], format: str, folder: Path
) -> None:
    """Raise a usage error if layers do more than the format says: a reader would leave that out."""
    known = {name for name, _ in architecture_of(model).named_linears(model)}
    held = Int8Linear if format == "compressed-tensors" else QuantizedLinear
    if not known.issuperset(linears) or any(type(m) is not held for m in linears.values()):
        raise UsageError(
            "AutoGPTQ's and AutoAWQ's formats hold weights only, that of compressed-tensors W8A8, "
            "and this model rounds or transforms what its layers read in another way",
            str(folder),
        )


def _state(
    model: nn.Module, linears: Mapping[str, QuantizedLinear], format: str
) -> dict[str, Tensor]:
    """Return the tensors to store: tied ones once, packed layers in the format's own parts."""
    state: dict[str, Tensor] = {}
    seen: set[tuple[int, torch.Size]] = set()
    inside = tuple(f"{name}." for name in linears)
    for name, tensor in model.state_dict(keep_vars=True).items():
        if name.startswith(inside) or (tensor.data_ptr(), tensor.shape) in seen:
            continue
        seen.add((tensor.data_ptr(), tensor.shape))
        state[name] = tensor.detach()
    for name, linear in linears.items():
        for part, tensor in FORMATS[format].parts(linear).items():
            state[f"{name}.{part}"] = tensor
    return {name: tensor.cpu().contiguous() for name, tensor in state.items()}


def load(folder: Path | str, *, device: str = "cpu", trusted: bool = False) -> nn.Module:
    """Return the model saved in ``folder``, its packed layers as QuantizedLinear modules.

    Reads what ``save`` writes and any AutoGPTQ, AutoAWQ, gptqmodel or llm-compressor checkpoint
    (``gptq``, ``gptq_v2``, AWQ's ``gemm``, dynamic W8A8) of a known architecture. Raises one
    BenchsuiteError that names the folder and every fault: missing or extra tensors, wrong shapes,
    scales that are not finite. A GGUF is read too: its layers are ordinary ones, whose weights are
    what the file's stand for. A folder whose own code would have to run is ``CellCannotRun``
    unless it is ``trusted``.
    """
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    folder = Path(folder)
    if is_gguf(folder):
        made = model_folder(folder)
        return loading.load_folder(made, str(folder), device, read_config(made)["dtype"]).eval()
    settings = read_settings(folder)
    with own_code.refused(str(folder)):
        config: Any = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=trusted
        )
    del config.quantization_config
    dtype = getattr(config, "dtype", None) or torch.float16
    with own_code.refused(str(folder)), no_init_weights():
        # Built in its dtype, not moved to it: the rotary frequencies stay in float32 as they are.
        model = AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation="sdpa", trust_remote_code=trusted
        )
    model.tie_weights()
    apply(model, folder, settings)
    return model.to(device).eval()


def read_settings(folder: Path) -> dict[str, Any]:
    """Return the quantization settings of a checkpoint folder, checked."""
    where = str(folder)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        settings = config.get("quantization_config")
        if settings is None:
            settings = json.loads((folder / "quantize_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchsuiteError(
            f"no readable quantization config: {error}", where, REINSTALL
        ) from error
    method = settings.setdefault("quant_method", "gptq")
    fault = FORMATS[method].fault(settings) if method in FORMATS else "an unknown method"
    if fault:
        raise BenchsuiteError(
            f"a checkpoint of method {method!r} cannot be read: {fault}",
            where,
            "Give one in AutoGPTQ's format with 2, 3, 4 or 8 bits, in AutoAWQ's gemm version, or "
            "compressed-tensors' W8A8 with activations rounded per token",
        )
    return settings


@torch.no_grad()
def apply(model: nn.Module, folder: Path, settings: Mapping[str, Any]) -> None:
    """Put a checkpoint's tensors into a module tree of its architecture, in place on the tree."""
    names = [name for name, _ in architecture_of(model).named_linears(model)]
    state = _read(folder)
    format = FORMATS[settings["quant_method"]]
    faults: list[str] = []
    for name in names:
        parts = {part: state.pop(f"{name}.{part}", None) for part in (*format.PARTS, "bias")}
        missing = [f"{name}.{part}" for part in format.PARTS if parts[part] is None]
        if missing:
            faults.append(f"missing {', '.join(missing)}")
            continue
        original = model.get_submodule(name)
        assert isinstance(original, nn.Linear)
        fault, linear = format.layer(original, parts, settings)
        if linear is None:
            faults.append(f"{name}: {fault}")
        else:
            replace(model, name, linear)
    inside = tuple(f"{name}." for name in names)
    faults += _install(model, state, inside)
    if faults:
        shown = "; ".join(faults[:6]) + ("; ..." if len(faults) > 6 else "")
        raise BenchsuiteError(f"the checkpoint is not whole: {shown}", str(folder), REINSTALL)


def _read(folder: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    refuse_adapter(folder)
    for file in weight_files(folder):
        try:
            with safe_open(file, framework="pt") as handle:
                names = list(handle.keys())
                state.update({name: handle.get_tensor(name) for name in names})
        except (SafetensorError, OSError) as error:
            raise BenchsuiteError(f"unreadable file: {error}", str(file), REINSTALL) from error
    return state


def _install(model: nn.Module, state: dict[str, Tensor], inside: tuple[str, ...]) -> list[str]:
    """Replace the tree's other parameters by the checkpoint's; return what does not fit."""
    faults = []
    tied: dict[int, nn.Parameter] = {}
    given: set[int] = set()
    waiting: list[tuple[str, nn.Parameter]] = []
    for name, parameter in list(model.named_parameters(remove_duplicate=False)):
        if name.startswith(inside):
            continue
        tensor = state.pop(name, None)
        if tensor is None:
            waiting.append((name, parameter))
            continue
        if tensor.shape != parameter.shape:
            faults.append(f"{name} has shape {list(tensor.shape)}, not {list(parameter.shape)}")
            continue
        fresh = nn.Parameter(tensor.to(parameter.dtype), requires_grad=False)
        tied[id(parameter)] = fresh
        given.add(id(parameter))
        _set_parameter(model, name, fresh)
    for name, parameter in waiting:
        if id(parameter) in given:
            _set_parameter(model, name, tied[id(parameter)])
        else:
            faults.append(f"missing {name}")
    # Some versions of transformers store buffers that others compute.
    buffers = {name for name, _ in model.named_buffers()}
    faults += [f"extra {name}" for name in state if name not in buffers]
    return faults


def _set_parameter(model: nn.Module, name: str, parameter: nn.Parameter) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, parameter)
