"""Quantized models on disk, in the formats of AutoGPTQ, AutoAWQ and compressed-tensors.

The first two libraries are archived, but their formats are what gptqmodel, transformers and vLLM
load; the third's are llm-compressor's own and hold W8A8 in integers and in FP8, and FP4. One module
each (``gptq``, ``awq``, ``packed``, ``int8``, ``fp8``, ``fp4``) knows a format's settings and
tensors; this one does what is common: files, the other tensors of the model, and naming every
fault. A GGUF is one file of its own (``gguf``).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from benchsuite.catalog import is_gguf
from benchsuite.errors import BenchsuiteError, CellCannotRun, UsageError
from benchsuite.models import generation_settings, loading, own_code, soundness
from benchsuite.models.architecture import architecture_of
from benchsuite.models.folder import (
    read_config,
    refuse_adapter,
    stored_dtype,
    tensor_headers,
)
from benchsuite.models.gguf import model_folder
from benchsuite.models.hub_names import hub_name, tree_name
from benchsuite.quantizers.checkpoint import dense, gguf, packed
from benchsuite.quantizers.checkpoint.settings import (
    FORMATS,
    format_of,
    has_settings,
    read_settings,
    unquantized,
)
from benchsuite.quantizers.layers import replace
from benchsuite.quantizers.linear import QuantizedLinear, quantized_linears

__all__ = ["apply", "format_for", "load", "packed_outside", "save"]

REINSTALL = "Save it again with --save-models, or copy it again"
WRITTEN = FORMATS | {"dense": dense, "gguf": gguf}
"""What a model can be saved in: the last two have no quantization config to be read by."""
_SPARSE: Mapping[str, Any] = {"quant_method": "dense"}
"""The settings of a folder that has none: a 2:4 sparse model, or no quantized one."""
_OF_INTEGERS = ("awq", "gptq", packed.FORMAT)  # for packed weights, in this order
_COMPUTED = ".rotary_emb.inv_freq"  # stored by earlier versions of transformers


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
    order), ``compressed-tensors`` (W8A8 in integers), another format of compressed-tensors by its
    own name (``pack-quantized``: any grid of integers but act order; ``float-quantized``,
    ``nvfp4-pack-quantized``, ``mxfp4-pack-quantized``), ``dense`` (2:4 sparse models, as any model
    is saved) or ``gguf`` (ggml's types: one file beside the tokenizer's); None takes the one in
    which engines expect such a model. ``details`` (calibration, seed, digests; JSON-able) goes into
    the ``meta`` of the quantization config, where there is one. Tensors have the names that the hub
    gives them. Raises a usage error that names layer and reason if the format cannot hold the
    model; nothing is written then.
    """
    from huggingface_hub import save_torch_state_dict

    folder = Path(folder)
    linears = quantized_linears(model)
    format = format or format_for(linears)
    if format not in WRITTEN:
        raise UsageError(f"unknown format {format!r}", fix=f"Known: {', '.join(WRITTEN)}")
    if format == "gguf":
        gguf.save(model, folder, tokenizer)
        return
    _check_layers(model, linears, format, folder)
    if not linears and format != "dense":
        raise UsageError(
            "this model has no quantized layer: it is what it was loaded from",
            str(folder),
            "quantize it first, or write it as transformers does, with save_pretrained",
        )
    kind = model.config.model_type
    left = [hub_name(kind, name) for name in _left(model)]
    named = {hub_name(kind, name): linear for name, linear in linears.items()}
    settings = WRITTEN[format].settings(named, folder, left)
    state = _state(model, linears, format)
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads(model.config.to_json_string(use_diff=False))
    config["architectures"] = [type(model).__name__]  # unset in a model built from its shape
    if not _tied(model):  # which a configuration may say wrongly, and engines would believe it
        config["tie_word_embeddings"] = False
    config["dtype"] = str(next(model.parameters()).dtype).removeprefix("torch.")
    if settings:
        settings |= {"meta": {"quantizer": "benchsuite", **(details or {})}}
        config["quantization_config"] = settings
        _write_json(folder / "quantize_config.json", settings)
    _write_json(folder / "config.json", config)
    generation_settings.write(model, folder)
    save_torch_state_dict(state, folder, metadata={"format": "pt"})
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def _tied(model: Any) -> bool:
    head, table = model.get_output_embeddings(), model.get_input_embeddings()
    return head is not None and head.weight is table.weight


