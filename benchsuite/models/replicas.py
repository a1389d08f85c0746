"""Modules on several devices: copies that share a structure, and tensors moved there once.

Launches are asynchronous, so devices work at the same time for as long as the host reads nothing of
them; `Reading` waits for what it reads and for nothing else.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from benchsuite.errors import UsageError


class Counterparts:
    """Which tensor on ``device`` stands for which elsewhere: what is known is not moved again."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        # The tensors are kept too: an address is another tensor's once its own is gone.
        self._known: dict[Any, tuple[Tensor, Tensor]] = {}

    def back(self, device: torch.device) -> "Counterparts":
        """Return the way back to ``device``, where the tensors that were moved from there are."""
        found = Counterparts(device)
        found._known = {_place(there): (there, here) for here, there in self._known.values()}
        return found

    def of(self, tensor: Tensor) -> Tensor:
        """Return the tensor on the device; a parameter stays one. One that is there is shared."""
        key = _place(tensor)
        if key not in self._known:
            self._known[key] = (tensor, self.move(tensor))
        moved = self._known[key][1].detach()
        return nn.Parameter(moved, requires_grad=False) if _is_parameter(tensor) else moved

    def move(self, tensor: Tensor) -> Tensor:
        """Return a tensor's values on the device, which a GPU may still be copying."""
        on_a_gpu = tensor.is_cuda or self.device.type == "cuda"
        return tensor.detach().to(self.device, non_blocking=on_a_gpu)

    def moved(self) -> list[Tensor]:
        """Return all tensors that are on the device so far."""
        return [moved for _, moved in self._known.values()]

    def of_all(self, value: Any) -> Any:
        """Return a block's argument with the tensors in it, in tuples, lists and dicts, moved."""
        if isinstance(value, Tensor):
            return self.of(value)
        if type(value) in (tuple, list):
            return type(value)(self.of_all(item) for item in value)
        if type(value) is dict:
            return {key: self.of_all(item) for key, item in value.items()}
        return value


def _place(tensor: Tensor) -> Any:
    """Return what is equal for two tensors if they are one piece of memory, read in one way."""
    if tensor.is_meta or not tensor.numel():
        return id(tensor)
    return (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())


def _is_parameter(tensor: Tensor) -> bool:
    return isinstance(tensor, nn.Parameter)


def replica(module: nn.Module, to: Counterparts) -> nn.Module:
    """Return a module tree of its own over the counterparts of the module's tensors.

    Submodules, parameters, buffers and hooks may be replaced in either tree and the other does not
    see it. What else a module holds, its configuration for one, is shared: forwards only read it.
    Attributes that a class names as ``REMADE`` are not moved but made there, by its ``remake``.
    """
    twin = _twin(module, {})
    _move(twin, to)
    _remake(twin)
    return twin


def _twin(module: nn.Module, made: dict[nn.Module, nn.Module]) -> nn.Module:
    """Return a module tree of its own over the module's own tensors, without what is remade."""
    if module in made:
        return made[module]
    twin = made[module] = module.__new__(type(module))
    held = {n: v.copy() if isinstance(v, dict) else v for n, v in module.__dict__.items()}
    held |= dict.fromkeys(getattr(module, "REMADE", ()))
    children = held["_modules"].items()
    held["_modules"] = {n: None if m is None else _twin(m, made) for n, m in children}
    twin.__dict__ = held
    return twin


def _move(twin: nn.Module, to: Counterparts) -> None:
    """Put the counterparts of a tree's tensors in their place."""
    for module in twin.modules():
        held = module.__dict__
        held |= {n: to.of(v) for n, v in held.items() if isinstance(v, Tensor)}
        for kind in ("_parameters", "_buffers"):
            held[kind] = {n: None if t is None else to.of(t) for n, t in held[kind].items()}


def _remake(twin: nn.Module) -> None:
    for module in twin.modules():
        if getattr(module, "REMADE", ()):
            module.remake()  # type: ignore[operator]


