"""What ``peers_cuda.py`` times of quantizing: ours, other libraries, and the limit.

A start is given a model, a batch int64 [n_samples, seq_len] and what is asked, and returns two
functions: what is timed, and what gives the quantized model.
"""

import gc
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

BATCH = 8
"""Samples of a step, for all who let one choose."""

Asked = dict[str, Any]
Start = Callable[[Any, Any, Asked], tuple[Callable[[], Any], Callable[[], Any]]]


def ours(method: str) -> Start:
    """Return the start of one of our own methods."""

    def start(model: Any, batch: Any, asked: Asked) -> Any:
        from benchsuite.quantizers import apply

        options = {"group_size": 128, "steps": asked["steps"]}
        run = lambda: apply(method, model, batch, seed=0, progress=None, **options)  # noqa: E731
        return run, lambda: model

    return start


def llm_compressor(model: Any, batch: Any, asked: Asked) -> Any:
    """Start llm-compressor's GPTQ; whether its Triton kernel ran is seen by counting."""
    import torch
    from compressed_tensors.offload import remove_dispatch
    from llmcompressor import oneshot, reset_session
    from llmcompressor.modifiers.gptq import GPTQModifier, gptq_quantize

    from benchsuite.embedded import models
    from benchsuite.quantizers.external import guest

    model.config._name_or_path = str(models.path("tiny_llama_1m"))  # It wants one with a name.
    rows: Any = [{"input_ids": row, "attention_mask": torch.ones_like(row)} for row in batch]
    recipe = GPTQModifier(targets="Linear", scheme="W4A16", ignore=["lm_head"], actorder=None)
    kernel, launches = gptq_quantize.fused_gptq_block_update, []

    def counted(*arguments: Any) -> None:  # a Mock would keep all tensors
        launches.append(1)
        kernel(*arguments)

    def run() -> None:
        with patch.object(gptq_quantize, "fused_gptq_block_update", counted):
            oneshot(
                model=model,
                recipe=recipe,
                dataset=torch.utils.data.DataLoader(rows, batch_size=BATCH),
                processor=guest.placeholder_tokenizer(),
                num_calibration_samples=len(batch),
                max_seq_length=batch.shape[1],
                sequential_offload_device=asked["device"],
            )

    def result() -> Any:
        ran = f"Triton, {len(launches)} launches" if launches else "plain torch"
        asked["path"] = f"{ran}, activations on {asked['device']}"
        reset_session()
        remove_dispatch(model, onload_tensors=True)
        return model.to(asked["device"])

    return run, result


def gptqmodel(model: Any, batch: Any, asked: Asked) -> Any:
    """Start gptqmodel's GPTQ, which reads a folder; loading, saving and reading back is free."""
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", str(max(2, (os.cpu_count() or 2) // 2)))
    from gptqmodel import BACKEND, GPTQModel, QuantizeConfig

    from benchsuite.quantizers import checkpoint
    from benchsuite.quantizers.external import guest

    folder = Path(tempfile.mkdtemp(dir=asked["scratch"]))
    source, saved = guest.write_model(model, folder / "original"), folder / "quantized"
    kind = {"desc_act": False, "act_group_aware": False, "damp_percent": 0.01}
    config = QuantizeConfig(bits=4, group_size=128, sym=True, offload_to_disk=False, **kind)
    where = {"device": asked["device"], "dtype": model.dtype}
    library = GPTQModel.load(str(source), config, trust_remote_code=False, **where)
    rows = [{"input_ids": row, "attention_mask": [1] * len(row)} for row in batch.tolist()]
    how = {"batch_size": BATCH, "calibration_sort": None, "backend": BACKEND.GPTQ_TORCH}

    def result() -> Any:
        library.save(str(saved))
        return checkpoint.load(saved, device=asked["device"])

    return lambda: library.quantize(rows, **how), result


