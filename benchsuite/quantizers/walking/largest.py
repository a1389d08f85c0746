"""The largest input of a group of linears: what a fixed scale of activations is made of."""

from copy import copy

import torch
from torch import Tensor


class Largest:
    """max|x| over all inputs seen, a float32 scalar: a statistic for `Visit.collect`."""

    def __init__(self, device: torch.device) -> None:
        self.value = torch.zeros((), device=device)

    def update(self, inputs: Tensor) -> None:
        """Take in inputs [tokens, features]."""
        torch.maximum(self.value, inputs.abs().amax().float(), out=self.value)

    def merge(self, later: "Largest") -> None:
        """Take in what another one has seen, on whatever device."""
        torch.maximum(self.value, later.value.to(self.value.device), out=self.value)

    def to(self, device: torch.device) -> "Largest":
        """Return the same maximum on another device."""
        moved = copy(self)
        moved.value = self.value.to(device)
        return moved
