"""LLM.int8 of bitsandbytes (github.com/bitsandbytes-foundation/bitsandbytes), in its own layers.

Weights are int8 per output channel and activations int8 per token, but for the input channels with
a value above ``threshold``, which are multiplied in half precision. So it is ranked as W8A8.
Weights and inputs are rounded to float16 first.
"""

from typing import Any

import torch
from torch import nn

from benchsuite.quantizers.external import guest
from benchsuite.quantizers.layers import Progress
from benchsuite.quantizers.result import QuantizationResult


def quantize(
    model: Any,
    *,
    threshold: float = 6.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> QuantizationResult:
    """Put a ``Linear8bitLt`` in the place of every block linear, in place on the module tree."""
    device = model.device
    with guest.guest(model, "bitsandbytes", seed, progress) as stay:
        from bitsandbytes.nn import Int8Params, Linear8bitLt

        def int8(linear: nn.Linear) -> nn.Module:
            layer = Linear8bitLt(
                linear.in_features,
                linear.out_features,
                bias=linear.bias is not None,
                has_fp16_weights=False,
                threshold=threshold,
                device="meta",
            )
            weight = linear.weight.detach().to("cpu", torch.float16, copy=True)
            layer.weight = Int8Params(weight, requires_grad=False, has_fp16_weights=False)
            layer.bias = linear.bias
            return layer.to(device)  # which is when it quantizes

        guest.replace_linears(model, int8)
    return stay.account()
