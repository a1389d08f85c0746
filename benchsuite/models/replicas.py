"""Modules on several devices: copies that share a structure, and tensors moved there once.

One thread feeds all devices. Launches are asynchronous, so the devices work at the same time for as
long as the host reads nothing of them; `Reading` waits for what it reads and for nothing else.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
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
    return _replica(module, to, {})


def _replica(module: nn.Module, to: Counterparts, made: dict[nn.Module, nn.Module]) -> nn.Module:
    if module in made:
        return made[module]
    twin = made[module] = module.__new__(type(module))
    held = dict(module.__dict__)
    remade = getattr(module, "REMADE", ())
    for name, value in held.items():
        if name in remade:
            held[name] = None
        elif isinstance(value, Tensor):
            held[name] = to.of(value)
        elif isinstance(value, dict):
            held[name] = value.copy()
    for kind in ("_parameters", "_buffers"):
        held[kind] = {n: None if t is None else to.of(t) for n, t in held[kind].items()}
    children = held["_modules"].items()
    held["_modules"] = {n: None if m is None else _replica(m, to, made) for n, m in children}
    twin.__dict__ = held
    if remade:
        twin.remake()  # type: ignore[operator]
    return twin


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


def replicas_of(model: nn.Module) -> list[nn.Module]:
    """Return the model, and a whole replica on every further device that shares its work."""
    others = devices_of(model)[1:]
    return [model, *(replica(model, Counterparts(device)) for device in others)]


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
