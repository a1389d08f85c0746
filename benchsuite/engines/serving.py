"""A model of ours under vLLM, from the same checkpoint: how fast it serves one sample.

vLLM runs in a process of its own, in its own interpreter (`benchsuite.engines.process`), beside the
process that quantized: it is given a key-value cache of the size that the sample needs, and asks
for little of the device's memory beyond.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchsuite.engines.process import EngineProcess
from benchsuite.engines.registry import engine
from benchsuite.errors import UsageError
from benchsuite.evaluation.speed import NEW_TOKENS, WARMUP
from benchsuite.models import generation_settings
from benchsuite.models.architecture import architecture_of
from benchsuite.quantizers import checkpoint
from benchsuite.quantizers.linear import quantized_linears

_PACKED_BITS = {4, 8}
# vLLM wants this share of the device to be free when it starts, however little it then takes.
_SHARE_OF_DEVICE = 0.05
_CACHE_BLOCK = 16  # tokens


def unreadable(settings: Mapping[str, Any]) -> str:
    """Return why vLLM 0.26 does not read a checkpoint of this quantization config, or nothing."""
    if settings["quant_method"] == "gptq":
        kinds = [settings, *(own for _, own in settings["dynamic"] if own)]
        name, symmetric = "AutoGPTQ", settings["sym"]
    elif "kinds" in settings:
        kinds, name, symmetric = settings["kinds"], "packed compressed-tensors", True
    else:
        return ""
    widths = sorted({kind["bits"] for kind in kinds if "bits" in kind})
    if not _PACKED_BITS.issuperset(widths):
        told = ", ".join(map(str, widths))
        return f"vLLM reads {name} checkpoints of 4 and 8 bits, not of {told}"
    return "" if symmetric else "vLLM reads AutoGPTQ checkpoints of symmetric grids only"


def write(model: Any, folder: Path, *, quantized: bool = True) -> str:
    """Save ``model`` in the format in which vLLM expects it; return why it cannot, or nothing."""
    if not quantized:
        generation_settings.save_pretrained(model, folder)
        return ""
    try:
        checkpoint.save(model, folder)
    except UsageError as error:
        return error.what
    format = checkpoint.format_for(quantized_linears(model))
    if format == "dense":
        return ""
    if format == "gguf":
        return "a GGUF is what llama.cpp serves: vLLM is not asked to"
    settings = checkpoint.read_settings(folder)
    return unreadable(settings) or _narrower_group(model) or _widths_apart(model)


def _narrower_group(model: Any) -> str:
    """Return the layer whose last group is narrower, which vLLM does not read, or nothing."""
    for name, linear in quantized_linears(model).items():
        if linear.in_features % linear.group_size:
            return (
                f"vLLM reads whole groups only, and the {linear.in_features} inputs of {name} are "
                f"no multiple of {linear.group_size}"
            )
    return ""


def _widths_apart(model: Any) -> str:
    """Return linears that vLLM runs as one and that have several widths, or nothing."""
    architecture = architecture_of(model)
    for name, block in architecture.named_blocks(model):
        for group in architecture.groups:
            widths = {getattr(block.get_submodule(path), "bits", None) for path in group.linears}
            if len(widths) > 1:
                return (
                    f"vLLM runs the linears {group.name} of a block as one, and those of {name} "
                    f"have several widths"
                )
    return ""


def settings_for(model: Any, n_tokens: int, *, samples: int = 1) -> dict[str, Any]:
    """Return what ``load`` is asked: ``model``'s half precision, room for ``n_tokens`` a sample."""
    config = model.config
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    token_bytes = 2 * 2 * head * heads * config.num_hidden_layers  # keys and values, two bytes each
    # A block more for what vLLM keeps empty, and twice that: its own demand is a little above.
    tokens = (-(-n_tokens // _CACHE_BLOCK) + 1) * _CACHE_BLOCK
    return {
        "dtype": "bfloat16" if model.dtype == torch.bfloat16 else "float16",
        "max_model_len": n_tokens,
        "gpu_memory_utilization": _SHARE_OF_DEVICE,
        "kv_cache_gib": 2 * samples * tokens * token_bytes / 2**30,
    }


def latency(
    model: Any,
    folder: Path,
    prompt: Sequence[int],
    *,
    python: str,
    log: Path,
    new_tokens: int = NEW_TOKENS,
    repeats: int = 3,
) -> dict[str, Any]:
    """Return how fast vLLM generates ``new_tokens`` after ``prompt`` from ``model``'s checkpoint.

    It runs in a process of its own for the time; what is returned, ``timed`` says. Raises
    ``EngineError``.
    """
    settings = settings_for(model, len(prompt) + new_tokens)
    with EngineProcess("vllm", engine("vllm"), log=log, python=python) as process:
        return timed(process, folder, prompt, settings, new_tokens=new_tokens, repeats=repeats)


def timed(
    process: EngineProcess,
    folder: Path,
    prompt: Sequence[int],
    settings: Mapping[str, Any],
    *,
    new_tokens: int = NEW_TOKENS,
    repeats: int = 3,
) -> dict[str, Any]:
    """Load a checkpoint with ``settings_for`` it in a vLLM ``process`` and time one sample.

    ``vllm_latency_seconds`` is the median from the call to the last of ``new_tokens`` tokens (two
    or more), the engine's own scheduling included, ``vllm_tokens_per_second`` the new tokens over
    it; ``vllm_first_token_seconds`` is that of one token alone, ``vllm_token_seconds`` what each
    further one adds. ``vllm_memory_bytes`` is what PyTorch held at most in vLLM's process,
    ``vllm_cache_bytes`` of it the reserved cache. ``vllm_using`` are its words on the kernels it
    chose. Raises ``EngineError``.
    """
    told = process.load(checkpoint_folder=str(folder), graphs=True, **settings)
    first = median(process.latency(prompt, 1, repeats=repeats, warmup=WARMUP)["seconds"])
    found = process.latency(prompt, new_tokens, repeats=repeats, warmup=WARMUP)
    seconds = median(found["seconds"])
    return {
        "vllm_latency_seconds": seconds,
        "vllm_first_token_seconds": first,
        "vllm_token_seconds": (seconds - first) / (new_tokens - 1),
        "vllm_tokens_per_second": new_tokens / seconds,
        "vllm_memory_bytes": found["peak_memory_bytes"],
        "vllm_cache_bytes": int(settings["kv_cache_gib"] * 2**30),
        "vllm_version": told["vllm"],
        "vllm_using": told["using"],
    }
