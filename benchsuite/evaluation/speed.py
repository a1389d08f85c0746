"""How fast a model generates one sample after another, and the memory that takes.

As users would serve it: on a GPU in a slot, a step one CUDA graph (``decoding.slots``), where the
model can; else by the plain loop, a launch a kernel. The model's packed layers run on the kernel
that the caller chose (``quantizers.using_kernel``). Beside the time a token takes stands the least
that it could: what a step reads, at the rate at which the card was seen to read. Numbers are of
this process's threads and device alone: beside other work they mean little.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

from benchsuite.decoding.loop import evaluating, greedy
from benchsuite.decoding.ways import grows_in_slots
from benchsuite.errors import UsageError
from benchsuite.evaluation.fitting import context_of
from benchsuite.evaluation.generation import Progress
from benchsuite.evaluation.reading import ReadingRate, step_bytes
from benchsuite.models.long_rope import settled
from benchsuite.models.memory import PeakMemory

NEW_TOKENS = 64
REPEATS = 5
WARMUP = 2

Mark = Callable[[], None]
Generate = Callable[[Mark], None]
"""Generates once, and marks when the first and when the last token is there."""


@dataclass(frozen=True)
class Speed:
    """Medians over the repeats, for ``batch_size`` prompts of ``prompt_tokens`` at once.

    ``latency_seconds`` from the prompt to the last of ``new_tokens`` tokens: of the whole batch,
    so of one sample where the batch is one. ``first_token_seconds`` until the first token (reading
    the prompt), ``token_seconds`` for each after it. ``tokens_per_second``: new tokens of all
    samples over the latency. ``path`` is ``graphs`` or ``eager``.

    On CUDA ``token_limit_seconds`` is the least that a token after the first could take: weights
    and cache read once at ``bytes_per_second``, the card's own measured rate. None for a mixture of
    experts, and on a CPU, whose caches hold small models. ``device_alone`` says whether timed reads
    of the card's memory before and after came through undisturbed, None on a CPU.

    ``peak_memory_bytes`` while generating, in a pass of its own. On CUDA the model's own tensors
    and what generating adds, whatever else lies on the device (``memory_kind`` ``allocated``); on
    the CPU the whole process's resident memory (``resident``).
    ``seconds`` and ``first_seconds`` float64 [repeats] are the single values.
    """

    latency_seconds: float
    first_token_seconds: float
    token_seconds: float
    tokens_per_second: float
    path: str
    token_limit_seconds: float | None
    bytes_per_second: float | None
    device_alone: bool | None
    peak_memory_bytes: int
    memory_kind: str
    device: str
    threads: int
    prompt_tokens: int
    new_tokens: int
    batch_size: int
    seconds: np.ndarray = field(repr=False)
    first_seconds: np.ndarray = field(repr=False)


def measure(
    model: nn.Module,
    token_ids: Tensor,
    *,
    new_tokens: int = NEW_TOKENS,
    repeats: int = REPEATS,
    warmup: int = WARMUP,
    graphs: bool = True,
    progress: Progress | None = None,
) -> Speed:
    """Return the time and memory of greedy generation after ``token_ids`` int64 [T] or [B, T].

    Exactly ``new_tokens`` (2 or more) are generated each time, whatever they say. ``warmup``
    passes come first, then one that measures memory and ``repeats`` that measure time. Without
    ``graphs`` the plain loop is timed, wherever the model lies. On CUDA times are the device's own
    events; the process's peak memory mark is reset, so that a caller who needs it reads it before.
    Raises ``UsageError`` beyond the model's context.
    """
    device = next(model.parameters()).device
    ids = torch.atleast_2d(token_ids).to(device)
    check(model, ids.shape[1], new_tokens, repeats)
    rate = ReadingRate(device)
    rate.look()
    path, memory, times = _passes(model, ids, new_tokens, repeats, warmup, graphs, progress)
    rate.look()
    if device.type == "cuda":
        # What is left beside the model, such as a pool's originals, was there all the time.
        memory -= torch.cuda.memory_allocated(device) - held_bytes(model)
    first, whole = np.array(times, np.float64).T
    latency, samples = float(np.median(whole)), len(ids)
    limit = None
    if rate.bytes_per_second:
        read = step_bytes(model, samples, ids.shape[1] + new_tokens / 2)
        limit = None if read is None else read / rate.bytes_per_second
    return Speed(
        latency_seconds=latency,
        first_token_seconds=float(np.median(first)),
        token_seconds=float(np.median(whole - first)) / (new_tokens - 1),
        tokens_per_second=samples * new_tokens / latency,
        path=path,
        token_limit_seconds=limit,
        bytes_per_second=rate.bytes_per_second,
        device_alone=rate.alone,
        peak_memory_bytes=memory,
        memory_kind="allocated" if device.type == "cuda" else "resident",
        device=str(device),
        threads=torch.get_num_threads(),
        prompt_tokens=ids.shape[1],
        new_tokens=new_tokens,
        batch_size=samples,
        seconds=whole,
        first_seconds=first,
    )


def _passes(
    model: nn.Module,
    ids: Tensor,
    new_tokens: int,
    repeats: int,
    warmup: int,
    graphs: bool,
    progress: Progress | None,
) -> tuple[str, int, list[tuple[float, float]]]:
    """Return the path, the peak of memory, and the seconds to the first and the last token."""
    done, total, times = 0, warmup + 1 + repeats, []

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress("speed", done, total)

    with generating(model, ids, new_tokens, graphs=graphs) as (path, generate):
        for _ in range(warmup):
            generate(lambda: None)
            tick()
        with PeakMemory(ids.device) as memory:
            generate(lambda: None)
            wait(ids.device)
        tick()
        for _ in range(repeats):
            times.append(_timed(generate, ids.device))
            tick()
    return path, memory.bytes, times


@contextmanager
def generating(
    model: nn.Module, token_ids: Tensor, new_tokens: int = NEW_TOKENS, *, graphs: bool = True
) -> Iterator[tuple[str, Generate]]:
    """Give the path on which ``token_ids`` int64 [T] or [B, T] are continued, and what does it."""
    ids = torch.atleast_2d(token_ids).to(next(model.parameters()).device)
    with evaluating(model), settled(model, ids.shape[1] + new_tokens):
        if not (graphs and grows_in_slots(model)):
            yield "eager", lambda mark: _in_the_loop(model, ids, new_tokens, mark)
            return
        # Asked for where it can run: it needs seconds of transformers.
        from benchsuite.decoding.slots import Slots

        prompts = ids.tolist()
        slots = Slots(model, len(prompts), ids.shape[1] + new_tokens, new_tokens)
        with slots.running():

            def generate(mark: Mark) -> None:
                slots.take(prompts, range(len(prompts)))
                for step in range(new_tokens):
                    slots.step()
                    if step in (0, new_tokens - 1):
                        mark()

            yield "graphs" if slots.by_graph else "eager", generate


def generate_once(generate: Generate) -> None:
    """Generate and wait for the last token: for a timer of somebody else's."""
    generate(lambda: None)
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _in_the_loop(model: nn.Module, ids: Tensor, new_tokens: int, mark: Mark) -> None:
    for step, _ in enumerate(islice(greedy(model, ids), new_tokens)):
        if step in (0, new_tokens - 1):
            mark()


