"""Inputs rounded once for the linears that read them: q, k and v; gate and up."""

import weakref
from collections.abc import Callable

from torch import Tensor

Rounded = tuple[Tensor, Tensor]


class LastRounded:
    """What the layers of one model rounded last, kept for the next that is given the same tensor.

    The same means that very object, not written to since. It is not kept alive. PyTorch does not
    count what the replay of a CUDA graph writes, so a tensor that replays fill must not come here.
    In a model none does: each forward pass makes the inputs of its linears anew.
    """

    def __init__(self) -> None:
        self._kept: tuple[weakref.ref[Tensor], tuple[str, int], Rounded] | None = None

    def of(self, inputs: Tensor, scheme: str, rounded: Callable[[], Rounded]) -> Rounded:
        """Return what ``rounded`` makes of ``inputs`` under ``scheme``, or made of them last."""
        if inputs.is_inference():  # nothing counts what is written to it
            return rounded()
        kept, state = self._kept, (scheme, inputs._version)
        if kept is not None and kept[0]() is inputs and kept[1] == state:
            return kept[2]
        made = rounded()
        self._kept = (weakref.ref(inputs), state, made)
        return made
