"""One model quantized and evaluated on several GPUs: seconds, memory, and whether bits are equal.

    python benchmarks/speed/gpus_cuda.py --gpus 1 2 4 --shapes llama2_7b --methods gptq_w4
    python benchmarks/speed/gpus_cuda.py --gpus 1 2 4 --methods --evaluations
    python benchmarks/speed/gpus_cuda.py --gpus 1 4 --streamed llama3_1_70b_instruct --layers 3
    python benchmarks/speed/gpus_cuda.py --gpus 1 --streamed llama3_1_70b_instruct --whole
    python benchmarks/speed/gpus_cuda.py --small      # a smoke run, on a CPU too

Weights are random at a model's true shapes, tokens are random. Every GPU is warmed up beforehand. A
stage's seconds are those of the GPU that spent most on it; *host waits* is the time in which the
host had nothing left to send. A part that fails says so, and the rest still runs.
"""

import argparse
import datetime
import gc
import platform
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from gpu_courses import Course
from torch import Tensor, nn

from benchsuite import catalog
from benchsuite.evaluation.divergence import divergence
from benchsuite.evaluation.perplexity import perplexity
from benchsuite.models import random_weights
from benchsuite.models.pool import fresh_tree
from benchsuite.models.replicas import Reading, replicas_kept, share_work
from benchsuite.models.streaming import stream
from benchsuite.quantizers import apply, linear
from benchsuite.quantizers.kernels import using_kernel

SEQ_LEN = {"awq_w4": 512}
BARS = {("gptq_w4", "llama2_7b", 4): 8.0, ("gptq_w4", "llama2_7b", 8): 5.0}
EVALUATED_CHUNKS = 166
"""Those of 2,048 tokens that WikiText-2's test split has for Llama 2."""
EFFICIENCY_BAR = 0.9
STREAMED_BARS = {1: 360.0, 4: 100.0, 8: 60.0}
"""Seconds for GPTQ W4 of Llama-3.1-70B by number of GPUs."""
STREAMED_GIB = 40.0


@dataclass(frozen=True)
class Size:
    """How much of everything: the small one is for a smoke run."""

    samples: int = 128
    seq_len: int = 2048
    iterations: int = 2000
    layers: int | None = None


def wait() -> None:
    """Wait until every GPU has done what it was sent."""
    for number in range(torch.cuda.device_count()):
        torch.cuda.synchronize(number)


class HostPlaces(threading.Thread):
    """Looks every 5 ms where the main thread is, in the innermost line of benchsuite's own.

    A GPU takes about a thousand launches ahead; a line that sends one more is seen until there is
    room again.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: Counter[str] = Counter()
        self._main = threading.main_thread().ident

    def run(self) -> None:
        """Look until the program ends."""
        while True:
            time.sleep(0.005)
            for frame in reversed(traceback.extract_stack(sys._current_frames()[self._main])):
                if "benchsuite/" in frame.filename and "/speed/" not in frame.filename:
                    place = frame.filename.partition("benchsuite/")[2]
                    self.seen[f"{place}:{frame.lineno} {frame.name}"] += 1
                    break

    def told(self) -> str:
        """Return the places seen most, in seconds."""
        return "\n".join(f"{0.005 * n:8.2f} s {place}" for place, n in self.seen.most_common(12))


PLACES = HostPlaces()


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds of ``run`` and what it returned."""
    gc.collect()
    wait()
    PLACES.seen.clear()
    began = time.perf_counter()
    found = run()
    wait()
    seconds = time.perf_counter() - began
    if PLACES.is_alive():
        print(PLACES.told(), flush=True)
    return seconds, found


def guarded(name: str, run: Callable[[], Any]) -> Any:
    """Return what ``run`` returns; print what went wrong instead of stopping there."""
    try:
        return run()
    except Exception:
        print(f"{name} FAILED", flush=True)
        traceback.print_exc()
        return None


def peaks(n: int) -> str:
    """Return the peak GiB of tensors on the first ``n`` GPUs since they were last asked."""
    if not torch.cuda.is_available():
        return "0"
    found = [torch.cuda.max_memory_allocated(number) / 2**30 for number in range(n)]
    for number in range(torch.cuda.device_count()):
        torch.cuda.reset_peak_memory_stats(number)
    return " ".join(f"{peak:.1f}" for peak in found)


