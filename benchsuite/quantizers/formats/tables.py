"""What codes stand for, on a device: made once, for CUDA graphs take nothing from the host."""

from functools import cache

import torch
from torch import Tensor


@cache
def table(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return ``values``, float32 [n], on ``device``. Everyone is given the same tensor: read it."""
    return torch.tensor(values, dtype=torch.float32, device=device)
