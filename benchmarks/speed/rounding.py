"""Rounding methods and 2:4 sparsity beside each other: the table of docs/quantizers.md.

Each method quantizes the same model from the same calibration text, drawn at random by the seed.
Perplexity and KL divergence from the original are of the same test text; bits per weight are those
of the blocks' linear layers, scales included. What is random is given as mean and standard
deviation over the seeds.

    python benchmarks/speed/rounding.py [--model tiny_llama_4m] [--device cpu] [--seeds 42 43 44]
"""

import argparse
import random
import statistics
import sys
import time
import traceback
from importlib import import_module
from typing import Any

import machine
import torch

from benchsuite.comparing.subject import open_subject
from benchsuite.corpora import load_text
from benchsuite.evaluation.divergence import divergence
from benchsuite.evaluation.perplexity import perplexity, tokenize_protocol
from benchsuite.quantizers.kernels import using_kernel
from benchsuite.quantizers.mixed import mean_bits

SEQUENTIAL = {"true_sequential": True}
ROUNDING: dict[str, tuple[str, dict[str, Any]]] = {
    "rtn": ("rtn", {}),
    "gptq": ("gptq", {}),
    "gptq, true sequential": ("gptq", SEQUENTIAL),
    "gptq, clip": ("gptq", {"mse": True}),
    "gptaq": ("gptaq", {}),
    "gptaq, alpha 1": ("gptaq", {"alpha": 1.0}),
    "qronos": ("qronos", {}),
    "signround": ("signround", {}),
    "rotated rtn": ("rotated", {}),
    "rotated gptq": ("rotated", {}),
    "mixed gptq": ("mixed", {}),
    "mixed gptq, fused": ("mixed", {"fused": True}),
}
SEEDED = ("rotated", "signround")
DATA_FREE = ("rtn", "rotated rtn")
SPARSE: dict[str, tuple[str, dict[str, Any]]] = {
    "wanda": ("wanda", {}),
    "sparsegpt": ("sparsegpt", {}),
}


def calibration(ids: torch.Tensor, samples: int, seq_len: int, seed: int) -> torch.Tensor:
    """Return chunks at random starts, int64 [samples, seq_len]."""
    generator = random.Random(seed)
    starts = [generator.randint(0, len(ids) - seq_len - 1) for _ in range(samples)]
    return torch.stack([ids[start : start + seq_len] for start in starts])


def quality(original: Any, model: Any, text: torch.Tensor, seq_len: int) -> tuple[float, float]:
    """Return perplexity and KL divergence from the original."""
    with using_kernel(model, "held"):
        found = perplexity(model, text, seq_len=seq_len).value
        return found, divergence(original, model, text, seq_len=seq_len).value


def spread(values: list[float], digits: int) -> str:
    """Return mean and standard deviation, the mean alone of one value."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def measured(
    name: str,
    module: str,
    how: dict[str, Any],
    original: Any,
    train: torch.Tensor,
    test: torch.Tensor,
    options: argparse.Namespace,
) -> str:
    """Return a method's row: bits per weight, perplexity, KL, seconds of the fastest seed."""
    quantize = import_module(f"benchsuite.quantizers.{module}").quantize
    found, seconds, width = [], [], 0.0
    for seed in options.seeds[:1] if name == "rtn" else options.seeds:
        model = open_subject(options.model, device=options.device).model
        batch = calibration(train, options.samples, options.seq_len, seed)
        data = () if name in DATA_FREE else (batch.to(options.device),)
        drawn = {"seed": seed} if module in SEEDED else {}
        begun = time.perf_counter()
        quantize(model, *data, **how, **drawn)
        seconds.append(time.perf_counter() - begun)
        width = mean_bits(model)
        found.append(quality(original, model, test, options.seq_len))
    values, kls = map(list, zip(*found, strict=True))
    return f"{width:.2f} | {spread(values, 3)} | {spread(kls, 4)} | {min(seconds):.1f}"


def main() -> int:
    """Run every method at every width and print the table; status 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny_llama_4m")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bits", type=int, nargs="*", default=[4, 3, 2])
    parser.add_argument("--seeds", type=int, nargs="*", default=[42, 43, 44])
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--seq-len", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=32_768)
    parser.add_argument("--group-size", type=int, default=128)
    parser.add_argument("--only", nargs="*", help="names of methods")
    options = parser.parse_args()
    base, failed = open_subject(options.model, device=options.device), 0
    test, train = (
        tokenize_protocol(base.tokenizer, load_text("embedded_text", split).joined)
        for split in ("test", "train")
    )
    test = test[: options.tokens]
    value = perplexity(base.model, test, seq_len=options.seq_len).value
    print("| method | bits per weight | perplexity | KL | seconds |\n|---|---|---|---|---|")
    print(f"| original | | {value:.3f} | | |")
    rows = [(name, *how, {"bits": b}) for b in options.bits for name, how in ROUNDING.items()]
    rows += [(name, *how, {}) for name, how in SPARSE.items()]
    for name, module, settings, bits in rows:
        if options.only and name not in options.only:
            continue
        told = f"{name} w{bits['bits']}" if bits else name
        how = {**bits, **({"group_size": options.group_size} if bits else {}), **settings}
        try:
            figures = measured(name, module, how, base.model, train, test, options)
        except Exception:
            traceback.print_exc()
            failed = 1
        else:
            print(f"| {told} | {figures} |", flush=True)
    print(
        f"\n{options.model}, {options.samples} x {options.seq_len} calibration tokens, groups of "
        f"{options.group_size}, {len(test):,} tokens of test text, seeds {options.seeds}; "
        f"{machine.line(options.device)}"
    )
    return failed


if __name__ == "__main__":
    sys.exit(main())
