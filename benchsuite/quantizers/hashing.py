"""What tensors hold as sha256, wherever they lie.

From a GPU they come in slices through one page-locked buffer. A copy of the whole in ordinary
memory would be twice as much work for the host: it has to be given the pages first.
"""

from typing import Protocol

import torch
from torch import Tensor

SLICE_BYTES = 2**22


class Sha(Protocol):
    """A hash that takes bytes, as hashlib's."""

    def update(self, data: memoryview, /) -> None:
        """Take in further bytes."""


def hash_tensor(sha: Sha, tensor: Tensor, dtype: torch.dtype | None = None) -> None:
    """Add a tensor's values to ``sha``, in rows, as little-endian ``dtype`` (default: its own).

    Equal values give equal bytes on every device. Numpy has to know ``dtype``: it has no bfloat16.
    """
    flat, dtype = tensor.detach().flatten(), dtype or tensor.dtype
    if not flat.is_cuda:
        _hash_here(sha, flat.to(dtype))
        return
    parts = flat.split(SLICE_BYTES // dtype.itemsize)
    buffer = torch.empty(len(parts[0]), dtype=dtype, pin_memory=True)
    with torch.cuda.device(flat.device):
        copied = torch.cuda.Event(blocking=True)
        for part in parts:
            here = buffer[: len(part)].copy_(part, non_blocking=True)
            copied.record()
            copied.synchronize()
            _hash_here(sha, here)


def _hash_here(sha: Sha, values: Tensor) -> None:
    array = values.numpy()
    sha.update(array.astype(array.dtype.newbyteorder("<"), copy=False).data)
