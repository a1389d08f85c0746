"""The model pool: original tensors stay on the device; cells lease fresh module trees over them.

A lease's module tree is new, its parameters share storage with the originals. So a cell may replace
modules and parameters at will, two leases never see each other, and nothing has to be restored. The
one thing forbidden is writing into a shared tensor; the pool checks that when the lease ends.
"""

import copy
import gc
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import torch
from torch import nn

from benchsuite.catalog import ModelEntry, Sources
from benchsuite.errors import BenchsuiteError, CellCannotRun
from benchsuite.models import source
from benchsuite.models.loading import LoadedModel, load, tensors
from benchsuite.models.memory import available_bytes, default_budget, total_bytes
from benchsuite.models.streaming import is_streamed, stream_alike

_GIB = 2**30

WHOLE_SHARE = 0.7
"""Share of the device's memory that weights may take; larger models are streamed where they may be,
because work on them needs room too."""


@dataclass
class _Resident:
    """One thing in the pool: a model with its tensors' state when loaded, or arbitrary tensors."""

    name: str
    value: Any
    n_bytes: int
    used: int
    open_leases: int = 0
    state: dict[str, tuple[int, int]] = field(default_factory=dict)


class Lease:
    """A cell's own module tree over a pooled model; a context manager, or call ``release``.

    ``model`` is frozen and in evaluation mode. Replace its modules and parameters freely; never
    write into a tensor that came with it (``tensor.copy_``, ``tensor.data += ...``).
    """

    def __init__(self, pool: "ModelPool", resident: _Resident) -> None:
        loaded: LoadedModel = resident.value
        self._pool, self._resident = pool, resident
        self._model: nn.Module | None = fresh_tree(loaded.model)
        self.tokenizer: Any = loaded.tokenizer
        self.entry: ModelEntry = loaded.entry
        self.weights: str = loaded.weights
        self.digest: str = loaded.digest
        self.n_bytes: int = loaded.n_bytes
        self.stand_in: str | None = loaded.stand_in
        self.gguf_types: dict[str, int] | None = loaded.gguf_types
        self.streamed: bool = is_streamed(loaded.model)
        resident.open_leases += 1

    @property
    def model(self) -> nn.Module:
        """The leased module tree; gone once the lease is released.

        Raises ``RuntimeError`` then.
        """
        if self._model is None:
            raise RuntimeError(f"the lease of {self.entry.name} was already released")
        return self._model

    def release(self) -> None:
        """End the lease. Raises ``BenchsuiteError`` if a shared tensor was written in place."""
        if self._model is None:
            return
        self._model = None
        self._pool._released(self._resident)

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.release()
        except BenchsuiteError as written:
            if error is None:
                raise
            error.add_note(str(written))  # the cell's own error matters more