def format_for(linears: Mapping[str, QuantizedLinear]) -> str:
    """Return the format for a model of these layers: other kinds of layers than packed integers
    have their own, as has asymmetric W4. 2:4 sparse models are saved as any model is.

    Where AutoAWQ's cannot hold one of the layers, AutoGPTQ's may, and where that cannot,
    compressed-tensors' packed one.
    """
    layers = linears.values()
    for name, format in WRITTEN.items():
        if name not in _OF_INTEGERS and layers and all(map(format.holds, layers)):
            return name
    asymmetric = layers and all(layer.packed_zeros is not None for layer in layers)
    for name in _OF_INTEGERS if asymmetric else _OF_INTEGERS[1:]:
        if not any(FORMATS[name].lacking(layer) for layer in layers):
            return name
    return "gptq"


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _check_layers(
    model: nn.Module, linears: Mapping[str, QuantizedLinear], format: str, folder: Path
) -> None:
    """Raise a usage error if layers do more than the format says: a reader would leave that out."""
    known = {name for name, _ in architecture_of(model).named_linears(model)}
    if not known.issuperset(linears) or not all(map(WRITTEN[format].holds, linears.values())):
        raise UsageError(
            "AutoGPTQ's and AutoAWQ's formats hold weights only, those of compressed-tensors W8A8 "
            "or FP4, and this model rounds or transforms what its layers read in another way",
            str(folder),
            "leave --save-models out, and the cell is measured without it",
        )
    for name, linear in linears.items():
        lacking = WRITTEN[format].lacking(linear)
        if lacking:
            raise UsageError(
                f"the {WRITTEN[format].TITLE} format has no {lacking}, as in {name}",
                str(folder),
                "leave the format out, and one that holds the layers is chosen",
            )
    if any(hasattr(module, "key_value_rounding") for module in model.modules()):
        raise UsageError(
            "no format that is written holds a rounded cache",
            str(folder),
            "leave --save-models out, and the cell is measured without it",
        )


def _left(model: nn.Module) -> Iterator[str]:
    """Yield the paths of what engines would take to be packed and is not: linears and routers."""
    architecture = architecture_of(model)
    for name, linear in architecture.named_linears(model):
        if not isinstance(linear, QuantizedLinear):
            yield name
    routers = dict.fromkeys(path for group in architecture.groups for path in group.also)
    for index in range(len(architecture.block_list(model))):
        yield from (f"{architecture.block_name(index)}.{path}" for path in routers)


def _state(model: Any, linears: Mapping[str, QuantizedLinear], format: str) -> dict[str, Tensor]:
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
        for part, tensor in WRITTEN[format].parts(linear).items():
            state[f"{name}.{part}"] = tensor
    kind = model.config.model_type
    return {hub_name(kind, name): tensor.cpu().contiguous() for name, tensor in state.items()}


