"""Models larger than a device: each block comes while the one before it is worked on, and leaves.

All of a streamed model but its blocks lies on its device. A block is a tree without storage, whose
tensors come from a `Source`, until whoever works on it puts it away: then it lies in host memory
and comes from there. Blocks come one ahead and leave while the next one is worked on, each on a
stream and a thread of its own, so that neither the device nor the host waits for them.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol
from weakref import WeakKeyDictionary

import torch
from safetensors import safe_open
from torch import Tensor, nn

from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.models import random_weights
from benchsuite.models.architecture import ARCHITECTURES, Architecture, architecture_of
from benchsuite.models.folder import tensor_headers
from benchsuite.models.replicas import Counterparts, replica, working_on


class Source(Protocol):
    """Where the tensors of a model are that its device does not hold."""

    def read(self, name: str, like: Tensor, device: torch.device) -> Tensor:
        """Return the model's tensor ``name``, of the shape and dtype of ``like``, on ``device``."""


class Folder:
    """The safetensors files of a checkpoint's folder, of which nothing is kept in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = {name: file for file, name, _, _ in tensor_headers(folder)}

    def read(self, name: str, like: Tensor, device: torch.device) -> Tensor:
        """Return a tensor of the files, in the dtype of ``like``; its user checks its values."""
        if name not in self._files:
            raise self._unfit(f"no tensor {name}")
        with safe_open(self._files[name], framework="pt") as file:
            stored = file.get_tensor(name)
        if stored.shape != like.shape:
            raise self._unfit(f"{name} of shape {list(stored.shape)}, not {list(like.shape)}")
        if device.type == "cuda":
            stored = stored.pin_memory()
        return stored.to(device, non_blocking=True).to(like.dtype)

    def _unfit(self, what: str) -> BenchsuiteError:
        return BenchsuiteError(
            f"the checkpoint has {what}",
            str(self._folder),
            "A model is streamed from tensors under its own names: save it with transformers' "
            "save_pretrained, or use a device that holds it whole",
        )


_SOURCES: WeakKeyDictionary[nn.Module, Source] = WeakKeyDictionary()


def stream(model: nn.Module, source: Source, device: torch.device | str) -> nn.Module:
    """Make ``model``, a tree on the meta device, a streamed one, and return it.

    All but its blocks is read from ``source`` onto ``device``. Raises ``UsageError`` for an
    architecture whose blocks cannot be streamed.
    """
    architecture = architecture_of(model)
    blocks = architecture.block_list(model)
    if not ARCHITECTURES[architecture.model_type].groups or any(True for _ in blocks.buffers()):
        raise UsageError(
            f"a {architecture.model_type} model cannot be streamed block by block",
            fix="use a device that holds it whole",
        )
    with _set_aside(blocks):
        random_weights.materialise(model, torch.device(device))
        random_weights.compute_buffers(model, architecture.model_type)
        for path, parameter in model.named_parameters():
            parameter.data = source.read(path, parameter, parameter.device)
    _SOURCES[model] = source
    return model.eval()


def is_streamed(model: nn.Module) -> bool:
    """Say whether the model's blocks come and go."""
    return model in _SOURCES


def stream_alike(model: nn.Module, other: nn.Module) -> None:
    """Let ``other``, a tree like ``model``, be streamed from the same source, if that one is."""
    if model in _SOURCES:
        _SOURCES[other] = _SOURCES[model]


@contextmanager
def _set_aside(blocks: nn.ModuleList) -> Iterator[None]:
    held = list(blocks)
    del blocks[:]
    try:
        yield
    finally:
        blocks.extend(held)