def auto_round(model: Any, batch: Any, asked: Asked) -> Any:
    """Start AutoRound, its blocks compiled on a GPU."""
    from auto_round import AutoRound

    from benchsuite.quantizers.external import guest

    rounder = AutoRound(
        model,
        tokenizer=guest.placeholder_tokenizer(),
        bits=4,
        group_size=128,
        sym=True,
        iters=asked["steps"],
        batch_size=BATCH,
        dataset=[{"input_ids": row[None]} for row in batch.cpu()],
        nsamples=len(batch),
        seqlen=batch.shape[1],
        seed=0,
        device_map=asked["device"],
        low_cpu_mem_usage=False,
        enable_torch_compile=asked["device"] == "cuda",
    )
    done: list[Any] = []

    def result() -> Any:
        asked["path"] = "compiled blocks" if rounder.enable_torch_compile else "nothing compiled"
        return done[0].to(asked["device"])

    return lambda: done.append(rounder.quantize()[0]), result


def hqq(model: Any, batch: Any, asked: Asked) -> Any:
    """Start the authors' HQQ on a grid of equal groups."""
    from hqq.core.quantize import BaseQuantizeConfig, HQQLinear

    from benchsuite.quantizers.external import guest

    settings = BaseQuantizeConfig(nbits=4, group_size=64, axis=1)
    where = {"compute_dtype": model.dtype, "device": asked["device"]}

    def run() -> None:
        make = lambda linear: HQQLinear(linear, settings, del_orig=False, **where)  # noqa: E731
        guest.replace_linears(model, make)

    return run, lambda: model


def measured(start: Start, asked: Asked) -> dict[str, Any]:
    """Return the seconds of 1 layer and of a further one, the peak in GiB, the output error."""
    import engine_cuda as engine
    import torch

    shape = {"samples": asked["samples"], "seq_len": asked["seq_len"]}
    case = replace(engine.CASES[0], model=asked["model"], **shape)
    device, further = asked["device"], asked["layers"]
    new = engine.tokens(replace(case, seq_len=min(256, case.seq_len)), 2, seed=2).to(device)

    @torch.no_grad()
    def outputs(model: Any) -> Any:
        return model(input_ids=new).logits.float()

    def timed(n_layers: int, told: Asked) -> tuple[float, Any, Any]:
        model = engine.fresh_model(case, n_layers, device)
        goal = outputs(model)
        run, result = start(model, engine.tokens(case, case.samples), told)
        del model
        gc.collect()
        engine.wait()
        began = time.perf_counter()
        run()
        engine.wait()
        return time.perf_counter() - began, result, goal

    timed(1, asked | {"steps": min(5, asked["steps"])})
    first = timed(1, asked)[0]
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    more, result, goal = timed(1 + further, asked)
    peak = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0
    try:
        off = outputs(result()) - goal
        error, unknown = float(off.square().mean() / goal.square().mean()), ""
    except Exception as problem:  # The seconds stand, whatever a library's own way back raises.
        error, unknown = float("nan"), f"{type(problem).__name__}: {problem}"[:300]
    return {
        "first": first,
        "inner": (more - first) / further,
        "peak": peak,
        "error": error,
        "unknown": unknown,
        "path": asked.get("path", ""),
        "whole": first + (asked["whole"] - 1) * (more - first) / further,
    }


def limits(asked: Asked) -> dict[str, float]:
    """Return the least seconds of a layer by question, and the machine's rates."""
    import engine_cuda as engine

    from benchsuite.models.architecture import architecture_of

    shape = {"samples": asked["samples"], "seq_len": asked["seq_len"]}
    case = replace(engine.CASES[0], model=asked["model"], **shape)
    model = engine.fresh_model(case, 1, asked["device"])
    weights = sum(x.weight.numel() for _, x in architecture_of(model).named_linears(model))
    rates = engine.machine(asked["device"], 512 if asked["small"] else 16384)
    product, copy = 1e12 * rates["bf16 TFLOP/s"], 1e12 * rates["copy TB/s"]
    tokens = case.seq_len * (6 * BATCH * asked["steps"] + 4 * case.samples)
    return {
        "GPTQ": sum(engine.pieces(case, asked["device"]).values()),
        "SignRound": tokens * weights / product,
        "HQQ": weights * (2 + 0.5) / copy,
        "product": product,
        "copy": copy,
    }
