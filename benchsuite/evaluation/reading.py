"""What a step of generation must read at least, and how fast a device reads.

A step multiplies few rows: it takes no less time than reading the weights and the cache once does.
Reading is timed on the card itself, in the same run, and the same timing tells whether somebody
else was at work on it.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from benchsuite.decoding.ways import cache_bytes
from benchsuite.models.memory import available_bytes

# Far more than a device's own cache holds, the least that is still that.
_READ_BYTES, _LEAST_BYTES = 2**29, 2**27
_READS = 40
# Work of another process takes the card for slices of milliseconds, between reads of .2 ms each.
_ALONE_WITHIN = 1.5


def step_bytes(model: nn.Module, rows: int, n_tokens: float) -> int | None:
    """Return the bytes of weights and cache that a step reads, ``rows`` of ``n_tokens`` cached.

    Packed weights count as they are stored. A table of embeddings counts where it is the head, too.
    None for a mixture of experts: which weights it reads, its tokens say.
    """
    config: Any = model.config
    text = config.get_text_config()
    if getattr(text, "num_experts_per_tok", None):
        return None
    kept = cache_bytes(model) / text.num_hidden_layers
    window = getattr(text, "sliding_window", None) or n_tokens
    kinds = getattr(text, "layer_types", None) or [""] * text.num_hidden_layers
    seen = sum(min(window, n_tokens) if "sliding" in kind else n_tokens for kind in kinds)
    return weight_bytes(model) + int(rows * kept * seen)


def weight_bytes(model: nn.Module) -> int:
    """Return the bytes of parameters and buffers but tables of embeddings, shared ones once."""
    found = {}
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            continue
        for own in (module._parameters, module._buffers):
            for tensor in own.values():
                if tensor is not None:
                    found[tensor.data_ptr(), tensor.shape] = tensor.numel() * tensor.element_size()
    return sum(found.values())


class ReadingRate:
    """Times reads of a CUDA device's memory: before something and after it, for both to be alike.

    ``bytes_per_second`` is the best rate seen, of a read or of a copy (whose bytes count twice).
    ``alone`` says whether none of them was held up by another's work. Both are None on a CPU, and
    on a device without memory to spare.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.bytes_per_second: float | None = None
        self.alone: bool | None = None

    def look(self) -> None:
        """Time reads and copies now."""
        if self._device.type != "cuda":
            return
        size = min(_READ_BYTES, available_bytes(self._device) // 4) // 4
        if size * 4 < _LEAST_BYTES:
            return
        with torch.cuda.device(self._device):
            source = torch.ones(size, device=self._device)
            target = torch.empty_like(source)
            for moved, work in ((1, lambda: source.sum()), (2, lambda: target.copy_(source))):
                seconds = _seconds(work, _READS)
                best = float((moved * 4 * size / seconds).max())
                self.bytes_per_second = max(best, self.bytes_per_second or 0.0)
                undisturbed = bool(seconds.max() < _ALONE_WITHIN * np.median(seconds))
                self.alone = undisturbed and self.alone is not False


def _seconds(work: Callable[[], Any], repeats: int) -> np.ndarray:
    """Return the device's seconds float64 [repeats] of a piece of work, after some that warm up."""
    for _ in range(5):
        work()
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    for mark in marks[:-1]:
        mark.record()
        work()
    marks[-1].record()
    torch.cuda.synchronize()
    return np.array([a.elapsed_time(b) / 1000 for a, b in pairwise(marks)])
