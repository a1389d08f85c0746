"""FP8 and FP4: their products on FP8 units, and what they cost a model beside INT4.

    python benchmarks/speed/floating_formats.py [--models smollm2_135m_q4] [--out formats.json]
    python benchmarks/speed/floating_formats.py --device cpu --tokens 16384          # docs' table

*Products*: a linear of each FP8 scheme at a decoder's widths, against the simulated product of the
same codes (largest difference over the largest output) and against bfloat16 (microseconds, median
of 20; on CUDA alone): ``us`` inside a graph, ``us_called`` one call with the host's part.

*Quality*: perplexity and mean KL to the model as it is on the same text, bits that each weight of
the blocks takes with its scales, and the seconds of quantizing. Of a method that fails the reason
is printed, and the others go on.

*Kernels* (`kernels_of_formats`, on CUDA alone, `--no-kernels` leaves them out): rounding of inputs,
FP4's products for few tokens, GPTQ's loop on FP4 grids, each beside its plain form and its limit.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import kernels_of_formats
import machine
import torch
from kernels_of_formats import product_microseconds
from torch import nn
from torch.nn import functional as F

from benchsuite import catalog, quantizers
from benchsuite.corpora.text import load_text
from benchsuite.evaluation.divergence import divergence
from benchsuite.evaluation.perplexity import perplexity, tokenize_protocol
from benchsuite.models.pool import ModelPool
from benchsuite.quantizers.formats.fp8_linear import SCHEMES, spread
from benchsuite.quantizers.fp8 import fp8_linear
from benchsuite.quantizers.linear import quantized_linears
from benchsuite.quantizers.registry import CACHES

FLOATING = [
    name
    for name, entry in quantizers.QUANTIZERS.items()
    if entry.numbers == "FP" and name not in CACHES  # those leave the weights as they are
]
METHODS = ("rtn_w4", "gptq_w4", "smoothquant_w8a8", *FLOATING)
SHAPES = ((4096, 4096), (14336, 4096), (4096, 14336))  # out, in
TOKENS = (1, 16, 2048)
Row = dict[str, Any]


def main() -> None:
    """Measure products, then every method on every model, and print the tables."""
    told, began = parsed(), time.monotonic()
    found: dict[str, list[Row]] = {"products": products(told)}
    print(table(found["products"]))
    if told.device == "cuda" and told.kernels:
        for part in kernels_of_formats.PARTS:
            found[part] = kernels_of_formats.measured(part, told.device)
            print(f"\n{part}\n{table(found[part])}", flush=True)
    for name in told.models:
        found[name] = quality(name, told)
        print(f"\n{name}\n{table(found[name])}", flush=True)
    facts = {
        **machine.facts(told.device),
        "seconds": round(time.monotonic() - began),
    }
    print(*(f"{key}: {value}" for key, value in facts.items()), sep="\n")
    if told.out:
        told.out.write_text(json.dumps(facts | found, indent=1) + "\n")


def parsed() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--models", nargs="*", default=["tiny_llama_4m"])
    parser.add_argument("--methods", nargs="*", default=METHODS)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--corpus", default="embedded_text")
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--seq-len", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=32768)
    parser.add_argument("--no-kernels", dest="kernels", action="store_false")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def products(told: argparse.Namespace) -> list[Row]:
    """Return a row per scheme, shape and number of tokens; on a CPU of one small shape."""
    on_gpu, rows = told.device == "cuda", []
    for n_out, n_in in SHAPES if on_gpu else ((256, 512),):
        linear = nn.Linear(n_in, n_out, bias=False, device=told.device, dtype=torch.bfloat16)
        for scheme in SCHEMES:
            largest = torch.tensor(6.0, device=told.device) if scheme == "static" else None
            layer = fp8_linear(linear, scheme, largest)
            for tokens in TOKENS if on_gpu else (5,):
                inputs = torch.randn(tokens, n_in, device=told.device, dtype=torch.bfloat16)
                row: Row = {"scheme": scheme, "out": n_out, "in": n_in, "tokens": tokens}
                row["fp8"] = layer.runs_in_fp8
                try:
                    row["difference"] = _difference(layer, inputs)
                    for name, run in (("", layer), ("_bf16", linear)) if on_gpu else ():
                        stored = float(n_out * n_in * (1 if run is layer else 2))
                        row[f"us_called{name}"] = _microseconds(lambda x=inputs, run=run: run(x))
                        row[f"us{name}"] = product_microseconds(run, stored, inputs, told.device)
                except Exception as error:
                    row["failed"] = " ".join(str(error).split())[:200]
                rows.append(row)
    return rows


@torch.no_grad()
def _difference(layer: Any, inputs: torch.Tensor) -> float:
    codes, scales = layer.plainly_rounded(inputs)
    weight_scales = layer.scales.float()
    if layer.scheme == "block":
        scales = scales.repeat_interleave(128, 1)[:, : inputs.shape[1]]
        weight_scales = spread(weight_scales, layer.packed.shape)
    weight = layer.weight_codes.float() * weight_scales
    expected = F.linear((codes.float() * scales).double(), weight.double())
    return float((layer(inputs) - expected).abs().max() / expected.abs().max())


@torch.no_grad()
def _microseconds(run: Any) -> float:
    taken = []
    for _ in range(23):
        torch.cuda.synchronize()
        began = time.perf_counter()
        run()
        torch.cuda.synchronize()
        taken.append(1e6 * (time.perf_counter() - began))
    return round(median(taken[3:]), 1)


def quality(name: str, told: argparse.Namespace) -> list[Row]:
    """Return a row per method, the model as it is first."""
    pool, entry = ModelPool(device=told.device), catalog.model(name)
    with pool.lease(entry) as lease:
        tokenizer = lease.tokenizer

        def text(split: str, n: int) -> torch.Tensor:
            joined = load_text(told.corpus, split).joined[: 8 * n]
            return tokenize_protocol(tokenizer, joined).flatten()[:n]

        length = told.samples * told.seq_len
        batch = text("train", length).reshape(told.samples, told.seq_len).to(told.device)
        ids = text("test", told.tokens)
        original = perplexity(lease.model, ids, seq_len=told.seq_len).value
        rows: list[Row] = [{"method": "as it is", "perplexity": round(original, 3)}]
        for method in told.methods:
            row: Row = {"method": method}
            rows.append(row)
            with pool.lease(entry) as mine:
                try:
                    row |= _measured(method, lease.model, mine.model, batch, ids, told)
                except Exception as error:
                    row["failed"] = " ".join(str(error).split())[:200]
            print(row, flush=True)
    return rows


def _measured(
    method: str,
    original: nn.Module,
    model: nn.Module,
    batch: torch.Tensor,
    ids: torch.Tensor,
    told: argparse.Namespace,
) -> Row:
    began = time.monotonic()
    options = {"group_size": 128, "alpha": None}
    done = quantizers.apply(method, model, batch, seed=0, progress=None, **options)
    seconds = time.monotonic() - began
    layers = quantized_linears(model).values()
    weights = sum(m.in_features * m.out_features for m in layers)
    with quantizers.using_kernel(model, "held"):
        value = perplexity(model, ids, seq_len=told.seq_len).value
        kl = divergence(original, model, ids, seq_len=told.seq_len).value
    return {
        "perplexity": round(value, 3),
        "kl": round(kl, 4),
        "bits": round(8 * sum(m.packed_bytes for m in layers) / weights, 3),
        "seconds": round(seconds, 1),
        "simulated": done.latency_simulated,
    }


def table(rows: list[Row]) -> str:
    """Return rows as Markdown; a column for every key that any of them has."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    lines = [f"| {' | '.join(keys)} |", "|" + "---|" * len(keys)]
    lines += [f"| {' | '.join(str(row.get(key, '')) for key in keys)} |" for row in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
