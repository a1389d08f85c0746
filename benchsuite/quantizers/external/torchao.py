"""torchao (github.com/pytorch/ao): int4 weights, rounded to nearest, as tensor subclasses.

``IntxWeightOnlyConfig`` is symmetric, runs everywhere and keeps each 4-bit code in a
byte, which its size shows. The packed ``Int4WeightOnlyConfig`` needs CUDA and bfloat16, and is
another format per GPU.
"""

from typing import Any

import torch

from benchsuite.models.architecture import architecture_of
from benchsuite.quantizers.external import guest
from benchsuite.quantizers.layers import Progress
from benchsuite.quantizers.result import QuantizationResult


def quantize(
    model: Any,
    *,
    group_size: int = 128,
    seed: int = 0,
    progress: Progress | None = None,
) -> QuantizationResult:
    """Quantize every block linear's weight, in place on the module tree; -1 is a whole row."""
    with guest.guest(model, "torchao", seed, progress) as stay:
        from torchao.quantization import IntxWeightOnlyConfig, quantize_
        from torchao.quantization.granularity import PerAxis, PerGroup

        granularity: Any = PerAxis(0) if group_size == -1 else PerGroup(group_size)
        config = IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=granularity)  # type: ignore[attr-defined]
        copy = guest.own_copy(model)
        names = {name for name, _ in architecture_of(copy).named_linears(copy)}
        quantize_(copy, config, filter_fn=lambda module, name: name in names)
    guest.adopt(model, copy)
    return stay.account()