def devices(n: int) -> list[str]:
    """Return the first ``n`` GPUs, or as many names for the CPU."""
    return [f"cuda:{number}" for number in range(n)] if torch.cuda.is_available() else ["cpu"] * n


def tokens(model: Any, samples: int, seq_len: int) -> Tensor:
    """Return random ids [samples, seq_len]."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, model.config.vocab_size, (samples, seq_len), generator=generator)


class HostWaits:
    """Adds up the seconds that the host spends waiting for numbers of a device."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def get(self, reading: Reading) -> list[Any]:
        """Stand in for ``Reading.get``."""
        began = time.perf_counter()
        found = _get(reading)
        self.seconds += time.perf_counter() - began
        return found


_get = Reading.get


# --- quantizing


def quantized(
    shape: nn.Module, method: str, batch: Tensor, n: int, iterations: int
) -> tuple[Any, nn.Module]:
    """Quantize a fresh tree of the model on ``n`` GPUs; the result and the tree."""
    model = fresh_tree(shape)
    share_work(model, devices(n))
    options = {"group_size": 128, "iterations": iterations}
    return apply(method, model, batch, seed=0, progress=None, **options), model


def warm_up(shape: Any, method: str, n: int) -> None:
    """Let every GPU compile and load what the method needs, on the model's first block alone."""
    model: Any = fresh_tree(shape)
    del model.model.layers[1:]
    share_work(model, devices(n))
    apply(method, model, tokens(shape, 16, 256), seed=0, progress=None, iterations=3)


def methods(name: str, which: Sequence[str], gpus: Sequence[int], size: Size) -> None:
    """Time every method on each number of GPUs and compare the codes."""
    shape = random_model(name, size)
    print(f"\n{'method':18}{'GPUs':>5}{'seconds':>9}{'times':>7}  {'bits':8}peak GiB", flush=True)
    for method in which:
        one: Any = None
        for n in gpus:
            found = guarded(f"{method} on {n}", partial(run, shape, method, n, size))
            if found is None:
                continue
            seconds, result, waits, digest, peak = found
            one = one or (seconds, result.weights_sha256)
            same = "equal" if result.weights_sha256 == one[1] else "OTHER"
            bar = BARS.get((method, name, n))
            told = "" if bar is None else f"  bar {bar}: {'met' if seconds <= bar else 'MISSED'}"
            print(
                f"{method:18}{n:5}{seconds:9.2f}{one[0] / seconds:7.2f}  {same:8}{peak}{told}",
                flush=True,
            )
            stages = ", ".join(f"{k} {v:.2f}" for k, v in result.stage_seconds.items())
            print(f"{'':23}{stages}; host waits {waits:.2f}; digest {digest:.2f}", flush=True)


def run(shape: nn.Module, method: str, n: int, size: Size) -> tuple[float, Any, float, str, str]:
    """Quantize once after a warm-up: seconds, result, host's waits, digest's seconds, peaks."""
    warm_up(shape, method, n)
    batch, waits = tokens(shape, size.samples, SEQ_LEN.get(method, size.seq_len)), HostWaits()
    peaks(n)
    with patch.object(Reading, "get", lambda reading: waits.get(reading)):
        seconds, (result, model) = timed(
            lambda: quantized(shape, method, batch, n, size.iterations)
        )
    peak = peaks(n)
    digest, _ = timed(lambda: linear.model_digest(model))
    return seconds, result, waits.seconds, digest, peak


# --- a model that does not fit