class ModelPool:
    """Models, and tensors such as calibration batches, kept on one device within a byte budget.

    What was used longest ago is dropped first, a model with an open lease never. A single model
    above the budget is still loaded, everything else evicted, if the device can hold it.
    """

    def __init__(
        self,
        device: str = "cpu",
        budget_bytes: int | None = None,
        *,
        loader: Callable[..., LoadedModel] = load,
    ) -> None:
        self.device = device
        self.budget_bytes = default_budget(device) if budget_bytes is None else budget_bytes
        self._loader = loader
        self._clock = itertools.count()
        self._residents: dict[tuple[Any, ...], _Resident] = {}
        self._refused: dict[tuple[Any, ...], tuple[str, str, str]] = {}

    @property
    def resident(self) -> tuple[str, ...]:
        """Names of what is kept, least recently used first."""
        return tuple(r.name for r in sorted(self._residents.values(), key=lambda r: r.used))

    @property
    def used_bytes(self) -> int:
        """Bytes of everything kept, leased models included."""
        return sum(resident.n_bytes for resident in self._residents.values())

    def lease(
        self, entry: ModelEntry, sources: Sources = Sources(), *, may_stream: bool = False
    ) -> Lease:
        """Return a lease of ``entry``, loaded from ``sources`` if need be.

        A model that this machine cannot get is refused again at once, without another try. One that
        does not fit is streamed if it may be: it can be quantized and read text, and no more.
        """
        streamed = may_stream and self._is_large(entry, sources)
        key = (*_key(entry, sources), streamed)
        if key not in self._residents:
            self._residents[key] = self._load(entry, key, sources, streamed)
        resident = self._residents[key]
        resident.used = next(self._clock)
        return Lease(self, resident)

    def tensor(self, key: tuple[Any, ...] | str, build: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Return the tensor kept under ``key`` on the device, built and moved there if need be.

        It is shared by all who ask: do not write into it. A tensor above the whole budget is
        returned without being kept.
        """
        full_key = ("tensor", key)
        if full_key not in self._residents:
            value = build().to(self.device)
            if value.nbytes > self.budget_bytes:
                return value
            self._make_room(value.nbytes)
            name = key if isinstance(key, str) else "/".join(map(str, key))
            self._residents[full_key] = _Resident(name, value, value.nbytes, next(self._clock))
        resident = self._residents[full_key]
        resident.used = next(self._clock)
        return resident.value

    def clear(self) -> None:
        """Drop everything that no open lease holds, and give the memory back to the device."""
        for key in [k for k, r in self._residents.items() if not r.open_leases]:
            del self._residents[key]
        self._give_back()

    def _is_large(self, entry: ModelEntry, sources: Sources) -> bool:
        needed = source.requirements(entry, sources, device=self.device)
        return needed > WHOLE_SHARE * total_bytes(self.device)

    def _load(
        self, entry: ModelEntry, key: tuple[Any, ...], sources: Sources, streamed: bool
    ) -> _Resident:
        if key in self._refused:
            raise CellCannotRun(*self._refused[key])
        expected = source.requirements(entry, sources, device=self.device)
        self._make_room(expected)
        free = available_bytes(self.device)
        if expected > free and not streamed:
            raise CellCannotRun(
                f"{entry.name} needs {expected / _GIB:.1f} GiB on {self.device} for its weights "
                f"alone; {free / _GIB:.1f} GiB are free",
                fix="Free memory there, choose a larger device with --device, or a smaller model",
            )
        try:
            how = {"streamed": True} if streamed else {}
            loaded = self._loader(entry, sources, device=self.device, **how)
        except CellCannotRun as error:
            self._refused[key] = (error.what, error.where, error.fix)
            raise
        self._make_room(loaded.n_bytes)  # by its true size: the catalogue leaves norms out
        return _Resident(
            entry.name, loaded, loaded.n_bytes, next(self._clock), state=_state(loaded.model)
        )

    def _make_room(self, n_bytes: int) -> None:
        dropped_model = False
        while self.used_bytes + n_bytes > self.budget_bytes:
            idle = [(r.used, key) for key, r in self._residents.items() if not r.open_leases]
            if not idle:
                break
            oldest = min(idle, key=lambda pair: pair[0])[1]
            dropped_model |= isinstance(self._residents.pop(oldest).value, LoadedModel)
        if dropped_model:
            self._give_back()

    def _give_back(self) -> None:
        gc.collect()  # module trees hold reference cycles
        if torch.device(self.device).type == "cuda":
            torch.cuda.empty_cache()

    def _released(self, resident: _Resident) -> None:
        resident.open_leases -= 1
        written = _written(resident.value.model, resident.state)
        if not written:
            return
        self._residents = {k: r for k, r in self._residents.items() if r is not resident}
        more = f" and {len(written) - 3} more" if len(written) > 3 else ""
        raise BenchsuiteError(
            f"the cell wrote into shared weights of {resident.name}: "
            f"{', '.join(written[:3])}{more}; the model was dropped from the pool",
            fix="Assign a new nn.Parameter or module instead of writing into the leased tensor",
        )


def _key(entry: ModelEntry, sources: Sources) -> tuple[Any, ...]:
    """Return what tells two loaded models apart; sources that change nothing are left out."""
    weights = sources.weights_of(entry)
    local = sources.folder(entry.name) if weights in ("local", "dequantized") else None
    seed = sources.seed if weights == "random" else None
    return ("model", entry.name, weights, local, seed, entry.dtype, sources.trusts(entry.name))


def fresh_tree(model: nn.Module) -> nn.Module:
    """Return a deep copy of a module tree whose parameters and buffers share storage with it."""
    memo: dict[int, Any] = {}
    for _, parameter in model.named_parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
    for _, buffer in model.named_buffers():
        memo[id(buffer)] = buffer.detach()
    fresh = copy.deepcopy(model, memo)
    stream_alike(model, fresh)
    return fresh


def _state(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Return each tensor's (version, checksum)."""
    return {name: (tensor._version, _checksum(tensor)) for name, tensor in tensors(model)}


def _written(model: nn.Module, state: dict[str, tuple[int, int]]) -> list[str]:
    """Return the names of tensors that changed since ``state`` was taken.

    A tensor and its ``detach()`` count versions together, which tells every ordinary write. Writes
    through ``.data`` count nowhere: the checksum tells those.
    """
    return [
        name
        for name, tensor in tensors(model)
        if tensor._version != state[name][0] or _checksum(tensor) != state[name][1]
    ]


def _checksum(tensor: torch.Tensor) -> int:
    """Return the sum of the tensor's bits read as integers (modulo 2^64), at memory speed."""
    flat = tensor.detach()
    if not flat.is_contiguous():
        flat = flat.contiguous()
    flat = flat.reshape(-1).view(torch.uint8)
    words = flat.view(torch.int64) if flat.numel() % 8 == 0 and _aligned(flat) else flat
    return int(words.sum(dtype=torch.int64))


def _aligned(flat: torch.Tensor) -> bool:
    return flat.storage_offset() % 8 == 0
