"""Quantized folders that other libraries own: opened by transformers with that library.

transformers chooses the reader by ``quant_method``. What it opens may compute with packed layers of
its own or with dequantized weights; a note says which.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchsuite.errors import BenchsuiteError, CellCannotRun, out_of_memory
from benchsuite.models import generation_settings, own_code, soundness
from benchsuite.models.folder import read_config, tensor_headers

PACKAGES = {
    "gptq": ("gptqmodel", "gptqmodel"),
    "awq": ("gptqmodel", "gptqmodel"),
    "auto-round": ("auto_round", "auto-round"),
    "compressed-tensors": ("compressed_tensors", "compressed-tensors"),
    "bitsandbytes": ("bitsandbytes", "bitsandbytes"),
    "hqq": ("hqq", "hqq"),
    "torchao": ("torchao", "torchao"),
    "quanto": ("optimum.quanto", "optimum-quanto"),
    "quark": ("quark", "amd-quark"),
    "mxfp4": ("kernels", "kernels"),
    "aqlm": ("aqlm", "aqlm"),
}
"""``quant_method`` -> the module and the package of the library that owns the format."""

_DEQUANTIZED = "its library dequantized the weights: their size in memory is no engine's"
_READ = "its weights are read as they are stored"
_NOT_ROUNDED = "; an engine also rounds what its layers read, which is not done here"


def open_foreign(
    word: str, folder: Path, device: str, trusted: bool, *, tried: str
) -> tuple[nn.Module, str, Sequence[str]]:
    """Return the model of a quantized folder, who read it, and what to know of that.

    ``tried`` says what failed before; it stands in the error if this fails too. Raises
    ``BenchsuiteError`` with all that was tried and what to install, ``CellCannotRun`` where the
    folder's own code would have to run and is not trusted.
    """
    for _ in tensor_headers(folder):  # a truncated file is named before a library reads it
        pass
    settings = read_config(folder).get("quantization_config") or {}
    method = str(settings.get("quant_method") or "unnamed")
    module, package = PACKAGES.get(method, ("", ""))
    lacking = bool(module) and _missing(module)
    try:
        with soundness.quiet_transformers(), own_code.refused(word), _no_bars():
            model, report = _opened(folder, device, trusted, method)
    except CellCannotRun:
        raise
    except Exception as error:  # each library fails in its own way on what it does not know
        if out_of_memory(error):
            raise
        install = f"Install what reads it: pip install {package}" if lacking else ""
        raise BenchsuiteError(
            f"a checkpoint of method {method!r} cannot be opened. Tried {tried}; transformers: "
            f"{soundness.said_of_loading(error)}",
            str(folder),
            install or "Try it where its library and its device are, or give a dequantized copy",
        ) from error
    from benchsuite.models.plainly import compute_plainly  # transformers is here where a model is

    known = _known_to_transformers(method)
    passed_over = "" if known else f", of method {method!r}, which transformers does not know"
    soundness.check_complete(report, f"{word}{passed_over}")
    compute_plainly(model)
    _try(model, folder, method)
    model.generation_config = generation_settings.read(folder) or model.generation_config
    notes: tuple[str, ...] = ()
    if not known:
        notes = (
            f"its config names the method {method!r}, which transformers passed over: {_READ}",
        )
    elif method == "compressed-tensors":
        notes = (_told(settings),)
    elif getattr(model, "hf_quantizer", None) is None:  # which transformers leaves on packed ones
        notes = (_DEQUANTIZED + (_NOT_ROUNDED if settings.get("activation_scheme") else ""),)
    with_it = f" with {package}" if package and not lacking else ""
    return model, f"transformers{with_it}", notes


def _known_to_transformers(method: str) -> bool:
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    # bitsandbytes has two names there, by its bits.
    return any(name in (method, f"{method}_4bit") for name in AUTO_QUANTIZATION_CONFIG_MAPPING)


def _try(model: nn.Module, folder: Path, method: str) -> None:
    """Raise where a model opens and cannot compute: its codes are not what its library packs."""
    token = torch.zeros(1, 1, dtype=torch.long, device=next(model.parameters()).device)
    try:
        with torch.no_grad(), soundness.quiet_transformers(), _no_bars():
            model(input_ids=token)
    except Exception as error:  # each library fails in its own way
        if out_of_memory(error):
            raise
        said = " ".join(str(error).split())[:300]
        raise BenchsuiteError(
            f"a checkpoint of method {method!r} opens, and cannot compute a token: "
            f"{type(error).__name__}: {said or 'no word'}",
            str(folder),
            "See that its weights are those of its quantization config, and that this device is "
            "one that the method's library computes on",
        ) from error


def _opened(folder: Path, device: str, trusted: bool, method: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, CompressedTensorsConfig

    more: dict[str, Any] = {}
    if method == "compressed-tensors":
        # Its packed layers need kernels of engines; dequantized weights need none.
        more["quantization_config"] = CompressedTensorsConfig(run_compressed=False)
    loader: Any = AutoModelForCausalLM
    return loader.from_pretrained(
        folder,
        dtype="auto",
        device_map={"": device},
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=trusted,
        output_loading_info=True,
        **more,
    )


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keep the libraries' own progress bars, notices and warnings off the terminal."""
    with redirect_stderr(StringIO()), redirect_stdout(StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _told(settings: dict[str, Any]) -> str:
    """Return what compressed-tensors does where it opens a model of these settings."""
    groups = [g for g in (settings.get("config_groups") or {}).values() if isinstance(g, dict)]
    kinds = ("input_activations", "output_activations")
    rounded = ["activations are"] if any(g.get(kind) for g in groups for kind in kinds) else []
    rounded += ["the cache is"] if settings.get("kv_cache_scheme") else []
    told = " and ".join(rounded)
    return _DEQUANTIZED + (f", and {told} rounded in simulation" if told else "")


def _missing(module: str) -> bool:
    try:
        return find_spec(module) is None
    except ModuleNotFoundError:  # the package around it is not there
        return True
