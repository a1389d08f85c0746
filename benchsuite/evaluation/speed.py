"""How fast a model generates one sample after another, and the memory that takes.

The model's packed layers run on the kernel that the caller chose (``quantizers.using_kernel``).
Numbers are of this process's threads and device alone: beside other work they mean little.
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
from benchsuite.errors import UsageError
from benchsuite.evaluation.generation import Progress
from benchsuite.models.memory import PeakMemory

NEW_TOKENS = 64
REPEATS = 5
WARMUP = 2


@dataclass(frozen=True)
class Speed:
    """Medians over the repeats, for ``batch_size`` prompts of ``prompt_tokens`` at once.

    ``latency_seconds`` from the prompt to the last of ``new_tokens`` tokens: of the whole batch,
    so of one sample where the batch is one. ``first_token_seconds`` until the first token (reading
    the prompt). ``tokens_per_second``: new tokens of all samples over the latency.
    ``decode_tokens_per_second``: those after the first, over the time after the first.
    ``peak_memory_bytes`` while generating, in a pass of its own. On CUDA the model's own tensors
    and what generating adds, whatever else lies on the device (``memory_kind`` ``allocated``); on
    the CPU the whole process's resident memory (``resident``).
    ``seconds`` and ``first_seconds`` float64 [repeats] are the single values.
    """

    latency_seconds: float
    first_token_seconds: float
    tokens_per_second: float
    decode_tokens_per_second: float
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
    progress: Progress | None = None,
) -> Speed:
    """Return the time and memory of greedy generation after ``token_ids`` int64 [T] or [B, T].

    Exactly ``new_tokens`` (2 or more) are generated each time, whatever they say. ``warmup``
    passes come first, then one that measures memory and ``repeats`` that measure time. On CUDA
    times are the device's own events; the process's peak memory mark is reset, so that a caller
    who needs it reads it before. Raises ``UsageError`` beyond the model's context.
    """
    device = next(model.parameters()).device
    ids = torch.atleast_2d(token_ids).to(device)
    _check(model, ids, new_tokens, repeats)
    done, total = 0, warmup + 1 + repeats

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress("speed", done, total)

    times = []
    with evaluating(model):
        for _ in range(warmup):
            _generate(model, ids, new_tokens, lambda: None)
            tick()
        beside = _allocated_beside(model, device)
        with PeakMemory(device) as memory:
            _generate(model, ids, new_tokens, lambda: None)
            _wait(device)
        tick()
        for _ in range(repeats):
            times.append(_timed(model, ids, new_tokens))
            tick()
    first, whole = np.array(times, np.float64).T
    latency, samples = float(np.median(whole)), len(ids)
    return Speed(
        latency_seconds=latency,
        first_token_seconds=float(np.median(first)),
        tokens_per_second=samples * new_tokens / latency,
        decode_tokens_per_second=samples * (new_tokens - 1) / float(np.median(whole - first)),
        peak_memory_bytes=memory.bytes - beside,
        memory_kind="allocated" if device.type == "cuda" else "resident",
        device=str(device),
        threads=torch.get_num_threads(),
        prompt_tokens=ids.shape[1],
        new_tokens=new_tokens,
        batch_size=samples,
        seconds=whole,
        first_seconds=first,
    )


def generate_once(model: nn.Module, token_ids: Tensor, new_tokens: int = NEW_TOKENS) -> None:
    """Generate as ``measure`` does, once: for a timer of somebody else's."""
    ids = torch.atleast_2d(token_ids).to(next(model.parameters()).device)
    with evaluating(model):
        _generate(model, ids, new_tokens, lambda: None)
        _wait(ids.device)


def _allocated_beside(model: nn.Module, device: torch.device) -> int:
    """Return the bytes on a CUDA device that are not the model's, such as a pool's originals."""
    return torch.cuda.memory_allocated(device) - held_bytes(model) if device.type == "cuda" else 0


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


def _generate(model: nn.Module, ids: Tensor, new_tokens: int, mark: Callable[[], None]) -> None:
    """Generate, and ``mark`` after the first and after the last token."""
    for step, _ in enumerate(islice(greedy(model, ids), new_tokens)):
        if step in (0, new_tokens - 1):
            mark()


def _timed(model: nn.Module, ids: Tensor, new_tokens: int) -> tuple[float, float]:
    """Return the seconds until the first and until the last token."""
    with _clock(ids.device) as clock:
        clock.mark()
        _generate(model, ids, new_tokens, clock.mark)
    start, first, last = clock.seconds()
    return first - start, last - start


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
    _wait(device)
    if device.type != "cuda":
        yield _Clock(device)
        return
    with torch.cuda.device(device):
        yield _Clock(device)
    _wait(device)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _check(model: nn.Module, ids: Tensor, new_tokens: int, repeats: int) -> None:
    context = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    if new_tokens < 2 or repeats < 1 or ids.shape[1] == 0:
        raise UsageError(
            f"nothing to measure: a prompt of {ids.shape[1]} tokens, {new_tokens} new ones, "
            f"{repeats} repeats",
            fix="Give a prompt, at least two new tokens and one repeat",
        )
    if context is not None and ids.shape[1] + new_tokens > context:
        raise UsageError(
            f"a prompt of {ids.shape[1]} tokens and {new_tokens} new ones exceed the model's "
            f"context of {context}",
            fix="Give a shorter prompt or fewer new tokens",
        )
