"""`grid`'s search for a group's clipping as a CUDA kernel; imported only where Triton can run.

PyTorch's operations take some seventeen hundred launches for a group's 80 ranges, and GPTQ searches
a group of 128 columns at a time: at the shapes of a model of 8 billion, nearly ten thousand times.
Here a launch is a group. The arithmetic is the plain search's, but for the power, which is
approximate, and for the order of sums: of two ranges that are equally good to a millionth it may
take the other.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from benchsuite.quantizers.formats.rounding_kernels import nearest

SLICES_PER_PROGRAM = 16
NUMBERS_PER_STEP = 128


@triton.jit
def _best_range_kernel(
    weights_ptr,
    low_ptr,
    high_ptr,
    shrinks_ptr,
    best_ptr,
    n_slices,
    width,
    slice_stride,
    number_stride,
    n_shrinks,
    step,
    smallest,
    norm,
    TOP: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    SLICES: tl.constexpr,
    NUMBERS: tl.constexpr,
):
    slices = tl.program_id(0) * SLICES + tl.arange(0, SLICES)
    real = slices < n_slices
    low = tl.load(low_ptr + slices, mask=real, other=-1.0)
    high = tl.load(high_ptr + slices, mask=real, other=1.0)
    starts = weights_ptr + slices.to(tl.int64)[:, None] * slice_stride
    least = tl.full((SLICES,), float("inf"), dtype=tl.float32)
    best = tl.zeros((SLICES,), dtype=tl.int32)
    for i in range(n_shrinks):
        shrink = tl.load(shrinks_ptr + i)
        lowest = shrink * low
        scale = ((shrink * high - lowest) * step).to(tl.float16).to(tl.float32)
        scale = tl.maximum(scale, smallest)
        zero = tl.full((SLICES,), (TOP + 1) // 2, dtype=tl.float32)
        if not SYMMETRIC:
            zero = nearest(tl.div_rn(-lowest, scale))
            zero = tl.minimum(tl.maximum(zero, 0.0), TOP)
        total = tl.zeros((SLICES,), dtype=tl.float32)
        for start in range(0, width, NUMBERS):
            place = start + tl.arange(0, NUMBERS)
            both = real[:, None] & (place < width)[None, :]
            numbers = tl.load(starts + place[None, :] * number_stride, mask=both, other=0.0)
            wide = tl.broadcast_to(scale[:, None], (SLICES, NUMBERS))
            code = nearest(tl.div_rn(numbers, wide)) + zero[:, None]
            code = tl.minimum(tl.maximum(code, 0.0), TOP) - zero[:, None]
            # No error is 2 to the power of minus infinity: 0.
            total += tl.sum(tl.exp2(norm * tl.log2(tl.abs(code * wide - numbers))), axis=1)
        better = total < least
        least = tl.where(better, total, least)
        best = tl.where(better, i, best)
    tl.store(best_ptr + slices, best, mask=real)


def best_range(
    weights: Tensor,
    low: Tensor,
    high: Tensor,
    shrinks: Tensor,
    *,
    max_code: int,
    sym: bool,
    smallest: float,
    norm: float,
) -> Tensor:
    """Return which of ``shrinks`` float32 [n] makes the least error of each slice, int64 [slices].

    ``weights`` float32 [slices, width], of any strides, are rounded to codes up to ``max_code``
    over ``shrink * low`` to ``shrink * high`` [slices], with scales in float16 and of at least
    ``smallest``; the error is the sum of |differences| to the power of ``norm``. Of equally good
    ones it is the first.
    """
    n_slices, width = weights.shape
    best = torch.empty(n_slices, dtype=torch.int32, device=weights.device)
    with torch.cuda.device_of(weights):
        _best_range_kernel[(triton.cdiv(n_slices, SLICES_PER_PROGRAM),)](
            weights,
            low,
            high,
            shrinks,
            best,
            n_slices,
            width,
            *weights.stride(),
            len(shrinks),
            1.0 / max_code,
            smallest,
            norm,
            TOP=max_code,
            SYMMETRIC=sym,
            SLICES=SLICES_PER_PROGRAM,
            NUMBERS=min(NUMBERS_PER_STEP, triton.next_power_of_2(width)),
            enable_fp_fusion=False,
        )
    return best.long()
