"""The kernels of FP8 and FP4 beside their plain forms and their limits, on one GPU.

    python benchmarks/speed/kernels_of_formats.py

Part of `floating_formats.py`. Each row says the megabytes that must move and what they take at
`BYTES_PER_SECOND`; ``equal`` whether kernel and plain form gave equal bits here, before any clock.
Calls are timed inside a CUDA graph of many, so that neither the host nor the start of one counts.
Weights go round among copies that fill the second-level cache several times.

*rounding*: a linear's inputs to E4M3 in three schemes, and to FP4 in simulation. *few_tokens*: a
product with bfloat16, INT4 and FP4 weights. *loops*: GPTQ's loop over one layer, with H and its
factor given: the fused one, the plain one, and that of INT4; seconds of one run without a graph,
and of a graph where the loop is fused, as a model's repeated layers run it.
"""

import argparse
import copy
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchsuite.models.replay import Graph
from benchsuite.quantizers import fp4_gptq, gptq
from benchsuite.quantizers.formats.fp4_grid import FORMATS
from benchsuite.quantizers.formats.fp8_linear import SCHEMES
from benchsuite.quantizers.fp4 import fp4_linears
from benchsuite.quantizers.fp8 import fp8_linear
from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.linear import QuantizedLinear, quantized_linear
from benchsuite.quantizers.walking.hessian import upper_factor

BYTES_PER_SECOND = 3.35e12  # HBM3 of an H100 SXM, as its maker states it
CACHE = 50e6  # its second level
SHAPES = ((4096, 4096), (14336, 4096), (4096, 14336), (640, 2048))  # out, in
WIDTHS = (4096, 14336)  # of inputs to round
TOKENS = (1, 16, 2048)
Row = dict[str, Any]


def microseconds(calls: Sequence[Callable[[], object]], device: str) -> float:
    """Return the time of one of ``calls``, from the median of 20 replays of all in a graph."""
    for call in calls:
        call()
    torch.cuda.synchronize()
    graph = Graph(
        lambda: [call() for call in calls], torch.device(device, torch.cuda.current_device())
    )
    taken = []
    for _ in range(23):
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record()
        graph()
        after.record()
        torch.cuda.synchronize()
        taken.append(1e3 * before.elapsed_time(after) / len(calls))
    return round(median(taken[3:]), 2)


def product_microseconds(layer: nn.Module, stored: float, inputs: Tensor, device: str) -> float:
    """Return the time of a layer of ``stored`` bytes, whose weight comes from memory each time."""
    copies = [copy.deepcopy(layer) for _ in range(int(3 * CACHE / stored) + 1)][:64]
    return microseconds([partial(one, inputs) for one in copies], device)


def limit(moved: float) -> Row:
    """Return megabytes and the microseconds that they take at least."""
    return {"mb": round(moved / 1e6, 3), "us_limit": round(1e6 * moved / BYTES_PER_SECOND, 2)}


@torch.no_grad()
def rounding(device: str) -> Iterator[Row]:
    """Yield a row per way of rounding, width and number of tokens."""
    for n_in in WIDTHS:
        linear = nn.Linear(n_in, 128, bias=False, device=device, dtype=torch.bfloat16)
        for tokens in TOKENS:
            inputs = torch.randn(tokens, n_in, device=device, dtype=torch.bfloat16)
            for scheme in SCHEMES:
                largest = torch.tensor(6.0, device=device) if scheme == "static" else None
                layer = fp8_linear(linear, scheme, largest)
                ways = (layer.round_inputs, layer.plainly_rounded)
                (codes, scales), (plain, plain_scales) = (way(inputs) for way in ways)
                kept = len(scales) if scheme == "static" else tokens
                equal = torch.equal(codes[:tokens].view(torch.uint8), plain.view(torch.uint8))
                row = {"to": f"fp8_{scheme}", "in": n_in, "tokens": tokens}
                row["equal"] = equal and torch.equal(scales[:kept], plain_scales)
                yield row | _both(ways, inputs, 3 * inputs.numel(), device)
            for name, format in FORMATS.items():
                g = format.global_scale(torch.tensor([6.0], device=device))
                ways = (_given(format.rounded, g), _given(format.plainly_rounded, g))
                row = {"to": f"{name}, simulated", "in": n_in, "tokens": tokens}
                row["equal"] = torch.equal(ways[0](inputs), ways[1](inputs))
                yield row | _both(ways, inputs, 4 * inputs.numel(), device)


def _given(
    way: Callable[[Tensor, Tensor | None], Any], g: Tensor | None
) -> Callable[[Tensor], Any]:
    return lambda inputs: way(inputs, g)


def _both(ways: Sequence[Callable[[Tensor], Any]], inputs: Tensor, moved: int, device: str) -> Row:
    fused, plain = ([partial(way, inputs)] * 20 for way in ways)
    row = {"us": microseconds(fused, device), "us_plain": microseconds(plain, device)}
    return row | limit(moved)


