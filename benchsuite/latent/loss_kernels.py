"""-log p of the next tokens as Triton kernels that read logits as they are, not float32 copies.

Imported where Triton can run. One kernel reads the logits, the other, of the backward pass, reads
them and writes their gradient; sums are float32 and in one order.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 4096  # words


@triton.jit
def _nll_kernel(logits_ptr, targets_ptr, nll_ptr, lse_ptr, n_words, N: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    logits_ptr += row * n_words
    columns = tl.arange(0, N)
    # Each lane has a maximum and a sum of its own: no lane waits for another until the end.
    highest = tl.full([N], -1e30, tl.float32)
    total = tl.zeros([N], tl.float32)
    for first in range(0, n_words, N):
        inside = first + columns < n_words
        logits = tl.load(logits_ptr + first + columns, mask=inside, other=float("-inf"))
        logits = logits.to(tl.float32)
        higher = tl.maximum(highest, logits)
        total = total * tl.exp(highest - higher) + tl.exp(logits - higher)
        highest = higher
    top = tl.max(highest, axis=0)
    lse = top + tl.log(tl.sum(total * tl.exp(highest - top), axis=0))
    chosen = tl.load(logits_ptr + tl.load(targets_ptr + row)).to(tl.float32)
    tl.store(nll_ptr + row, lse - chosen)
    tl.store(lse_ptr + row, lse)


@triton.jit
def _nll_backward_kernel(
    logits_ptr, targets_ptr, lse_ptr, gradient_ptr, out_ptr, n_words, N: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * N + tl.arange(0, N)
    inside = columns < n_words
    place = row * n_words + columns
    stored = tl.load(logits_ptr + place, mask=inside, other=0.0)
    p = tl.exp(stored.to(tl.float32) - tl.load(lse_ptr + row))
    wanted = (columns == tl.load(targets_ptr + row)).to(tl.float32)
    found = (p - wanted) * tl.load(gradient_ptr + row)
    tl.store(out_ptr + place, found.to(stored.dtype), mask=inside)


def nll(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return -log p of int64 targets [n] under logits [n, words], and the logs of the sums.

    Both are float32 [n].
    """
    found, lse = (logits.new_empty(len(logits), dtype=torch.float32) for _ in range(2))
    with torch.cuda.device_of(logits):
        _nll_kernel[(len(logits),)](
            logits, targets, found, lse, logits.shape[1], N=BLOCK, num_warps=8
        )
    return found, lse


def nll_backward(logits: Tensor, targets: Tensor, lse: Tensor, gradient: Tensor) -> Tensor:
    """Return the logits' gradient, in their dtype, for the result's float32 [n]."""
    out, n_words = torch.empty_like(logits), logits.shape[1]
    with torch.cuda.device_of(logits):
        _nll_backward_kernel[(len(logits), triton.cdiv(n_words, BLOCK))](
            logits, targets, lse, gradient, out, n_words, N=BLOCK, num_warps=8
        )
    return out
