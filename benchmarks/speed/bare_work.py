"""Each quantizer's seconds a layer beside the work that it cannot do without, as bare calls.

    python benchmarks/speed/bare_work.py [--layers 3] [--methods gptaq_w4 wanda_2of4]
    python benchmarks/speed/bare_work.py --small      # a smoke run, on a CPU too

At Llama-2-7B's layer shapes, random weights, 128 x 2048 random tokens. A method's seconds are those
of an inner layer, with layer errors, digests and the host: 3 + N layers less 3, over N, for in the
first three kernels are compiled and graphs made. Its bare work is a sum of pieces, each timed alone
in the same run:

forward     one pass of all calibration tokens through the block (every walk takes two: what its
            linears are given, and what the quantized block gives the next)
energy      one read of a group's inputs, its columns squared and summed
statistics  X^T X on and above the diagonal
cross       X^T X' of two streams, all of it
factor      one Cholesky factor
inverse     the inverse of such a factor
transfer    two products of square matrices in float32, as large as the factor
loop        GPTQ's columns on a fixed grid, kernels and trailing products
read        one read of the weights that writes half as many bytes
gradients   200 steps over 8 samples, forward and backward of the block with its weights' gradients
digest      codes of four bits a weight go to the host and are hashed
"""

import argparse
import datetime
import hashlib
import platform
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from engine_cuda import (
    Case,
    bare_factor,
    bare_loop,
    forward,
    fresh_model,
    product,
    seconds,
    steps_of,
    timed,
    tokens,
    upper_products,
    verdict,
    wait,
)
from engine_cuda import small as made_small
from torch import Tensor, nn

from benchsuite.models.architecture import architecture_of
from benchsuite.quantizers import gptq
from benchsuite.quantizers.walking.hidden_states import HiddenStates, WorkingMemory, capture

BAR = 1.3
BEGUN = 3
STEP_SAMPLES = 8  # of SignRound
HASHED_AT_ONCE = 16

_WALK = ("forward", "forward")
_GPTQ = (*_WALK, "statistics", "factor", "loop", "digest")
_DRIFT = (*_GPTQ, "cross", "inverse", "transfer")
_BYTES = ("read", "digest", "digest")  # a byte a weight, scales aside
WORK: dict[str, tuple[str, ...]] = {
    "gptq_w4": _GPTQ,
    "gptaq_w4": _DRIFT,
    "qronos_w4": _DRIFT,
    "nvfp4_gptq_w4a16": _GPTQ,
    "mxfp4_gptq_w4a16": _GPTQ,
    "nvfp4_mrgptq_w4a16": (*_GPTQ, "read"),
    "rotated_gptq_w4": (*_GPTQ, "read"),
    "sparsegpt_2of4": (*_GPTQ, "digest"),
    "wanda_2of4": (*_WALK, "energy", *_BYTES),
    "smoothquant_w8a8": (*_WALK, "energy", *_BYTES),
    "fp8_static": ("forward", "energy", *_BYTES),
    "signround_w4": (*_WALK, "gradients", "read", "digest"),
    "rtn_w4": ("read", "digest"),
    "hqq_w4": ("read", "digest"),
    "fp8_dynamic": _BYTES,
    "fp8_block": _BYTES,
    "nvfp4_w4a16": ("read", "digest"),
    "mxfp4_w4a16": ("read", "digest"),
}


def inputs_of_groups(
    block: nn.Module, lanes: list[HiddenStates], groups: Any, seq_len: int
) -> Iterator[tuple[Tensor, int, int]]:
    """Yield a step's inputs [tokens, features] of each group, its rows, and the number of steps."""
    steps = sum(len(list(lane.slices())) for lane in lanes)
    states = lanes[0].states
    step_tokens = len(states[next(lanes[0].slices())]) * seq_len
    for group in groups:
        linears: list[Any] = [block.get_submodule(path) for path in group.linears]
        rows, columns = sum(m.out_features for m in linears), linears[0].in_features
        device = linears[0].weight.device
        yield torch.randn(step_tokens, columns, device=device, dtype=states.dtype), rows, steps


def energy(x: Tensor) -> None:
    """Read the inputs once."""
    torch.linalg.vector_norm(x, dim=0, dtype=torch.float32)


def gradients(block: Any, lane: HiddenStates) -> None:
    """Run one step of learning: outputs, a loss, and the gradients of all weights."""
    weights = [parameter for parameter in block.parameters() if parameter.dim() > 1]
    inputs = lane.states[:STEP_SAMPLES].to(lane.device)
    for weight in weights:
        weight.requires_grad_(True)
    with torch.enable_grad():
        outputs = block(inputs, **lane.arguments[len(inputs)][0])
        outputs = outputs[0] if isinstance(outputs, tuple) else outputs
        torch.autograd.grad(outputs.float().square().mean(), weights)


