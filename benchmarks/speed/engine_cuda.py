"""The quantizers' engine on one GPU at true layer shapes, each figure beside its limit.

    python benchmarks/speed/engine_cuda.py [--layers 2] [--methods gptq_w4 awq_w4]
    python benchmarks/speed/engine_cuda.py --small      # a smoke run, on a CPU too

Weights are random and lie on the GPU, tokens are random. One run measures the machine, GPTQ's
stages of an inner layer beside the same work as bare calls of torch, every method on 1 and on
1 + N layers (extrapolated to the whole model: the first and last layers' own costs once, an inner
layer's for the rest), llm-compressor's GPTQ likewise where it is installed, and, since a speed
counts only for a right result, every method's output error on two layers beside that of its plain
twin: float32 weights and activations, no TF32, no Triton.
"""

import argparse
import contextlib
import copy
import datetime
import gc
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from benchsuite import catalog
from benchsuite.embedded.models import path as embedded_path
from benchsuite.models.architecture import architecture_of
from benchsuite.models.fused import fused_forwards
from benchsuite.quantizers import adaround, apply, gptq
from benchsuite.quantizers.formats.packing import pack
from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.walking import hessian
from benchsuite.quantizers.walking.hidden_states import HiddenStates, capture

GPTQ_BAR, TWIN_BAR = 1.3, 0.005
STAGES = ("forward", "statistics", "factor", "loop", "pack")


@dataclass(frozen=True)
class Case:
    """One method at its shapes: calibration tokens, the bar in seconds for the whole model."""

    method: str
    bar: float
    model: str = "llama2_7b"
    samples: int = 128
    seq_len: int = 2048
    iterations: int = 2000
    most_layers: int = 8
    twin_samples: int = 16
    twin_iterations: int = 200

    def quantize(self, model: nn.Module, batch: Tensor) -> Any:
        """Quantize in place; each method takes of the options what it knows."""
        options = {"group_size": 128, "iterations": self.iterations, "steps": steps_of(self)}
        return apply(self.method, model, batch, seed=0, progress=None, **options)