def load(folder: Path | str, *, device: str = "cpu", trusted: bool = False) -> nn.Module:
    """Return the model saved in ``folder``, its packed layers as QuantizedLinear modules.

    Reads what ``save`` writes and any AutoGPTQ, AutoAWQ, gptqmodel or llm-compressor checkpoint
    (``gptq``, ``gptq_v2``, AWQ's ``gemm``, W4A16 and the like, dynamic W8A8, FP8) of a known
    architecture, and ordinary ones whose every linear in the blocks is 2:4 sparse. Raises one
    BenchsuiteError that names the folder and every fault: missing or extra tensors, wrong shapes,
    scales that are not finite. A GGUF is read too: its layers are ordinary ones, whose weights are
    what the file's stand for. A folder whose own code would have to run is ``CellCannotRun`` unless
    it is ``trusted``.
    """
    folder = Path(folder)
    if is_gguf(folder):
        made = model_folder(folder)
        return loading.load_folder(made, str(folder), device, read_config(made)["dtype"]).eval()
    settings = read_settings(folder) if has_settings(folder) else _SPARSE
    outside = packed_outside(folder)
    if outside:
        raise BenchsuiteError(
            f"{outside}, and only layers of the blocks are read",
            str(folder),
            "Quantize it again with that left out (ignore lm_head), or compare it with "
            "`benchsuite compare`, which asks transformers",
        )
    try:
        with own_code.refused(str(folder)), soundness.quiet_transformers():
            model = _built(folder, trusted)
    except (CellCannotRun, MemoryError):
        raise
    except Exception as error:  # a wrong value in config.json fails wherever it is first used
        raise BenchsuiteError(
            "transformers cannot build the model of its config.json: "
            f"{soundness.said_of_loading(error)}",
            str(folder),
            "Check that config.json is that of a model which transformers knows",
        ) from error
    apply(model, folder, settings)
    with soundness.quiet_transformers():
        model.generation_config = generation_settings.read(folder) or model.generation_config
    return model.to(device).eval()


def packed_outside(folder: Path) -> str:
    """Return what of a checkpoint is packed beside the layers of its blocks, or nothing.

    That is told by its tensors: a head or a table of embeddings has a weight and a bias.
    """
    for _, name, _, _ in tensor_headers(folder):
        path, _, part = name.rpartition(".")
        in_a_block = any(word.isdigit() for word in path.split("."))
        if not in_a_block and part.startswith(("weight_", "qweight", "qzeros", "scales")):
            return "its head is quantized" if path == "lm_head" else f"its {path} is quantized"
    return ""


def _built(folder: Path, trusted: bool) -> Any:
    """Return the model that ``config.json`` describes, its weights whatever memory held."""
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    from benchsuite.models.plainly import compute_plainly

    config: Any = AutoConfig.from_pretrained(
        folder, local_files_only=True, trust_remote_code=trusted
    )
    if hasattr(config, "quantization_config"):  # not where the settings have a file of their own
        del config.quantization_config
    dtype = getattr(config, "dtype", None) or getattr(torch, stored_dtype(folder))
    with no_init_weights():
        # Built in its dtype, not moved to it: the rotary frequencies stay in float32 as they are.
        model = AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation="sdpa", trust_remote_code=trusted
        )
    compute_plainly(model)
    model.tie_weights()
    return model


@torch.no_grad()
def apply(model: nn.Module, folder: Path, settings: Mapping[str, Any]) -> None:
    """Put a checkpoint's tensors into a module tree of its architecture, in place on the tree.

    ``settings`` are those that `read_settings` gives. Every tensor of the tree is replaced, or
    named in a ``BenchsuiteError``.
    """
    kind = str(model.config.model_type)  # type: ignore[union-attr]
    linears = dict(architecture_of(model).named_linears(model))
    state = _read(folder, kind)
    format = dense if settings is _SPARSE else format_of(settings)
    faults: list[str] = []
    packed: list[str] = []
    for name, original in linears.items():
        known_as = list(dict.fromkeys((hub_name(kind, name), name)))
        own = format.rule(settings, known_as, packed=f"{name}.{format.PARTS[0]}" in state)
        if own is None:
            continue
        packed.append(name)
        assert isinstance(original, nn.Linear)
        fault, linear = _layer(format, name, original, state, own)
        if linear is None:
            faults.append(fault)
        else:
            replace(model, name, linear)
    if format is dense and faults:
        raise unquantized(folder, _in_words(kind, faults[0]))
    faults += _install(model, state, tuple(f"{name}." for name in packed))
    if faults:
        faults = [_in_words(kind, fault) for fault in faults]
        shown = "; ".join(faults[:6]) + ("; ..." if len(faults) > 6 else "")
        raise BenchsuiteError(f"the checkpoint is not whole: {shown}", str(folder), REINSTALL)