def _timed(generate: Generate, device: torch.device) -> tuple[float, float]:
    """Return the seconds until the first and until the last token."""
    with _clock(device) as clock:
        clock.mark()
        generate(clock.mark)
    start, first, last = clock.seconds()
    return first - start, last - start


def held_bytes(model: nn.Module) -> int:
    """Return the bytes of all tensors that the model's modules hold, shared ones once.

    Weights and buffers, and what a packed layer keeps for its kernel.
    """
    found = {}
    for module in model.modules():
        kept = (vars(module), module._parameters, module._buffers)
        for tensor in (value for table in kept for value in table.values()):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                found[storage.data_ptr()] = storage.nbytes()
    return sum(found.values())


class _Clock:
    """Marks on a CPU's clock, or in a CUDA stream without stopping it."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._marks: list[float] = []
        self._events: list[torch.cuda.Event] = []

    def mark(self) -> None:
        """Note the present moment."""
        if self._cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._events.append(event)
        else:
            self._marks.append(time.perf_counter())

    def seconds(self) -> list[float]:
        """Return the marks, in seconds since the first."""
        if self._cuda:
            return [self._events[0].elapsed_time(event) / 1000 for event in self._events]
        return [mark - self._marks[0] for mark in self._marks]


@contextmanager
def _clock(device: torch.device) -> Iterator[_Clock]:
    """Give a clock on the device's own stream, started and read while the device is idle."""
    wait(device)
    if device.type != "cuda":
        yield _Clock(device)
        return
    with torch.cuda.device(device):
        yield _Clock(device)
    wait(device)


def wait(device: torch.device) -> None:
    """Let the host wait for what a device was given; a CPU has done it already."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def check(model: nn.Module, prompt_length: int, new_tokens: int, repeats: int) -> None:
    """Raise ``UsageError`` for what ``measure`` cannot time."""
    context = context_of(model)
    if new_tokens < 2 or repeats < 1 or prompt_length == 0:
        raise UsageError(
            f"nothing to measure: a prompt of {prompt_length} tokens, {new_tokens} new ones, "
            f"{repeats} repeats",
            fix="Give a prompt, at least two new tokens and one repeat",
        )
    if context is not None and prompt_length + new_tokens > context:
        raise UsageError(
            f"a prompt of {prompt_length} tokens and {new_tokens} new ones exceed the model's "
            f"context of {context}",
            fix="Give a shorter prompt or fewer new tokens",
        )
