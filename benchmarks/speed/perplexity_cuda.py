"""Perplexity on one GPU beside the products that it cannot do without.

    python benchmarks/speed/perplexity_cuda.py [--models llama2_7b opt_6_7b] [--chunks 124]
    python benchmarks/speed/perplexity_cuda.py --small      # a smoke run, on a CPU too

Weights are random at a model's true shapes, tokens are random. One run measures the rate of one
large product, then perplexity by transformers' own operations and as it is, the rate of the model's
own products alone (for as long as an evaluation takes, since a GPU slows down under load), how far
the values of the chunks lie apart, and whether a second run repeats them bit for bit.
"""

import argparse
import contextlib
import datetime
import gc
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from benchsuite import catalog
from benchsuite.evaluation.perplexity import perplexity
from benchsuite.models import random_weights

BAR = 0.7
SEQ_LEN, TOKENS_PER_FORWARD = 2048, 8192
MODELS = ("llama2_7b", "llama2_13b", "opt_6_7b")


def wait() -> None:
    """Wait until the GPU, if there is one, has done what it was sent."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def rate(run: Callable[[], Any], flops: float, seconds: float) -> float:
    """Return FLOP/s of ``run`` repeated for about ``seconds`` after a warm-up."""
    for _ in range(3):
        run()
    wait()
    began, done = time.perf_counter(), 0
    while done == 0 or time.perf_counter() - began < seconds:
        for _ in range(5):
            run()
        wait()
        done += 5
    return done * flops / (time.perf_counter() - began)


def large_product(device: str, size: int) -> float:
    """Return FLOP/s of one square product in float16, over a tenth of a second."""
    left, right = (torch.randn(size, size, device=device, dtype=torch.float16) for _ in range(2))
    return rate(lambda: left @ right, 2 * size**3, 0.1)


def products(model: nn.Module) -> list[nn.Linear]:
    """Return the model's linears, the head among them."""
    return [module for module in model.modules() if isinstance(module, nn.Linear)]


def own_products(model: nn.Module, n_tokens: int, seconds: float) -> float:
    """Return FLOP/s of the model's linears on ``n_tokens`` random inputs, one after another."""
    linears = products(model)
    widths = {linear.in_features for linear in linears}
    device, dtype = linears[0].weight.device, linears[0].weight.dtype
    inputs = {width: torch.randn(n_tokens, width, device=device, dtype=dtype) for width in widths}

    @torch.no_grad()
    def run() -> None:
        for linear in linears:
            linear(inputs[linear.in_features])

    return rate(run, 2 * n_tokens * weights(model), seconds)


def weights(model: nn.Module) -> int:
    """Return how many weights a token is multiplied with."""
    return sum(linear.weight.numel() for linear in products(model))


def random_model(name: str, device: str) -> nn.Module:
    """Return the catalogued model in float16 with random weights."""
    return random_weights.build(catalog.model(name), device=device, dtype="float16", seed=0).eval()


def random_tokens(model: Any, n_tokens: int) -> Tensor:
    """Return random ids [n_tokens]."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, model.config.vocab_size, (n_tokens,), generator=generator)


def by_own_operations() -> contextlib.AbstractContextManager[Any]:
    """Let perplexity run transformers' forwards as they are."""
    return patch("benchsuite.evaluation.perplexity.fused_forwards", contextlib.nullcontext)


@dataclass(frozen=True)
class Run:
    """One evaluation: seconds, the chunks' values and how many FLOP its products take."""

    seconds: float
    chunk_nll: np.ndarray
    flops: float

    @property
    def rate(self) -> float:
        """FLOP/s of the products over the whole time."""
        return self.flops / self.seconds


def evaluate(model: nn.Module, tokens: Tensor, seq_len: int, batch_size: int) -> Run:
    """Time one evaluation after a warm-up of two forwards."""
    perplexity(model, tokens[: 2 * batch_size * seq_len], seq_len=seq_len, batch_size=batch_size)
    wait()
    began = time.perf_counter()
    found = perplexity(model, tokens, seq_len=seq_len, batch_size=batch_size)
    seconds = time.perf_counter() - began
    return Run(seconds, found.chunk_nll, 2.0 * weights(model) * found.n_tokens)


def apart(one: Run, other: Run) -> float:
    """Return the largest relative difference between two runs' chunks."""
    return float(np.max(np.abs(one.chunk_nll / other.chunk_nll - 1)))


def compare(name: str, device: str, n_chunks: int, seq_len: int, ceiling: float) -> None:
    """Measure one model and print its lines."""
    model, batch_size = random_model(name, device), min(n_chunks, TOKENS_PER_FORWARD // seq_len)
    tokens = random_tokens(model, n_chunks * seq_len)
    with by_own_operations():
        own = evaluate(model, tokens, seq_len, batch_size)
    runs = [evaluate(model, tokens, seq_len, batch_size) for _ in range(2)]
    alone = own_products(model, batch_size * seq_len, own.seconds)
    for what, run in (("own operations", own), ("as it is", runs[0])):
        print(
            f"{name:14}{what:16}{len(run.chunk_nll) * seq_len:9,}{run.seconds:9.3f}"
            f"{run.rate / ceiling:10.1%}{run.rate / alone:9.1%}",
            flush=True,
        )
    same = np.array_equal(runs[0].chunk_nll, runs[1].chunk_nll)
    print(
        f"{'':14}its products alone {alone / 1e12:.4g} TFLOP/s; chunks differ by at most "
        f"{apart(runs[0], own):.1e}; {'repeats bit for bit' if same else 'DOES NOT REPEAT'}; "
        f"bar {BAR:.0%}: {'met' if runs[0].rate / ceiling >= BAR else 'MISSED'}",
        flush=True,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--chunks", type=int, default=124, help="chunks of 2,048 tokens")
    parser.add_argument("--small", action="store_true", help="a smoke run at tiny shapes")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not arguments.small:
        parser.error("no GPU: only --small runs here")
    name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    ceiling = large_product(device, 256 if arguments.small else 8192)
    print(f"{name}, torch {torch.__version__}, {datetime.date.today()}")
    print(f"one large product in fp16: {ceiling / 1e12:.4g} TFLOP/s; shares are of its rate")
    print("and of that of the model's own products alone\n")
    print(f"{'model':14}{'forwards':16}{'tokens':>9}{'seconds':>9}{'of large':>10}{'of own':>9}")
    for model in ("tiny_llama_1m",) if arguments.small else arguments.models:
        size = (8, 128) if arguments.small else (arguments.chunks, SEQ_LEN)
        compare(model, device, *size, ceiling)
        gc.collect()


if __name__ == "__main__":
    main()