def steps_of(case: Case) -> int:
    """Return SignRound's steps, a tenth of AdaRound's iterations: 200."""
    return max(1, case.iterations // 10)


CASES = (
    Case("gptq_w4", 25),
    Case("smoothquant_w8a8", 15),
    Case("awq_w4", 60, seq_len=512),
    Case("hqq_w4", 10),
    Case("quarot_w4a4kv4", 45),
    Case("adaround_w4", 900, model="llama3_2_1b_instruct", most_layers=1),
)


def small(case: Case) -> Case:
    """Return the case at a size that any machine runs in a moment."""
    return replace(
        case, model="tiny_llama_1m", samples=4, seq_len=64, iterations=5, twin_iterations=5
    )


def fresh_model(case: Case, n_layers: int, device: str) -> Any:
    """Return the catalogued model with fewer layers and random weights, on the device."""
    entry = catalog.model(case.model)
    config = AutoConfig.for_model(
        entry.model_type, **(dict(entry.shape) | {"num_hidden_layers": n_layers})
    )
    with torch.device(device), torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(
            config, dtype=getattr(torch, entry.dtype), trust_remote_code=False
        ).eval()


def tokens(case: Case, samples: int, seed: int = 1) -> Tensor:
    """Return random tokens, int64 [samples, seq_len]."""
    generator = torch.Generator().manual_seed(seed)
    words = catalog.model(case.model).shape["vocab_size"]
    return torch.randint(0, words, (samples, case.seq_len), generator=generator)


def wait() -> None:
    """Wait until the GPU, if there is one, has done what it was sent."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(run: Callable[[], Any], repeats: int = 3) -> float:
    """Return the mean time of ``run`` after one warm-up call."""
    run()
    wait()
    began = time.perf_counter()
    for _ in range(repeats):
        run()
    wait()
    return (time.perf_counter() - began) / repeats


# --- the machine and the bare pieces


def machine(device: str, size: int) -> dict[str, float]:
    """Return copy bandwidth in TB/s, products in TFLOP/s and the time of one Cholesky in ms."""
    half = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    single = torch.randn(size // 2, size // 2, device=device)
    positive = single @ single.t() + size * torch.eye(size // 2, device=device)
    block = torch.empty(size * size * 16, dtype=torch.uint8, device=device)
    target = torch.empty_like(block)
    return {
        "copy TB/s": 2 * block.numel() / seconds(lambda: target.copy_(block)) / 1e12,
        "bf16 TFLOP/s": 2 * size**3 / seconds(lambda: half @ half) / 1e12,
        "fp32 TFLOP/s": 2 * (size // 2) ** 3 / seconds(lambda: single @ single) / 1e12,
        f"Cholesky of {size // 2} ms": 1e3 * seconds(lambda: torch.linalg.cholesky_ex(positive)),
    }


def product(rows: Tensor, columns: Tensor) -> Tensor:
    """Return rows @ columns with float32 sums."""
    if rows.is_cuda:
        return torch.mm(rows, columns, out_dtype=torch.float32)
    return rows.float() @ columns.float()


def upper_products(x: Tensor) -> None:
    """Multiply x^T x for x [tokens, features] on and above the diagonal, in four strips."""
    width = max(256, -(-x.shape[1] // 4))
    for start in range(0, x.shape[1], width):
        product(x[:, start : start + width].t(), x[:, start:])


def forward(lanes: list[HiddenStates], block: nn.Module) -> None:
    """Run the first block over all calibration tokens, keeping nothing."""
    with fused_forwards(block):
        for lane in lanes:
            for part in lane.slices():
                lane.run(block, 0, part)


def bare_factor(matrix: Tensor) -> None:
    """Factor once."""
    torch.linalg.cholesky_ex(matrix)


def bare_loop(work: Tensor, factor: Tensor, kernel: gptq.BlockQuantizer) -> None:
    """Round ``work`` [columns, rows] on one fixed grid: kernels and trailing products alone."""
    scale, zero = QuantizationGrid(4, -1).fit(work, dim=0)
    for start in range(0, len(work), 128):
        end = start + 128
        block = factor[start:end, start:end]
        _, errors = kernel(work[start:end], block, scale, zero, 15)
        work[end:].addmm_(factor[start:end, end:].t(), errors, alpha=-1)


def pieces(case: Case, device: str) -> dict[str, float]:
    """Return the seconds by stage of what GPTQ must do for one inner layer, as bare calls."""
    model = fresh_model(case, 1, device)
    architecture = architecture_of(model)
    block: Any = architecture.block_list(model)[0]
    with torch.no_grad():
        lanes = capture(model, architecture, tokens(case, case.samples))
        found = dict.fromkeys(STAGES, 0.0)
        found["forward"] = 2 * seconds(partial(forward, lanes, block), 1)
        steps = sum(len(list(lane.slices())) for lane in lanes)
        step_tokens = len(lanes[0].states[next(lanes[0].slices())]) * case.seq_len
        kernel = gptq.block_quantizer(torch.device(device))
        for group in architecture.groups:
            linears = [block.get_submodule(path) for path in group.linears]
            rows, columns = sum(m.out_features for m in linears), linears[0].in_features
            x = torch.randn(step_tokens, columns, device=device, dtype=lanes[0].states.dtype)
            found["statistics"] += steps * seconds(partial(upper_products, x))
            positive = x.float().t() @ x.float() / len(x) + torch.eye(columns, device=device)
            found["factor"] += seconds(partial(bare_factor, positive), 1)
            upper = torch.linalg.cholesky_ex(positive)[0].t()
            work = 0.02 * torch.randn(columns, rows, device=device)
            found["loop"] += seconds(partial(bare_loop, work, upper, kernel), 1)
            codes = torch.zeros(rows, columns, dtype=torch.uint8, device=device)
            found["pack"] += seconds(partial(pack, codes, 4))
    return found


# --- whole methods


@dataclass(frozen=True)
class Timing:
    """Seconds of 1 layer and of each further one, the stages of a further one, peak bytes."""

    first: float
    inner: float
    stages: dict[str, float]
    peak: int

    def whole(self, case: Case) -> float:
        """Return the seconds extrapolated to the model's true number of layers."""
        return self.first + (catalog.model(case.model).shape["num_hidden_layers"] - 1) * self.inner


def timed(
    case: Case, n_layers: int, device: str, quantize: Callable[[nn.Module, Tensor], Any]
) -> tuple[float, dict[str, float]]:
    """Return the seconds of one whole call, and by stage, on ``n_layers`` layers."""
    model, batch = fresh_model(case, n_layers, device), tokens(case, case.samples)
    gc.collect()
    wait()
    began = time.perf_counter()
    result = quantize(model, batch)
    wait()
    return time.perf_counter() - began, dict(getattr(result, "stage_seconds", {}))


def measure(
    case: Case, further: int, device: str, quantize: Callable[[nn.Module, Tensor], Any]
) -> Timing:
    """Time 1 layer and 1 + ``further`` layers after a small warm-up run."""
    warm = replace(case, samples=min(case.samples, 8), iterations=3)
    timed(warm, 1, device, warm.quantize if quantize == case.quantize else quantize)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    first, first_stages = timed(case, 1, device, quantize)
    more, stages = timed(case, 1 + further, device, quantize)
    inner = {name: (stages[name] - first_stages.get(name, 0.0)) / further for name in stages}
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return Timing(first, (more - first) / further, inner, peak)


def llm_compressor(model: nn.Module, batch: Tensor) -> None:
    """Quantize by llm-compressor's GPTQ on the same grid."""
    from datasets import Dataset
    from llmcompressor import oneshot
    from llmcompressor.modifiers.gptq import GPTQModifier

    rows = {"input_ids": batch.tolist(), "attention_mask": torch.ones_like(batch).tolist()}
    # It wants a model with a name and a tokenizer, and leaves a log in the working folder.
    named: Any = model
    named.config._name_or_path = str(embedded_path("tiny_llama_1m"))
    tokenizer = AutoTokenizer.from_pretrained(named.config._name_or_path, trust_remote_code=False)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        oneshot(
            model=model,
            dataset=Dataset.from_dict(rows),
            recipe=GPTQModifier(targets="Linear", scheme="W4A16", ignore=["lm_head"]),
            max_seq_length=batch.shape[1],
            num_calibration_samples=len(batch),
            processor=tokenizer,
        )


# --- the plain twin


@contextlib.contextmanager
def plain_arithmetic() -> Iterator[None]:
    """Take every fast path out: no TF32, the column loop in plain torch."""
    exact: Callable[[Tensor], Any] = lambda _: contextlib.nullcontext()  # noqa: E731
    with (
        patch.object(adaround, "products_for_a_gradient", exact),
        patch.object(hessian, "products_for_a_report", exact),
        patch.object(gptq, "block_quantizer", lambda *_: gptq.quantize_block),
    ):
        yield


@torch.no_grad()
def output_errors(case: Case, device: str) -> tuple[float, float]:
    """Return ||f_q(x) - f(x)||^2 / ||f(x)||^2 of the logits of new tokens: ours, the twin's.

    Both quantized models are evaluated in float32.
    """
    case = replace(case, iterations=case.twin_iterations)
    batch, new = tokens(case, case.twin_samples), tokens(case, 4, seed=2).to(device)
    ours = fresh_model(case, 2, device)
    plain = copy.deepcopy(ours).float()
    goal = plain(new).logits
    case.quantize(ours, batch)
    with plain_arithmetic():
        case.quantize(plain, batch)
    found = []
    for model in (ours.float(), plain):
        off = model(new).logits - goal
        found.append(float(off.square().mean() / goal.square().mean()))
    return found[0], found[1]


# --- the tables


def verdict(value: float, bar: float) -> str:
    """Say whether ``value`` is at most ``bar``."""
    return "met" if value <= bar else "MISSED"


def print_stages(case: Case, timing: Timing, bare: dict[str, float]) -> None:
    """Print GPTQ's inner layer by stage beside the bare calls."""
    print(
        f"\n{case.method}, one inner layer of {case.model}, {case.samples} x {case.seq_len} tokens"
    )
    print(f"{'seconds':12}{'engine':>9}{'bare':>9}{'ratio':>8}")
    for stage in STAGES:
        got, least = timing.stages.get(stage, 0.0), bare[stage]
        print(f"{stage:12}{got:9.4f}{least:9.4f}{got / max(least, 1e-9):8.2f}")
    rest = timing.inner - sum(timing.stages.get(stage, 0.0) for stage in STAGES)
    print(f"{'the rest':12}{rest:9.4f}{'':9}        (layer errors, digests, the host)")
    total = sum(bare.values())
    ratio = timing.inner / total
    print(f"{'layer':12}{timing.inner:9.4f}{total:9.4f}{ratio:8.2f}  ", end="")
    print(f"bar {GPTQ_BAR}: {verdict(ratio, GPTQ_BAR)}", flush=True)


def print_method(name: str, case: Case, timing: Timing, bar: float | None) -> None:
    """Print one line of the methods' table, the slowest stages behind it."""
    whole = timing.whole(case)
    limit = "" if bar is None else f"{bar:6.0f} {verdict(whole, bar)}"
    slow = sorted(timing.stages.items(), key=lambda item: -item[1])[:4]
    stages = ", ".join(f"{stage} {value:.3f}" for stage, value in slow if value > 0)
    print(
        f"{name:20}{case.model:>22}{timing.first:9.2f}{timing.inner:9.3f}{whole:9.1f}"
        f"{timing.peak / 2**30:9.1f}  {limit:13} {stages}",
        flush=True,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=2, help="layers timed beyond the first")
    parser.add_argument("--methods", nargs="+", default=[case.method for case in CASES])
    parser.add_argument("--small", action="store_true", help="a smoke run at tiny shapes")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not arguments.small:
        parser.error("no GPU: only --small runs here")
    cases = [case for case in CASES if case.method in arguments.methods]
    cases = [small(case) for case in cases] if arguments.small else cases
    name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    print(f"{name}, torch {torch.__version__}, {datetime.date.today()}")
    rates = machine(device, 512 if arguments.small else 16384)
    print(", ".join(f"{what} {value:.4g}" for what, value in rates.items()), flush=True)
    timings = {}
    print(f"\n{'method':20}{'model':>22}{'1 layer':>9}{'further':>9}{'whole s':>9}{'GiB':>9}  bar")
    for case in cases:
        further = min(arguments.layers, case.most_layers)
        timings[case.method] = measure(case, further, device, case.quantize)
        print_method(case.method, case, timings[case.method], case.bar)
    reference = next((case for case in cases if case.method == "gptq_w4"), None)
    if reference is not None:
        print_stages(reference, timings[reference.method], pieces(reference, device))
    print(f"\n{'output error':20}{'engine':>12}{'plain fp32':>12}{'difference':>12}")
    for case in cases:
        ours, plain = output_errors(case, device)
        off = ours / plain - 1
        word = verdict(abs(off), TWIN_BAR)
        print(f"{case.method:20}{ours:12.4e}{plain:12.4e}{off:12.3%}  {word}", flush=True)
    if reference is not None and all(map(find_spec, ("llmcompressor", "datasets"))):
        timing = measure(reference, arguments.layers, device, llm_compressor)
        print()
        print_method("llm-compressor GPTQ", reference, timing, None)


if __name__ == "__main__":
    main()
