"""Quantized models on disk, in the formats of AutoGPTQ and AutoAWQ.

AutoGPTQ itself is archived, but its format is what gptqmodel, transformers and vLLM load: int32
``qweight`` [in * bits / 32, out] and ``qzeros`` [groups, out * bits / 32], float16 ``scales``
[groups, out] and int32 ``g_idx`` [in] in place of each weight. Its first version stores zero points
minus one. A zero point of 0 then has no code of its own, so asymmetric grids are written in the
second version (``gptq_v2``), which stores them as they are; symmetric ones in the first, which
every engine reads. AutoAWQ's format is in ``checkpoint_awq``.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.models.architecture import architecture_of
from benchsuite.quantizers import checkpoint_awq
from benchsuite.quantizers.linear import QuantizedLinear, quantized_linears
from benchsuite.quantizers.packing import octets, pack, unpack, words
from benchsuite.quantizers.walk import replace

FORMATS = ("gptq", "awq")

BITS = (2, 3, 4, 8)
"""Widths that AutoGPTQ's format knows."""

PARTS = ("qweight", "qzeros", "scales", "g_idx")
REINSTALL = "Save it again with --save-models, or copy it again"


def save(
    model: Any,
    folder: Path | str,
    *,
    format: str = "gptq",
    tokenizer: Any = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write a quantized model: safetensors, ``config.json``, ``quantize_config.json``, tokenizer.

    ``format`` is ``gptq`` (AutoGPTQ's: any grid) or ``awq`` (AutoAWQ's: 4 bits, no act order).
    ``details`` (calibration, seed, digests; JSON-able) goes into the ``meta`` of the quantization
    config. Raises a usage error if the format cannot hold the model.
    """
    from huggingface_hub import save_torch_state_dict

    folder = Path(folder)
    linears = quantized_linears(model)
    if format not in FORMATS:
        raise UsageError(f"unknown format {format!r}", fix=f"Known: {', '.join(FORMATS)}")
    _check_weights_only(model, linears, folder)
    settings_of = checkpoint_awq.settings if format == "awq" else _settings
    settings = settings_of(linears, folder) | {
        "meta": {"quantizer": "benchsuite", **(details or {})}
    }
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads(model.config.to_json_string(use_diff=False))
    config["quantization_config"] = settings
    config["dtype"] = str(next(model.parameters()).dtype).removeprefix("torch.")
    _write_json(folder / "config.json", config)
    _write_json(folder / "quantize_config.json", settings)
    if getattr(model, "generation_config", None) is not None:
        model.generation_config.save_pretrained(folder)
    save_torch_state_dict(_state(model, linears, format), folder, metadata={"format": "pt"})
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _check_weights_only(
    model: nn.Module, linears: Mapping[str, QuantizedLinear], folder: Path
) -> None:
    """Raise a usage error if layers do more than multiply: a reader would leave that out."""
    known = {name for name, _ in architecture_of(model).named_linears(model)}
    if not known.issuperset(linears) or any(
        type(m) is not QuantizedLinear for m in linears.values()
    ):
        raise UsageError(
            "AutoGPTQ's and AutoAWQ's formats hold weights only, and this model also quantizes or "
            "transforms activations",
            str(folder),
        )


def _settings(linears: Mapping[str, QuantizedLinear], folder: Path) -> dict[str, Any]:
    kinds = {(m.bits, m.group_size, m.sym) for m in linears.values()}
    whole_rows = all(m.group_size == m.in_features for m in linears.values())
    if whole_rows:
        kinds = {(bits, -1, sym) for bits, _, sym in kinds}
    if len(kinds) != 1:
        found = f"{len(kinds)} different grids" if kinds else "no quantized layer"
        raise UsageError(f"an AutoGPTQ checkpoint has one grid, this model {found}", str(folder))
    ((bits, group_size, sym),) = kinds
    if any(m.free_zeros is not None for m in linears.values()):
        raise UsageError("the AutoGPTQ format has no fractional zero points", str(folder))
    if bits not in BITS:
        known = ", ".join(map(str, BITS))
        raise UsageError(f"the AutoGPTQ format has no {bits}-bit codes, only {known}", str(folder))
    return {
        "quant_method": "gptq",
        "checkpoint_format": "gptq" if sym else "gptq_v2",
        "bits": bits,
        "group_size": group_size,
        "sym": sym,
        "desc_act": any(m.g_idx is not None for m in linears.values()),
        "lm_head": False,
        "pack_dtype": "int32",
    }


def _state(
    model: nn.Module, linears: Mapping[str, QuantizedLinear], format: str
) -> dict[str, Tensor]:
    """Return the tensors to store: tied ones once, packed layers in the format's own parts."""
    parts_of = checkpoint_awq.parts if format == "awq" else _parts
    state: dict[str, Tensor] = {}
    seen: set[tuple[int, torch.Size]] = set()
    inside = tuple(f"{name}." for name in linears)
    for name, tensor in model.state_dict(keep_vars=True).items():
        if name.startswith(inside) or (tensor.data_ptr(), tensor.shape) in seen:
            continue
        seen.add((tensor.data_ptr(), tensor.shape))
        state[name] = tensor.detach()
    for name, linear in linears.items():
        for part, tensor in parts_of(linear).items():
            state[f"{name}.{part}"] = tensor
    return {name: tensor.cpu().contiguous() for name, tensor in state.items()}


def _parts(linear: QuantizedLinear) -> dict[str, Tensor]:
    bits = linear.bits
    if linear.in_features % 32 or linear.out_features % 32:
        raise UsageError(
            f"the AutoGPTQ format packs multiples of 32 inputs and outputs, not "
            f"{linear.in_features} and {linear.out_features}"
        )
    zeros = linear.zeros.t() - int(linear.sym) & (2**bits - 1)
    columns = torch.arange(linear.in_features, dtype=torch.int32, device=linear.packed.device)
    parts = {
        "qweight": words(linear.packed).t(),
        "qzeros": words(pack(zeros, bits)),
        "scales": linear.scales.half().t(),
        "g_idx": columns // linear.group_size if linear.g_idx is None else linear.g_idx,
    }
    if linear.bias is not None:
        parts["bias"] = linear.bias
    return parts


def load(folder: Path | str, *, device: str = "cpu") -> nn.Module:
    """Return the model saved in ``folder``, its packed layers as QuantizedLinear modules.

    Reads what ``save`` writes and any AutoGPTQ, AutoAWQ or gptqmodel checkpoint (``gptq``,
    ``gptq_v2`` and AWQ's ``gemm``) of a known architecture. Raises one BenchsuiteError that names
    the folder and every fault: missing or extra tensors, wrong shapes, scales that are not finite.
    """
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    folder = Path(folder)
    settings = read_settings(folder)
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    del config.quantization_config
    with no_init_weights():
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    model.tie_weights()
    model.to(getattr(config, "dtype", None) or torch.float16)
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
    method = settings.get("quant_method", "gptq")
    key = "checkpoint_format"
    versions: tuple[str, ...] = ("gptq", "gptq_v2")
    widths: tuple[int, ...] = BITS
    if method == "awq":
        key, versions, widths = "version", ("gemm", "GEMM"), (4,)
    version = settings.get(key, versions[0])
    if method not in FORMATS or version not in versions or settings.get("bits") not in widths:
        raise BenchsuiteError(
            f"a checkpoint of method {method!r}, format {version!r}, {settings.get('bits')} bits "
            "cannot be read",
            where,
            "Give one in AutoGPTQ's format with 2, 3, 4 or 8 bits, or in AutoAWQ's gemm version",
        )
    return settings


@torch.no_grad()
def apply(model: nn.Module, folder: Path, settings: Mapping[str, Any]) -> None:
    """Put a checkpoint's tensors into a module tree of its architecture, in place on the tree."""
    names = [name for name, _ in architecture_of(model).named_linears(model)]
    state = _read(folder)
    awq = settings.get("quant_method") == "awq"
    wanted, layer_of = (checkpoint_awq.PARTS, checkpoint_awq.layer) if awq else (PARTS, _layer)
    faults: list[str] = []
    for name in names:
        parts = {part: state.pop(f"{name}.{part}", None) for part in (*wanted, "bias")}
        missing = [f"{name}.{part}" for part in wanted if parts[part] is None]
        if missing:
            faults.append(f"missing {', '.join(missing)}")
            continue
        original = model.get_submodule(name)
        assert isinstance(original, nn.Linear)
        fault, linear = layer_of(original, parts, settings)
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
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise BenchsuiteError("no safetensors file", str(folder), REINSTALL)
    for file in files:
        try:
            with safe_open(file, framework="pt") as handle:
                names = list(handle.keys())
                state.update({name: handle.get_tensor(name) for name in names})
        except (SafetensorError, OSError) as error:
            raise BenchsuiteError(f"unreadable file: {error}", str(file), REINSTALL) from error
    return state


def _layer(
    original: nn.Linear, parts: Mapping[str, Tensor | None], settings: Mapping[str, Any]
) -> tuple[str, QuantizedLinear | None]:
    """Return ("", the layer), or (what is wrong with its tensors, None)."""
    bits, n_in, n_out = settings["bits"], original.in_features, original.out_features
    qweight, qzeros, scales, g_idx = (parts[part] for part in PARTS)
    assert qweight is not None
    assert qzeros is not None
    assert scales is not None
    assert g_idx is not None
    width = n_in if settings["group_size"] == -1 else settings["group_size"]
    groups = -(-n_in // width)
    expected = {
        "qweight": (n_in * bits // 32, n_out),
        "qzeros": (groups, n_out * bits // 32),
        "scales": (groups, n_out),
        "g_idx": (n_in,),
    }
    for part, shape in expected.items():
        found = tuple(parts[part].shape)  # type: ignore[union-attr]
        if found != shape:
            return f"{part} has shape {list(found)}, not {list(shape)}", None
    if not torch.isfinite(scales).all():
        return "scales are not all finite", None
    if g_idx.min() < 0 or g_idx.max() >= groups:
        return f"g_idx names groups outside 0 to {groups - 1}", None
    offset = int(settings.get("checkpoint_format", "gptq") == "gptq")
    zeros = (unpack(octets(qzeros), bits, n_out) + offset & (2**bits - 1)).t()
    plain = torch.equal(g_idx.long(), torch.arange(n_in) // width)
    linear = QuantizedLinear(
        unpack(octets(qweight.t()), bits, n_in).contiguous(),
        scales.t().contiguous(),
        None if bool((zeros == 2 ** (bits - 1)).all()) else zeros,
        bits=bits,
        group_size=settings["group_size"],
        bias=original.bias if parts["bias"] is None else parts["bias"].to(original.weight.dtype),
        g_idx=None if plain else g_idx,
        dtype=original.weight.dtype,
    )
    return "", linear


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
