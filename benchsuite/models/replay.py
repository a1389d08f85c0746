"""Work that a GPU repeats, sent to it as one CUDA graph.

GPTQ's loop, AdaRound's iterations and a small model's forwards are many small kernels, which a
host takes longer to start one by one than a GPU to run. A graph starts them all at once, with the
same kernels on the same shapes: results are equal bit for bit. On a CPU everything runs as it is
written. So does what cannot be a graph on a GPU, with a warning: it is right, and slower.
"""

import gc
import threading
import warnings
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from benchsuite.errors import out_of_memory

Tensors = tuple[Tensor | None, ...]

MOST_BYTES = 2**30
"""Of the tensors that a graph would keep copies of. A model so large needs that memory, and the
starts of its kernels are little beside them."""


_CAPTURING = threading.Lock()


@contextmanager
def nothing_collected() -> Iterator[None]:
    """Put off Python's collection of garbage, one thread at a time inside.

    What is captured must not be interrupted: an earlier graph that is found to be garbage then is
    destroyed on the spot, which CUDA forbids, and the capture is lost.
    """
    with _CAPTURING:
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if was_enabled:
                gc.enable()


class Graph:
    """What ``step`` does on a CUDA device, to be done again by every call.

    The step must have run before (kernels are compiled then), must not wait for the device, and
    keeps its tensors where they are: a replay reads and writes the same memory.
    """

    def __init__(self, step: Callable[[], object], device: torch.device) -> None:
        self._step, self._device = step, device  # The step holds what the graph reads.
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(device), nothing_collected():
            stream = torch.cuda.Stream()
            with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
                step()

    def __call__(self) -> None:
        """Replay it."""
        with torch.cuda.device(self._device):
            self._graph.replay()


def _graph_of(step: Callable[[], object], device: torch.device) -> Callable[[], object]:
    """Return the step's graph, or the step where it cannot be one: nothing of it has run then.

    A step that takes something from the host cannot, nor any while the memory is nearly full, for
    PyTorch then gives back what it holds. Memory that does run out is raised.
    """
    try:
        return Graph(step, device)
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        torch.cuda.synchronize(device)
        reason = str(error).splitlines()[0]
        warnings.warn(f"a step on {device} runs without a CUDA graph: {reason}", stacklevel=2)
        return step


class Repeated:
    """A step that becomes a graph when it is done again, on a CUDA device."""

    def __init__(self, step: Callable[[], object], device: torch.device) -> None:
        self._step, self._device = step, device
        self._has_run = False
        self._graph: Callable[[], object] | None = None

    def __call__(self) -> None:
        """Do the step: the first time as it is written."""
        if self._has_run and self._device.type == "cuda":
            if self._graph is None:
                self._graph = _graph_of(self._step, self._device)
            self._graph()
        else:
            self._step()
            self._has_run = True


class Replayed:
    """A function of tensors that becomes a graph when it meets the same shapes again.

    The first call with tensors of some shapes, strides and dtypes on a device runs the function as
    it is, the second makes the graph. Graphs hold on to the memory of one run of each kind.
    """

    def __init__(self, function: Callable[..., Tensors]) -> None:
        self._function = function
        self._made: dict[Hashable, _Kept | None] = {}

    def __call__(self, *tensors: Tensor | None) -> Tensors:
        """Return what the function returns, in tensors of the caller's own."""
        given = [tensor for tensor in tensors if tensor is not None]
        first = given[0]
        if not first.is_cuda or sum(tensor.nbytes for tensor in given) > MOST_BYTES:
            return self._function(*tensors)
        kind = (
            first.device,
            *(None if t is None else (t.shape, t.stride(), t.dtype) for t in tensors),
        )
        if kind not in self._made:
            self._made[kind] = None
            return self._function(*tensors)
        kept = self._made[kind]
        if kept is None:
            kept = self._made[kind] = _Kept(self._function, tensors, first.device)
        return kept.again(tensors)


class _Kept:
    """One graph with the tensors that it reads and those that it leaves."""

    def __init__(
        self, function: Callable[..., Tensors], tensors: Tensors, device: torch.device
    ) -> None:
        self._inputs = tuple(None if t is None else t.clone() for t in tensors)
        self._outputs: Tensors = ()

        def step() -> None:
            self._outputs = function(*self._inputs)

        self._graph = _graph_of(step, device)

    def again(self, tensors: Tensors) -> Tensors:
        for own, given in zip(self._inputs, tensors, strict=True):
            if own is not None and given is not None:
                own.copy_(given)
        self._graph()
        return tuple(None if t is None else t.clone() for t in self._outputs)