@torch.no_grad()
def few_tokens(device: str) -> Iterator[Row]:
    """Yield a row per weight, shape and number of tokens."""
    for n_out, n_in in SHAPES:
        linear = nn.Linear(n_in, n_out, bias=False, device=device, dtype=torch.bfloat16)
        kinds: dict[str, tuple[nn.Module, float]] = {"bfloat16": (linear, 2.0 * n_in * n_out)}
        int4: QuantizedLinear = _int4(linear).use("triton")
        kinds["int4"] = (int4, float(int4.packed_bytes))
        for name, format in FORMATS.items():
            for kernel in ("triton", "dequantize"):
                layer = fp4_linears({"one": linear}, format)["one"].use(kernel)
                kinds[f"{name}, {kernel}"] = (layer, float(layer.packed_bytes))
        for tokens in (1, 8):
            inputs = torch.randn(tokens, n_in, device=device, dtype=torch.bfloat16)
            for kind, (layer, stored) in kinds.items():
                row: Row = {"weight": kind, "out": n_out, "in": n_in, "tokens": tokens}
                if "triton" in kind:
                    row["difference"] = _difference(layer, inputs)
                row["us"] = product_microseconds(layer, stored, inputs, device)
                yield row | limit(stored + 2 * tokens * (n_in + n_out))


def _int4(linear: nn.Linear) -> QuantizedLinear:
    grid = QuantizationGrid(4, 128)
    scales, zeros = grid.fit_groups(linear.weight.float())
    codes = torch.randint(0, 16, linear.weight.shape, device=linear.weight.device)
    return quantized_linear(linear, grid, codes.to(torch.uint8), scales, zeros)


def _difference(layer: Any, inputs: Tensor) -> float:
    expected = F.linear(inputs.double(), layer.dequantize(inputs.dtype).double())
    return float((layer(inputs) - expected).abs().max() / expected.abs().max())


@torch.no_grad()
def loops(device: str) -> Iterator[Row]:
    """Yield a row per grid, shape and place of the scales."""
    for n_out, n_in in SHAPES:
        weight = torch.randn(n_in, n_out, device=device) / 50
        inputs = torch.randn(2 * n_in, n_in, device=device)
        factor = upper_factor(inputs.t() @ inputs / n_in, 0.01, "layer").upper
        order = torch.randperm(n_in, device=device)
        integer = QuantizationGrid(4, 128)
        run = _loop(weight, factor, integer, None, gptq.block_quantizer(weight.device))
        yield {"grid": "int4 g128", "out": n_out, "in": n_in} | _seconds(run, device)
        for name, format in FORMATS.items():
            g = format.global_scale(weight.abs().amax().expand(n_out))
            for static in (False, True):
                fused, plain = (
                    _loop(
                        weight,
                        factor,
                        fp4_gptq.Fp4Grid(format, g, fused=fuse),
                        order if static else None,
                        fp4_gptq.block_quantizer(fuse),
                    )
                    for fuse in (True, False)
                )
                row: Row = {"grid": name + (", static in order" if static else "")}
                row |= {"out": n_out, "in": n_in}
                rounded, expected = fused(), plain()
                row["equal"] = torch.equal(rounded.codes, expected.codes)
                row["equal"] &= torch.equal(rounded.scales, expected.scales)
                row |= _seconds(fused, device)
                row["s_plain"] = _once(plain)
                yield row


def _loop(
    weight: Tensor, factor: Tensor, grid: Any, order: Tensor | None, one: gptq.BlockQuantizer
) -> Callable[[], gptq.Rounded]:
    panels = gptq.invert_panels(factor, grid.columns_per_group(len(factor)))
    static = order is not None
    return lambda: gptq.round_columns(weight.clone(), factor, panels, grid, order, static, one)


def _seconds(run: Callable[[], object], device: str) -> Row:
    run()
    return {"s": _once(run), "s_graph": round(microseconds([run], device) / 1e6, 4)}


def _once(run: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    began = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return round(time.perf_counter() - began, 4)


PARTS = {"rounding": rounding, "few_tokens": few_tokens, "loops": loops}


def measured(part: str, device: str) -> list[Row]:
    """Return a part's rows, each printed when it is there; what fails ends its part alone."""
    found: list[Row] = []
    print(f"\n{part}")
    try:
        for row in PARTS[part](device):
            found.append(row)
            print(row, flush=True)
    except Exception as error:
        found.append({"failed": " ".join(str(error).split())[:300]})
        print(found[-1], flush=True)
    return found


def main() -> None:
    """Measure the parts, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    told = parser.parse_args()
    print(torch.cuda.get_device_name())
    for part in told.parts:
        measured(part, "cuda")


if __name__ == "__main__":
    main()