def streamed(name: str, gpus: Sequence[int], size: Size, whole: bool) -> None:
    """Quantize a model whose blocks are drawn when they come, by GPTQ W4, on some GPUs.

    Without ``whole`` one block and further ones are measured and the rest is extrapolated.
    """
    every = int(catalog.model(name).shape["num_hidden_layers"])
    more = min(size.layers or 3, every - 1)
    print(f"\n{name} streamed, {every} blocks, {size.samples} x {size.seq_len} tokens")
    print(f"{'blocks':>8}{'GPUs':>5}{'seconds':>9}  {'bits':8}peak GiB", flush=True)
    for n in gpus:
        guarded(f"warm-up on {n}", partial(streamed_run, name, 1, n, Size(16, 256)))
        seconds: dict[int, float] = {}
        for n_blocks in [every] if whole else [1, 1 + more]:
            found = guarded(
                f"{n_blocks} blocks on {n}", partial(streamed_run, name, n_blocks, n, size)
            )
            if found is None:
                break
            seconds[n_blocks], result, waits, peak = found
            same = _ONE.setdefault((name, n_blocks), result.weights_sha256)
            bits = "equal" if same == result.weights_sha256 else "OTHER"
            print(f"{n_blocks:8}{n:5}{seconds[n_blocks]:9.2f}  {bits:8}{peak}", flush=True)
            stages = ", ".join(f"{k} {v:.2f}" for k, v in result.stage_seconds.items())
            print(f"{'':15}{stages}; host waits {waits:.2f}", flush=True)
            if n == gpus[0] and not whole:
                guarded("reading text", partial(streamed_reading, name, n_blocks, size))
        if len(seconds) == 2:
            each = (seconds[1 + more] - seconds[1]) / more
            seconds[every] = seconds[1] + (every - 1) * each
            print(f"{'':15}a further block {each:.3f}")
        if every in seconds:
            bar, total = STREAMED_BARS.get(n), seconds[every]
            told = "" if bar is None else f", bar {bar:.0f}: {'met' if total <= bar else 'MISSED'}"
            print(f"{'':15}all {every} blocks on {n}: {total:.1f} s{told}", flush=True)


_ONE: dict[tuple[str, int], str] = {}


def skeleton(name: str, n_blocks: int) -> nn.Module:
    """Return a streamed model with so many of the catalogued one's blocks, drawn when they come."""
    entry = catalog.model(name)
    shape = dict(entry.shape) | {"num_hidden_layers": n_blocks}
    dtype = str(entry.dtype) if torch.cuda.is_available() else "float32"
    empty = random_weights.without_storage(replace(entry, shape=shape), dtype)
    return stream(empty, random_weights.Drawn(0), devices(1)[0])


def streamed_run(name: str, n_blocks: int, n: int, size: Size) -> tuple[float, Any, float, str]:
    """Quantize so many blocks: seconds, result, host's waits, peak GiB against the bar."""
    model = skeleton(name, n_blocks)
    share_work(model, devices(n))
    batch, waits = tokens(model, size.samples, size.seq_len), HostWaits()
    peaks(n)
    with patch.object(Reading, "get", lambda reading: waits.get(reading)):
        seconds, result = timed(lambda: apply("gptq_w4", model, batch, seed=0, progress=None))
    peak = peaks(n)
    within = max(map(float, peak.split())) <= STREAMED_GIB
    bar = f"bar {STREAMED_GIB:.0f}: {'met' if within else 'MISSED'}"
    return seconds, result, waits.seconds, f"{peak}  {bar}"


def streamed_reading(name: str, n_blocks: int, size: Size) -> None:
    """Print the seconds in which so many blocks in half precision read WikiText-2's tokens."""
    model = skeleton(name, n_blocks)
    chunks = EVALUATED_CHUNKS if size.samples > 16 else 11
    text = tokens(model, chunks, size.seq_len).flatten()
    peaks(1)
    took, _ = timed(lambda: perplexity(model, text, seq_len=size.seq_len))
    print(f"{'':15}perplexity of {len(text)} tokens {took:.2f} s, peak {peaks(1)} GiB", flush=True)


# --- evaluating


