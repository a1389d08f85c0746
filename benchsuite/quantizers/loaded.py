"""Models as their users load them: in full precision, in 8 bits or in 4.

Hub models go through bitsandbytes, which is what the source documents' ``8bit`` and ``4bit`` mean:
LLM.int8() (Dettmers et al. 2022) and NF4 (2023) in every linear layer but the head. Embedded models
and those of the package index are rounded to nearest by our own quantizer, in groups of 128;
``gptq_w4`` is our GPTQ in the same groups, on calibration text.
"""

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from benchsuite.errors import CellCannotRun
from benchsuite.quantizers import gptq, rtn
from benchsuite.quantizers.layers import block_linears, replace

BITS = {"fp16": 16, "8bit": 8, "4bit": 4}
"""Precision -> bits; ``fp16`` is the model as it is, in its own 16-bit dtype (or more)."""

CALIBRATED = "gptq_w4"
"""The precision that needs calibration text."""
GROUP_SIZE = 128


def description(precision: str, *, own: bool) -> str:
    """Say in words how a model at this precision is made, by ``own`` quantizers or bitsandbytes."""
    if precision == CALIBRATED:
        return f"benchsuite GPTQ W4 g{GROUP_SIZE}"
    bits = BITS[precision]
    if bits == 16:
        return "none"
    if own:
        return f"benchsuite RTN W{bits} g{GROUP_SIZE}"
    return {8: "bitsandbytes LLM.int8()", 4: "bitsandbytes NF4"}[bits]


def reduce(
    model: nn.Module,
    precision: str,
    *,
    own: bool,
    calibration: Callable[[], torch.Tensor] | None = None,
) -> nn.Module:
    """Bring a leased model to ``precision``, in place on its module tree, and return it.

    ``own`` quantizers round it, or bitsandbytes. ``calibration()`` gives the int64 [n, tokens] that
    ``gptq_w4`` is calibrated on. Raises ``CellCannotRun`` where bitsandbytes is not installed.
    """
    if precision == CALIBRATED:
        if calibration is None:
            raise ValueError(f"{precision} needs calibration text")
        gptq.quantize(model, calibration(), bits=4, group_size=GROUP_SIZE)
        return model
    bits = BITS[precision]
    if bits == 16:
        return model
    if own:
        rtn.quantize(model, bits=bits, group_size=GROUP_SIZE)
        return model
    try:
        library = importlib.import_module("bitsandbytes")
    except ImportError as error:
        raise CellCannotRun(
            f"{precision} models from the hub need bitsandbytes",
            fix="install it: pip install 'benchsuite[bitsandbytes]'",
        ) from error
    for name, linear in block_linears(model):
        replace(model, name, _bitsandbytes_linear(library, linear, bits))
    return model


def _bitsandbytes_linear(library: Any, linear: nn.Linear, bits: int) -> nn.Module:
    """Return the layer's bitsandbytes twin; the weights are quantized on their way to the device.

    They are copied, so that a weight that other leases share stays as it is.
    """
    size, bias = (linear.in_features, linear.out_features), linear.bias is not None
    weight = linear.weight.detach().cpu().clone()
    if bits == 8:
        made = library.nn.Linear8bitLt(*size, bias=bias, has_fp16_weights=False, threshold=6.0)
        made.weight = library.nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    else:
        made = library.nn.Linear4bit(
            *size, bias=bias, quant_type="nf4", compute_dtype=linear.weight.dtype
        )
        made.weight = library.nn.Params4bit(weight, requires_grad=False, quant_type="nf4")
    if bias:
        made.bias = nn.Parameter(linear.bias.detach().clone(), requires_grad=False)
    return made.to(linear.weight.device).eval()
