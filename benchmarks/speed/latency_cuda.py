"""The time of a token, one sample, in every format: by graphs, by the plain loop, under vLLM.

    python benchmarks/speed/latency_cuda.py [--vllm-python PYTHON] [--out latency.json]
    python benchmarks/speed/latency_cuda.py --models tiny_llama_1m --device cpu --new 8    # smoke

Weights are random at a model's true shapes, calibration is a handful of random tokens: codes are
worth nothing, sizes and kernels are the real ones. Every format generates greedily after a prompt
of random tokens, each layer on its kernel for few tokens. *limit* is what a token must read (packed
weights, head, cache) at the rate at which this card was seen to read in the same run; *share* is
limit over time. *alike* counts the leading tokens that graphs and loop have in common. vLLM serves
the same checkpoint afterwards, decoding one sample by CUDA graphs, while nothing else runs. A row
that fails says why, and the others go on.
"""

import argparse
import gc
import json
import tempfile
import time
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import machine
import torch
from torch import Tensor, nn

from benchsuite import catalog, quantizers
from benchsuite.decoding.loop import evaluating, greedy
from benchsuite.engines import EngineProcess, engine, serving
from benchsuite.evaluation import speed
from benchsuite.models import random_weights

MODELS = ("llama3_2_1b_instruct", "smollm2_135m")
METHODS = ("fp16", "rtn_w8", "rtn_w3", "gptq_w4", "hqq_w4", "awq_w4", "smoothquant_w8a8")
SEED = 42
HEADER = (
    f"{'format':18s} {'MB read':>8s} {'ttft ms':>8s} {'graphs ms':>9s} {'loop ms':>8s} "
    f"{'limit ms':>8s} {'share':>6s} {'alike':>6s} {'vLLM ttft':>9s} {'vLLM ms':>8s}"
)
Row = dict[str, Any]


def main() -> None:
    """Measure every format of every model, then vLLM's, and print the tables."""
    told, began = parsed(), time.monotonic()
    tables: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory() as root:
        for name in told.models:
            print(f"\n{name}, prompt of {told.prompt} tokens, {told.new} new", flush=True)
            tables[name] = [row_of(name, method, Path(root), told) for method in told.methods]
        write(tables, told, began)
        if told.vllm_python:
            served(tables, told.out.parent if told.out else Path(root), told, began)
    facts = write(tables, told, began)
    for name, rows in tables.items():
        print(f"\n{name}\n{HEADER}", *map(line, rows), sep="\n")
    print(*(f"{key}: {value}" for key, value in facts.items()), sep="\n")


def write(tables: dict[str, list[Row]], told: argparse.Namespace, began: float) -> Row:
    """Write what is there so far to the file asked for; return where and when it was measured."""
    facts = {
        **machine.facts(told.device),
        "seconds": round(time.monotonic() - began),
    }
    if told.out:
        asked = {"asked": vars(told)}
        told.out.write_text(json.dumps(facts | asked | tables, indent=1, default=str) + "\n")
    return facts


def parsed() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--prompt", type=int, default=128, help="tokens")
    parser.add_argument("--new", type=int, default=64, help="tokens")
    parser.add_argument("--calibration", type=int, nargs=2, default=(4, 256))
    parser.add_argument("--vllm-python", help="an interpreter that has vLLM")
    parser.add_argument("--seconds", type=float, default=330, help="no row of vLLM begins later")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def row_of(name: str, method: str, root: Path, told: argparse.Namespace) -> Row:
    """Return one format's numbers, or why there are none, and save it for vLLM."""
    row: Row = {"method": method}
    try:
        row |= measured(name, method, root / f"{name}-{method}", told)
    except Exception as error:
        row["error"] = f"{type(error).__name__}: {error}"
    print(line(row), flush=True)
    gc.collect()
    if told.device == "cuda":
        torch.cuda.empty_cache()
    return row