def _in_words(kind: str, fault: str) -> str:
    """Return a fault with the names that the hub gives to the tensors in it."""
    return " ".join(hub_name(kind, word) for word in fault.split(" "))


def _layer(
    format: Any,
    name: str,
    original: nn.Linear,
    state: dict[str, Tensor],
    settings: Mapping[str, Any],
) -> tuple[str, QuantizedLinear | None]:
    """Take a layer's tensors out of ``state``; return ("", the layer) or (a fault, None)."""
    known = (*format.PARTS, *format.EXTRA, "bias")
    parts = {part: state.pop(f"{name}.{part}", None) for part in known}
    wanted: Sequence[str] = (*format.PARTS, *(["bias"] if original.bias is not None else []))
    missing = [f"{name}.{part}" for part in wanted if parts[part] is None]
    if missing:
        return f"missing {', '.join(missing)}", None
    fault, linear = format.layer(original, parts, settings)
    return f"{name}: {fault}" if fault else "", linear


def _read(folder: Path, kind: str) -> dict[str, Tensor]:
    """Return a checkpoint's tensors by their names in a model tree of type ``kind``."""
    state: dict[str, Tensor] = {}
    refuse_adapter(folder)
    files: dict[Path, list[str]] = {}
    for file, name, _, _ in tensor_headers(folder):
        files.setdefault(file, []).append(name)
    for file, names in files.items():
        try:
            with safe_open(file, framework="pt") as handle:
                for name in names:
                    ours = tree_name(kind, name)
                    if ours in state:
                        raise BenchsuiteError(
                            f"the checkpoint holds {ours} under two names", str(folder), REINSTALL
                        )
                    state[ours] = handle.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise BenchsuiteError(f"unreadable file: {error}", str(file), REINSTALL) from error
    return state


def _install(model: nn.Module, state: dict[str, Tensor], inside: tuple[str, ...]) -> list[str]:
    """Replace the tree's other parameters and stored buffers; return what does not fit."""
    faults = []
    tied: dict[int, Tensor] = {}
    waiting: list[tuple[str, Tensor]] = []
    for name, held in _stored(model):
        if name.startswith(inside):
            continue
        tensor = state.pop(name, None)
        if tensor is None:
            waiting.append((name, held))
        elif tensor.shape != held.shape:
            faults.append(f"{name} has shape {list(tensor.shape)}, not {list(held.shape)}")
        elif held.is_floating_point() and not tensor.is_floating_point():
            faults.append(f"{name} is {tensor.dtype}, not floating point")
        elif tensor.is_floating_point() and not torch.isfinite(tensor).all():
            faults.append(f"{name} is not all finite")
        else:
            fresh = tensor.to(held.dtype)
            if isinstance(held, nn.Parameter):
                fresh = nn.Parameter(fresh, requires_grad=False)
            tied[id(held)] = fresh
            _set_tensor(model, name, fresh)
    for name, held in waiting:
        if id(held) in tied:
            _set_tensor(model, name, tied[id(held)])
        else:
            faults.append(f"missing {name}")
    # Some versions of transformers store buffers that others compute.
    computed = {name for name, _ in model.named_buffers()}
    faults += [f"extra {n}" for n in state if n not in computed and not n.endswith(_COMPUTED)]
    return faults


def _stored(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Return (name, tensor) of all parameters and buffers that a checkpoint has to hold."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    state = model.state_dict(keep_vars=True)
    return [*parameters.items(), *((n, t) for n, t in state.items() if n not in parameters)]


def _set_tensor(model: nn.Module, name: str, tensor: Tensor) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, tensor)
