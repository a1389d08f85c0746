"""Inputs rounded once for the modules that read them: q, k and v; gate and up."""

import weakref
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch
from torch import Tensor

Rounded = TypeVar("Rounded")


class LastRounded:
    """What the modules of one model rounded last, kept for the next that is given the same tensor.

    The same means that very object, not written to since. Nothing keeps it alive, and what was made
    of it goes with it. Replicas on other devices, each in its thread, may share this object: each
    device has its own last. What the capture of a CUDA graph rounds is used in that capture alone.
    PyTorch does not count what replays write, so a tensor that they fill must not come here between
    two of them. In a model none does: each forward pass makes the inputs of its linears anew.
    """

    def __init__(self) -> None:
        self._kept: dict[torch.device, tuple[weakref.ref[Tensor], Hashable, Any]] = {}

    def of(self, inputs: Tensor, way: Hashable, rounded: Callable[[], Rounded]) -> Rounded:
        """Return what ``rounded`` makes of ``inputs``, or made of them last in the same ``way``.

        It is read by others too, and so must not be written to.
        """
        if inputs.is_inference():  # nothing counts what is written to it
            return rounded()
        capturing = inputs.is_cuda and torch.cuda.is_current_stream_capturing()
        state = (way, inputs._version, capturing)
        kept = self._kept.get(inputs.device)
        if kept is not None and kept[0]() is inputs and kept[1] == state:
            found: Rounded = kept[2]
            return found
        del kept
        self._kept.pop(inputs.device, None)  # its memory is free for what is made now
        made = rounded()
        self._kept[inputs.device] = (weakref.ref(inputs, self._forget), state, made)
        return made

    def _forget(self, gone: weakref.ref[Tensor]) -> None:
        for device, kept in list(self._kept.items()):
            if kept[0] is gone:
                self._kept.pop(device, None)

    def __reduce__(self) -> tuple[type["LastRounded"], tuple[()]]:
        """Let the copy of a model begin with nothing kept."""
        return LastRounded, ()


class RoundsInputs:
    """A module that may round its inputs: while it is to `share`, once for all that do it alike."""

    last_rounded: LastRounded | None = None
    _way: Hashable = None

    def way_of_rounding(self) -> Hashable:
        """Return what is equal for modules that round alike; None where that cannot be told."""
        return None

    def share(self, last: LastRounded | None) -> None:
        """Share roundings through ``last`` (None: no longer); scales must then stay as they are.

        A fixed scale is read here, which waits for its device.
        """
        self.last_rounded = last
        self._way = None if last is None else self.way_of_rounding()

    def rounded_once(self, inputs: Tensor, rounded: Callable[[], Rounded]) -> Rounded:
        """Return what ``rounded`` makes of ``inputs``; it may have been made for another module."""
        if self.last_rounded is None or self._way is None:
            return rounded()
        return self.last_rounded.of(inputs, self._way, rounded)


def way_by(name: Hashable, fixed: Tensor | None) -> Hashable:
    """Return the way of rounding that is ``name`` with a ``fixed`` scale [1], if there is one."""
    if fixed is None:
        return name
    return None if fixed.is_meta else (name, fixed.item())
