"""What the inputs of a group of linears hold in all: the squares that Wanda and ggml weigh by."""

from copy import copy

import torch
from torch import Tensor


class Energy:
    """The sum of squares of every input, float32 [features]."""

    def __init__(self, n_features: int, device: torch.device) -> None:
        self.total = torch.zeros(n_features, device=device)

    def update(self, inputs: Tensor) -> None:
        """Take in inputs [tokens, features]."""
        self.total += inputs.float().square().sum(0)  # never in place: float32 is no copy

    def merge(self, later: "Energy") -> None:
        """Take in what another one was given of later tokens, on whatever device."""
        self.total += later.total.to(self.total.device)

    def to(self, device: torch.device) -> "Energy":
        """Return the same on another device."""
        moved = copy(self)
        moved.total = self.total.to(device)
        return moved