_SHARED: WeakKeyDictionary[nn.Module, tuple[torch.device, ...]] = WeakKeyDictionary()


def share_work(model: nn.Module, devices: Sequence[torch.device | str]) -> None:
    """Let what works through the whole of ``model`` use these devices, the model's own first.

    What is shared out comes from there and goes back there, so that the model stays where it is.
    Raises ``UsageError`` unless the first is the model's own and all are of its kind.
    """
    home = next(model.parameters()).device
    found = tuple(_numbered(torch.device(device)) for device in devices)
    if not found or found[0] != _numbered(home) or len({d.type for d in found}) > 1:
        raise UsageError(
            f"a model on {home} cannot be worked on by {', '.join(map(str, found)) or 'nothing'}",
            fix="name the model's own device first, and further ones of its kind",
        )
    _SHARED[model] = found


def devices_of(model: nn.Module) -> tuple[torch.device, ...]:
    """Return the devices to work through ``model`` with: its own, unless `share_work` gave more."""
    return _SHARED.get(model) or (next(model.parameters()).device,)


class Replica:
    """A whole model on another device: its modules from the start, its tensors from `arrive` on.

    Made in a few milliseconds and then independent of the model, whose forwards may be replaced and
    which may work while the tensors are on their way.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.module, self.device = _twin(model, {}), device
        self._home = next(model.parameters()).device
        self._arrived = False
        self._written: torch.cuda.Event | None = None
        if self._home.type == "cuda":
            self._written = torch.cuda.Event()
            self._written.record(torch.cuda.current_stream(self._home))

    @torch.no_grad()
    def arrive(self) -> None:
        """Send the tensors to the device, unless they are there: in any thread, one at a time."""
        if self._arrived:
            return
        with working_on(self.device):
            with self._beside_the_model():
                _move(self.module, Counterparts(self.device))
            _remake(self.module)
        self._arrived = True

    def _beside_the_model(self) -> AbstractContextManager[Any]:
        """Let copies leave on a stream of their own, not behind all that the model is sent.

        They wait for what had been sent when the replica was made, the last to write its tensors.
        """
        if self._written is None:
            return nullcontext()
        stream = torch.cuda.Stream(self._home)
        stream.wait_event(self._written)
        return torch.cuda.stream(stream)


_KEPT: WeakKeyDictionary[nn.Module, list[Replica]] = WeakKeyDictionary()


def replicas_of(model: nn.Module) -> list[Replica]:
    """Return a replica for every further device that shares the model's work.

    Their tensors are still to `Replica.arrive`, unless `replicas_kept` has kept them.
    """
    found = _KEPT.get(model) or [Replica(model, device) for device in devices_of(model)[1:]]
    if model in _KEPT:
        _KEPT[model] = found
    return found


@contextmanager
def replicas_kept(model: nn.Module) -> Iterator[nn.Module]:
    """Let all that reads inside the block use the same replicas, which go when it ends.

    Inside, the model must stay what it is: its modules, tensors, kernels and devices.
    """
    if model in _KEPT:
        yield model
        return
    _KEPT[model] = []
    try:
        yield model
    finally:
        del _KEPT[model]


def working_on(device: torch.device) -> AbstractContextManager[Any]:
    """Let launches inside the ``with`` block go to ``device``."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _numbered(device: torch.device) -> torch.device:
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


class Reading:
    """A few numbers on their way from a device to the host."""

    def __init__(self, numbers: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._host = numbers
        if numbers.is_cuda:
            with torch.cuda.device(numbers.device):
                self._host = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
                self._host.copy_(numbers, non_blocking=True)
                self._event = torch.cuda.Event()
                # By device: to find the current one PyTorch counts all GPUs, .2 ms.
                self._event.record(torch.cuda.current_stream(numbers.device))

    def get(self) -> list[Any]:
        """Return the numbers, waiting for them alone and not for what was launched since."""
        if self._event is not None:
            self._event.synchronize()
        return self._host.tolist()