def evaluations(name: str, gpus: Sequence[int], size: Size) -> None:
    """Time perplexity and KL on each number of GPUs and compare the values."""
    original = random_model(name, size)
    quantized = fresh_tree(original)
    share_work(quantized, devices(1))
    apply("rtn_w4", quantized, tokens(original, 1, 16), seed=0, progress=None)
    text = tokens(original, EVALUATED_CHUNKS, size.seq_len).flatten()

    def read(number: int) -> dict[str, tuple[float, Any, str]]:
        for model in (original, quantized):
            share_work(model, devices(number))
        few = text[: 8 * number * max(size.seq_len, 8192)]
        of_w4 = partial(perplexity, quantized, seq_len=size.seq_len)
        kl = partial(divergence, original, quantized, seq_len=size.seq_len)
        with using_kernel(quantized, "held"):
            for run_one in (of_w4, kl):
                run_one(few)
            with replicas_kept(quantized):  # as in a cell
                stages = {"perplexity": of_w4, "kl": kl, "perplexity again": of_w4}
                return {name: watched(run_one, text, number) for name, run_one in stages.items()}

    print(f"\n{'evaluation':18}{'GPUs':>5}{'seconds':>9}{'of each':>9}  {'values':8}peak GiB")
    one: dict[str, tuple[float, Any]] = {}
    for number in gpus:
        peaks(number)
        found = guarded(f"evaluations on {number}", partial(read, number)) or {}
        peak = peaks(number)
        for stage, (seconds, result, course) in found.items():
            first, expected = one.setdefault(stage, (seconds * number, result))
            same = all(map(np.array_equal, _arrays(result), _arrays(expected)))
            share = first / (number * seconds)
            told = "met" if share >= EFFICIENCY_BAR else "MISSED"
            print(
                f"{stage:18}{number:5}{seconds:9.3f}{share:9.3f}  "
                f"{'equal' if same else 'OTHER':8}{peak}  bar {EFFICIENCY_BAR}: {told}\n{course}",
                flush=True,
            )


def watched(run: Callable[[Tensor], Any], text: Tensor, n: int) -> tuple[float, Any, str]:
    """Return the seconds in which ``n`` GPUs read the text, what they found, and their courses."""
    course = Course(devices(n))
    seconds, found = timed(lambda: course.of(lambda: run(text)))
    return seconds, found, course.told(seconds)


def _arrays(result: Any) -> list[Any]:
    return [value for value in vars(result).values() if isinstance(value, np.ndarray)]


def random_model(name: str, size: Size) -> nn.Module:
    """Return the catalogued model in half precision with random weights, on the first GPU."""
    entry, device = catalog.model(name), devices(1)[0]
    dtype = entry.dtype if torch.cuda.is_available() else "float32"
    model: Any = random_weights.build(entry, device=device, dtype=dtype, seed=0).eval()
    if size.layers is not None:
        del model.model.layers[size.layers :]
    return model


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpus", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--shapes", nargs="+", default=["llama2_7b"])
    parser.add_argument("--methods", nargs="*", default=["gptq_w4"])
    parser.add_argument("--evaluations", action="store_true", help="perplexity and KL too")
    parser.add_argument("--streamed", nargs="*", default=[], help="models that do not fit")
    parser.add_argument("--whole", action="store_true", help="all blocks of those, not a few")
    parser.add_argument("--layers", type=int, help="only so many blocks")
    parser.add_argument("--places", action="store_true", help="where the host spends its time")
    parser.add_argument("--small", action="store_true", help="a smoke run at tiny shapes")
    arguments = parser.parse_args()
    if arguments.places:
        PLACES.start()
    cuda = torch.cuda.is_available()
    if not (cuda or arguments.small):
        parser.error("no GPU: only --small runs here")
    size = Size(layers=arguments.layers)
    shapes, gpus = arguments.shapes, arguments.gpus
    if arguments.small:
        size, shapes = Size(16, 64, 5), ["tiny_llama_1m"]
    if cuda:
        gpus = [n for n in gpus if n <= torch.cuda.device_count()]
    name = torch.cuda.get_device_name() if cuda else platform.machine()
    print(f"{name} x {torch.cuda.device_count()}, torch {torch.__version__}, ", end="")
    print(datetime.date.today())
    for shape in shapes if arguments.methods or arguments.evaluations else ():
        print(f"\n{shape}, {size.samples} x {size.seq_len} tokens (AWQ x 512)")
        if arguments.methods:
            guarded(shape, partial(methods, shape, arguments.methods, gpus, size))
        gc.collect()
        if arguments.evaluations:
            guarded(shape, partial(evaluations, shape, gpus, size))
        gc.collect()
    for shape in arguments.streamed:
        shape = "tiny_llama_1m" if arguments.small else shape
        guarded(shape, partial(streamed, shape, gpus, size, arguments.whole))


if __name__ == "__main__":
    main()
