"""Weights rounded behind rotations that are in them, as any engine can serve them.

QuaRot (Ashkboos et al. 2024, arXiv 2404.00456) without what runs online: `rotation.fold` puts the
rotations of the residual stream (R1) and of each head's values (R2) into the weights, and these are
rounded by GPTQ or to nearest. What is left out are the transforms before down, across heads before
o, and of queries and keys (R3 and R4): W4A16 gains least by them, and no checkpoint format holds
them. So this model is an ordinary one. It is saved in the format of its rounding, is no larger than
that (but for a head that was tied to the embeddings), and its latency is real. The clip search over
weights is the paper's.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from benchsuite.quantizers import gptq, rtn
from benchsuite.quantizers.layers import Progress
from benchsuite.quantizers.linear import stored_bytes
from benchsuite.quantizers.result import QuantizationResult
from benchsuite.quantizers.rotation import fold
from benchsuite.quantizers.walking.clock import StageClock
from benchsuite.quantizers.walking.walk import check_batch


@torch.no_grad()
def quantize(
    model: Any,
    batch: Tensor | None = None,
    *,
    bits: int = 4,
    group_size: int = 128,
    sym: bool = True,
    mse: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> QuantizationResult:
    """Rotate ``model`` and round its block linears, in place on its module tree.

    ``batch`` int64 [n_samples, seq_len] is GPTQ's calibration data; without it weights are rounded
    to nearest. ``seed`` draws the signs of the rotation, the rest is as in `gptq.quantize`. Raises
    CellCannotRun for a model that cannot be rotated exactly.
    """
    if batch is not None:
        check_batch(batch)
    size_before = stored_bytes(model)
    clock = StageClock(next(model.parameters()).device)
    with clock.measure("rotate"):
        fold(model, seed)
    grid: dict[str, Any] = {"bits": bits, "group_size": group_size, "sym": sym, "mse": mse}
    if batch is None:
        result = rtn.quantize(model, **grid, progress=progress)
    else:
        result = gptq.quantize(model, batch, **grid, progress=progress)
    return dataclasses.replace(
        result,
        size_before_bytes=size_before,
        stage_seconds=result.stage_seconds | clock.seconds(),
    )