def measured(name: str, method: str, folder: Path, told: argparse.Namespace) -> Row:
    """Quantize a model of random weights and time it on both paths."""
    entry, generator = catalog.model(name), torch.Generator().manual_seed(SEED)
    dtype = "float16" if told.device == "cuda" else "float32"
    model: Any = random_weights.build(entry, device=told.device, dtype=dtype, seed=SEED).eval()
    vocabulary = model.config.vocab_size
    batch = torch.randint(vocabulary, tuple(told.calibration), generator=generator)
    prompt = torch.randint(vocabulary, (told.prompt,), generator=generator)
    began = time.monotonic()
    if method != "fp16":
        group = 128 if model.config.hidden_size % 128 == 0 else 64
        options = {"group_size": group, "iterations": 20}
        batch = batch.to(told.device)
        quantizers.apply(method, model, batch, seed=SEED, progress=None, **options)
    quantized_in = time.monotonic() - began
    began = time.monotonic()
    with quantizers.using_kernel(model, "few_tokens"):
        found = speed.measure(model, prompt, new_tokens=told.new, repeats=5, warmup=1)
        stage = time.monotonic() - began
        loop = speed.measure(
            model, prompt, new_tokens=min(told.new, 24), repeats=3, warmup=1, graphs=False
        )
        alike = same_tokens(model, prompt, told.new)
    row = {
        "path": found.path,
        "first_ms": 1e3 * found.first_token_seconds,
        "token_ms": 1e3 * found.token_seconds,
        "loop_ms": 1e3 * loop.token_seconds,
        "limit_ms": scaled(found.token_limit_seconds),
        "read_mb": scaled(found.token_limit_seconds, found.bytes_per_second, 1e-6),
        "bytes_per_second": found.bytes_per_second,
        "alone": found.device_alone,
        "memory_mb": found.peak_memory_bytes / 1e6,
        "alike": alike,
        "quantized_in_s": quantized_in,
        "stage_s": stage,
        "folder": str(folder),
        "prompt": prompt.tolist(),
    }
    if told.vllm_python:
        folder.mkdir()
        row["vllm_settings"] = serving.settings_for(model, told.prompt + told.new)
        row["vllm_error"] = serving.write(model, folder, quantized=method != "fp16")
    return row


def scaled(value: float | None, by: float | None = 1.0, unit: float = 1e3) -> float | None:
    """Return a product, None where a factor is not known."""
    return None if value is None or by is None else value * by * unit


def same_tokens(model: nn.Module, prompt: Tensor, new: int) -> int:
    """Return how many leading tokens both paths have in common."""
    from benchsuite.decoding.slots import Slots
    from benchsuite.decoding.ways import grows_in_slots

    if not grows_in_slots(model):
        return new
    with evaluating(model):
        ids = prompt[None].to(next(model.parameters()).device)
        loop = torch.stack([tokens for tokens, _ in islice(greedy(model, ids), new)], 1)[0]
        slots = Slots(model, 1, len(prompt) + new, new)
        with slots.running():
            slots.take([prompt.tolist()], [0])
            for _ in range(new):
                slots.step()
            same = (slots.tokens[0] == loop).long()
    return int(same.cumprod(0).sum())


def served(
    tables: dict[str, list[Row]], logs: Path, told: argparse.Namespace, began: float
) -> None:
    """Add what vLLM takes: all processes import at once, then one after another measures."""
    rows = [
        (name, row)
        for name, found in tables.items()
        for row in found
        if "error" not in row and not row["vllm_error"]
    ]
    with ExitStack() as stack:
        processes = []
        for name, row in rows:
            log = logs / f"vllm-{name}-{row['method']}.log"
            process = EngineProcess("vllm", engine("vllm"), log=log, python=told.vllm_python)
            processes.append(stack.enter_context(process))
        for (name, row), process in zip(rows, processes, strict=True):
            if time.monotonic() - began > told.seconds:
                row["vllm_error"] = "no time left"
                continue
            try:
                settings, folder = row["vllm_settings"], Path(row["folder"])
                row |= serving.timed(process, folder, row["prompt"], settings, new_tokens=told.new)
            except Exception as error:
                row["vllm_error"] = f"{type(error).__name__}: {error}"
            process.close()
            print(f"vLLM, {name}: {line(row)}", flush=True)


def line(row: Row) -> str:
    """Return a row as text."""
    if "error" in row:
        return f"{row['method']:18s} not measured: {row['error']}"
    share = None if row["limit_ms"] is None else row["limit_ms"] / row["token_ms"]
    numbers = (
        shown(row["read_mb"], 8, 0),
        shown(row["first_ms"], 8, 2),
        shown(row["token_ms"], 9, 3),
        shown(row["loop_ms"], 8, 2),
        shown(row["limit_ms"], 8, 3),
        shown(share, 6, 2),
        shown(row["alike"], 6, 0),
        shown(scaled(row.get("vllm_first_token_seconds")), 9, 2),
        shown(scaled(row.get("vllm_token_seconds")), 8, 3),
    )
    notes = [row["path"], f"stage {row['stage_s']:.1f} s"]
    if row["alone"] is False:
        notes.append("NOT ALONE on the card")
    if row.get("vllm_error"):
        notes.append(f"vLLM: {row['vllm_error'][:200]}")
    return f"{row['method']:18s} {' '.join(numbers)}  {', '.join(notes)}"


def shown(value: float | None, width: int, digits: int) -> str:
    """Return a number, or a dash where there is none."""
    return f"{'-':>{width}s}" if value is None else f"{value:{width}.{digits}f}"


if __name__ == "__main__":
    main()
