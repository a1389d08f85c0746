"""Inputs rounded once for the modules that read them: q, k and v; gate and up."""

import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

Rounded = TypeVar("Rounded", Tensor, tuple[Tensor, Tensor])


@dataclass(frozen=True)
class _Kept:
    inputs: weakref.ref[Tensor]
    states: tuple[Hashable, Hashable]  # of the inputs and of what was made, when it was
    made: Any


def _state(tensor: Tensor) -> Hashable:
    """Return what changes when a tensor is written to; None where nothing counts that."""
    if tensor.is_inference():
        return None
    return tensor._version, tensor.is_cuda and torch.cuda.is_current_stream_capturing()


def _states(made: Tensor | tuple[Tensor, ...]) -> Hashable:
    return tuple(_state(tensor) for tensor in (made if isinstance(made, tuple) else (made,)))


class LastRounded:
    """What the modules of one model rounded last, kept for the next that is given the same tensor.

    The same means that very object, not written to since. Nothing keeps it alive, and what was made
    of it goes with it. Each way of rounding on each device has its own last: replicas elsewhere,
    each in its thread, may share this object. What the capture of a CUDA graph rounds is used in
    that capture alone. PyTorch does not count what replays write, so a tensor that they fill must
    not come here between two of them. In a model none does: each forward pass makes the inputs of
    its linears anew.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, _Kept] = {}

    def of(self, inputs: Tensor, way: Hashable, rounded: Callable[[], Rounded]) -> Rounded:
        """Return what ``rounded`` makes of ``inputs``, or made of them last in the same ``way``.

        Others read it too. Whoever writes to it lets it be made anew for them.
        """
        state = _state(inputs)
        # What has gradients belongs to one graph, which its backward pass uses up.
        learns = inputs.requires_grad and torch.is_grad_enabled()
        if state is None or learns or torch.is_inference_mode_enabled():
            return rounded()
        key = (inputs.device, way)
        kept = self._kept.get(key)
        if (
            kept is not None
            and kept.inputs() is inputs
            and kept.states == (state, _states(kept.made))
        ):
            found: Rounded = kept.made
            return found
        del kept
        self._kept.pop(key, None)  # its memory is free for what is made now
        made = rounded()
        self._kept[key] = _Kept(weakref.ref(inputs, self._forget), (state, _states(made)), made)
        return made

    def _forget(self, gone: weakref.ref[Tensor]) -> None:
        for key, kept in list(self._kept.items()):
            if kept.inputs is gone:
                self._kept.pop(key, None)

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