def digest(packed: list[Tensor]) -> None:
    """Bring packed weights to the host and hash them, a thread each."""
    with ThreadPoolExecutor(HASHED_AT_ONCE) as threads:
        list(threads.map(lambda part: hashlib.sha256(part.cpu().numpy()).digest(), packed))


def pieces(case: Case, device: str) -> dict[str, float]:
    """Return the seconds of each piece for one inner layer."""
    model = fresh_model(case, 1, device)
    architecture = architecture_of(model)
    block: Any = architecture.block_list(model)[0]
    found: dict[str, float] = Counter()
    kernel = gptq.block_quantizer(torch.device(device))
    with torch.no_grad():
        lanes = capture(model, architecture, tokens(case, case.samples))
        found["forward"] = seconds(partial(forward, lanes, block), 1)
        for x, rows, steps in inputs_of_groups(block, lanes, architecture.groups, case.seq_len):
            found["energy"] += steps * seconds(partial(energy, x))
            found["statistics"] += steps * seconds(partial(upper_products, x))
            found["cross"] += steps * seconds(partial(product, x.t(), x))
            columns = x.shape[1]
            positive = x.float().t() @ x.float() / len(x) + torch.eye(columns, device=device)
            found["factor"] += seconds(partial(bare_factor, positive), 1)
            upper = torch.linalg.cholesky_ex(positive)[0].t()
            unit = torch.eye(columns, device=device)
            found["inverse"] += seconds(
                partial(torch.linalg.solve_triangular, upper, unit, upper=True), 1
            )
            found["transfer"] += 2 * seconds(partial(torch.mm, positive, upper), 1)
            work = 0.02 * torch.randn(columns, rows, device=device)
            found["loop"] += seconds(partial(bare_loop, work, upper, kernel), 1)
            half = torch.randn(rows, columns, device=device, dtype=x.dtype)
            found["read"] += seconds(partial(half.to, torch.float8_e4m3fn))
            codes = torch.zeros(rows, columns // 2, dtype=torch.uint8, device=device)
            found["digest"] += seconds(partial(digest, list(codes.chunk(HASHED_AT_ONCE))), 1)
        size = min(STEP_SAMPLES, case.samples)
        memory = WorkingMemory(tokens_per_step=size * case.seq_len, lanes=1)
        (lane,) = capture(model, architecture, tokens(case, size), memory)
        found["gradients"] = steps_of(case) * seconds(partial(gradients, block, lane))
    wait()
    return dict(found)


def inner_layer(case: Case, further: int, device: str) -> tuple[float, dict[str, float]]:
    """Return the seconds of one of ``further`` layers beyond the first three, and by stage."""
    warm = replace(case, samples=min(case.samples, 8), iterations=3)
    timed(warm, 1, device, warm.quantize)
    few, few_stages = timed(case, BEGUN, device, case.quantize)
    more, stages = timed(case, BEGUN + further, device, case.quantize)
    inner = {name: (stages[name] - few_stages.get(name, 0.0)) / further for name in stages}
    return (more - few) / further, inner


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=3, help="layers timed beyond those")
    parser.add_argument("--methods", nargs="+", default=list(WORK), choices=list(WORK))
    parser.add_argument("--small", action="store_true", help="a smoke run at tiny shapes")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not arguments.small:
        parser.error("no GPU: only --small runs here")
    cases = [Case(method, 0) for method in arguments.methods]
    cases = [made_small(case) for case in cases] if arguments.small else cases
    name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    print(f"{name}, torch {torch.__version__}, {datetime.date.today()}; {cases[0].model}")
    bare = pieces(cases[0], device)
    print(", ".join(f"{piece} {took:.4f}" for piece, took in bare.items()), flush=True)
    print(f"\n{'method':20}{'s a layer':>10}{'bare':>9}{'ratio':>8}  bar {BAR}")
    for case in cases:
        inner, stages = inner_layer(case, arguments.layers, device)
        least = sum(bare[piece] for piece in WORK[case.method])
        ratio = inner / least
        slowest = sorted(stages.items(), key=lambda stage: -stage[1])[:7]
        told = ", ".join(f"{stage} {took:.3f}" for stage, took in slowest if took > 0.0005)
        print(
            f"{case.method:20}{inner:10.4f}{least:9.4f}{ratio:8.2f}  {verdict(ratio, BAR):8}{told}",
            flush=True,
        )


if __name__ == "__main__":
    main()