class Blocks:
    """The blocks of a model in their order, on its device whenever it is a block's turn.

    Those of a model that is not streamed are there already.
    """

    def __init__(
        self,
        model: nn.Module,
        architecture: Architecture | None = None,
        *,
        look_at: Callable[[str, nn.Module], None] | None = None,
    ) -> None:
        """Stand before the first block; ``look_at(name, block)`` sees each streamed one come.

        What it raises is raised when it is that block's turn.
        """
        self._architecture = architecture or architecture_of(model)
        self._blocks = self._architecture.block_list(model)
        self._source = _SOURCES.get(model)
        self._device = next(model.parameters()).device
        self._look_at = look_at
        self._coming_on, self._leaving_on = (
            torch.cuda.Stream(self._device)
            if self._source is not None and self._device.type == "cuda"
            else None
            for _ in range(2)
        )
        self._threads: ThreadPoolExecutor | None = None
        self._leaving: Future[None] | None = None

    def __len__(self) -> int:
        return len(self._blocks)

    def each(self) -> Iterator[tuple[int, nn.Module]]:
        """Yield (number, block), one after the other; the model has it in its list meanwhile.

        A streamed one is what it was afterwards, unless it was put away.
        """
        if self._source is None:
            yield from enumerate(self._blocks)
            return
        with ThreadPoolExecutor(2) as self._threads:
            coming = self._threads.submit(self._bring, 0)
            for index, away in enumerate(list(self._blocks)):
                block = self._arrived(coming)
                if index + 1 < len(self._blocks):
                    coming = self._threads.submit(self._bring, index + 1)
                self._blocks[index] = block
                yield index, block
                if self._blocks[index] is block:
                    self._blocks[index] = away
            self._has_left()

    def put_away(self, index: int) -> None:
        """Keep a streamed block as it is now, in host memory, from where it will come again.

        It is on its way when this returns, and there when all blocks have had their turn.
        """
        if self._source is None:
            return
        assert self._threads is not None
        self._has_left()
        to = _Leaving(torch.device("cpu"))
        self._blocks[index] = replica(self._blocks[index], to)
        event = None
        if self._leaving_on is not None:
            event = torch.cuda.current_stream(self._device).record_event()
        self._leaving = self._threads.submit(to.copy, self._leaving_on, event)

    def _has_left(self) -> None:
        """Wait for the block that was put away last: one more beside it would take memory."""
        if self._leaving is not None:
            self._leaving.result()

    @torch.no_grad()
    def _bring(self, index: int) -> tuple[nn.Module, "_Arriving", torch.cuda.Event | None]:
        """Return a block on the device, on its way there by a stream of its own."""
        with ExitStack() as stack:
            event = None
            stack.enter_context(working_on(self._device))
            if self._coming_on is not None:
                stack.enter_context(torch.cuda.stream(self._coming_on))
                event = torch.cuda.Event()
            assert self._source is not None
            name = self._architecture.block_name(index)
            to = _Arriving(self._device, self._source, name, self._blocks[index])
            block = replica(self._blocks[index], to)
            if self._look_at is not None:
                self._look_at(name, block)
            if event is not None:
                event.record(self._coming_on)
            return block, to, event

    def _arrived(
        self, coming: "Future[tuple[nn.Module, _Arriving, torch.cuda.Event | None]]"
    ) -> nn.Module:
        block, to, event = coming.result()
        if event is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(event)
            for tensor in to.moved():
                tensor.record_stream(current)
        return block


class _Arriving(Counterparts):
    """A block's tensors on the device: those without storage from the source."""

    def __init__(self, device: torch.device, source: Source, name: str, block: nn.Module) -> None:
        super().__init__(device)
        names = {id(tensor): path for path, tensor in block.named_parameters()}
        self._read = partial(_read, source, names, name)

    def move(self, tensor: Tensor) -> Tensor:
        return self._read(tensor, self.device) if tensor.is_meta else super().move(tensor)


STAGING_BYTES = 2**26


class _Leaving(Counterparts):
    """A block's tensors in host memory, which is not pinned: pinning takes longer than copying.

    They leave through two small pinned buffers in turn. A copy to memory that is not pinned would
    keep the GPU's driver busy until it is done, and hold up all that is launched meanwhile.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._pairs: list[tuple[Tensor, Tensor]] = []

    def move(self, tensor: Tensor) -> Tensor:
        if not tensor.is_cuda:
            return super().move(tensor)
        there = torch.empty_like(tensor, device=self.device)
        self._pairs.append((tensor.detach(), there))
        return there

    @torch.no_grad()
    def copy(self, stream: torch.cuda.Stream | None, after: torch.cuda.Event | None) -> None:
        """Fill them, once what makes the block's own is done, and let go of those."""
        if stream is not None and after is not None:
            with torch.cuda.stream(stream):
                stream.wait_event(after)
                staged = _Staged(stream)
                for tensor, there in self._pairs:
                    staged.copy(tensor, there)
                staged.finish()
        self._pairs.clear()
        self._known.clear()


class _Staged:
    """Copies from a GPU to the host by way of two pinned buffers: one fills, one is emptied."""

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self._stream = stream
        self._buffers = [
            torch.empty(STAGING_BYTES, dtype=torch.uint8, pin_memory=True) for _ in "ab"
        ]
        self._filling: tuple[torch.cuda.Event, Tensor, Tensor] | None = None

    def copy(self, tensor: Tensor, there: Tensor) -> None:
        """Copy a tensor; the last of it may be on its way when this returns."""
        if not tensor.is_contiguous():
            there.copy_(tensor)
            return
        source, target = (one.reshape(-1).view(torch.uint8) for one in (tensor, there))
        for part, into in zip(
            source.split(STAGING_BYTES), target.split(STAGING_BYTES), strict=True
        ):
            self._buffers.reverse()
            buffer = self._buffers[0][: len(part)]
            buffer.copy_(part, non_blocking=True)
            filled = (self._stream.record_event(), buffer, into)
            self.finish()
            self._filling = filled

    def finish(self) -> None:
        """Empty the buffer that fills."""
        if self._filling is not None:
            event, buffer, into = self._filling
            event.synchronize()
            into.copy_(buffer)
            self._filling = None


def _read(
    source: Source, names: dict[int, str], block: str, tensor: Tensor, device: torch.device
) -> Tensor:
    return source.read(f"{block}.{names[id(tensor)]}", tensor, device)
