"""FP8 W8A8: weights and activations in E4M3, by the three schemes that engines run.

Weights are rounded to nearest, nothing more: with a bit for the sign, four for the exponent and
three for the mantissa a number's relative error is at most 1/16, down to 2^-14 of the largest. The
layer (`fp8_linear`) says what shares a scale, and how the product runs.

- ``static``: one scale for a matrix and one for all its inputs, which calibration data fixes: the
  largest input of the group of linears that read it. Later, larger inputs become 448.
- ``dynamic``: one for each output channel and each token. No data.
- ``block``: 128 x 128 weights, 128 channels of a token (DeepSeek-V3, arXiv 2412.19437, section
  3.3). No data.

These are llm-compressor's FP8, FP8_DYNAMIC and FP8_BLOCK. As there, the largest inputs of a static
layer are those of the unrounded model, so one pass over the data is enough; and scales have the
dtype of the weights, to which they are rounded before codes are chosen. Half precision is the
exception: its steps are too coarse for scales of small weights, so they stay float32.
"""

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchsuite.errors import UsageError
from benchsuite.quantizers.formats.fp8_linear import (
    BLOCK,
    SCHEMES,
    Fp8Linear,
    encode,
    scale_of,
    spread,
)
from benchsuite.quantizers.input_ranges import by_largest_inputs
from benchsuite.quantizers.layers import Progress, block_linears, replace
from benchsuite.quantizers.linear import quantized_linears
from benchsuite.quantizers.result import Account, QuantizationResult
from benchsuite.quantizers.walking.hidden_states import CHOSEN_BY_DEVICE, WorkingMemory
from benchsuite.quantizers.walking.walk import GIVE_BATCH


def round_weight(weight: Tensor, scheme: str) -> tuple[Tensor, Tensor]:
    """Round ``weight`` [out, in] to nearest; return (codes E4M3 of its shape, scales).

    Scales are [1], [out, 1] or [out / 128, in / 128], rounded up; in float32, or in bfloat16 for a
    weight in it.
    """
    dtype = torch.bfloat16 if weight.dtype == torch.bfloat16 else torch.float32
    if scheme == "static":
        scales = scale_of(weight.abs().amax().reshape(1), dtype)
        return encode(weight, scales), scales
    if scheme == "dynamic":
        scales = scale_of(weight.abs().amax(1, keepdim=True), dtype)
        return encode(weight, scales), scales
    rows, columns = weight.shape
    whole = F.pad(weight, (0, -columns % BLOCK, 0, -rows % BLOCK))
    blocks = whole.unflatten(1, (-1, BLOCK)).unflatten(0, (-1, BLOCK))
    scales = scale_of(blocks.abs().amax((1, 3)), dtype)
    return encode(weight, spread(scales, weight.shape)), scales


def fp8_linear(linear: nn.Linear, scheme: str, largest: Tensor | None = None) -> Fp8Linear:
    """Return the W8A8 layer that replaces ``linear``, sharing its bias.

    ``largest``, a scalar, is the greatest magnitude of its inputs, which only ``static`` needs.
    """
    weight = linear.weight.detach()
    codes, scales = round_weight(weight, scheme)
    fixed = None if largest is None else scale_of(largest.reshape(1), scales.dtype)
    return Fp8Linear(
        codes, scales, scheme=scheme, input_scale=fixed, bias=linear.bias, dtype=weight.dtype
    )


@torch.no_grad()
def quantize(
    model: nn.Module,
    batch: Tensor | None = None,
    *,
    scheme: str = "dynamic",
    memory: WorkingMemory = CHOSEN_BY_DEVICE,
    progress: Progress | None = None,
) -> QuantizationResult:
    """Make every block linear of ``model`` FP8 W8A8, in place on its module tree.

    ``batch``, int64 [n_samples, seq_len], is the calibration data of ``static``, which alone needs
    any. Layer errors are not measured: activations are rounded anew on every input. Where a layer's
    product cannot run in FP8 the result says that latency is simulated.
    """
    if scheme not in SCHEMES:
        raise UsageError(f"unknown FP8 scheme {scheme!r}", fix=f"Known: {', '.join(SCHEMES)}")
    if scheme == "static":
        if batch is None:
            raise UsageError(
                "FP8 with fixed activation scales needs calibration data", "FP8", GIVE_BATCH
            )

        def rounded(linears: Mapping[str, nn.Linear], largest: Tensor) -> dict[str, Fp8Linear]:
            return {path: fp8_linear(m, scheme, largest) for path, m in linears.items()}

        result = by_largest_inputs(model, batch, rounded, memory, progress)
    else:
        account = Account(model)
        for name, linear in block_linears(model, progress):
            with account.timed(name):
                replace(model, name, fp8_linear(linear, scheme))
            account.add(name)
        result = account.close()
    made = [m for m in quantized_linears(model).values() if isinstance(m, Fp8Linear)]
    real = all(linear.runs_in_fp8 for linear in made)
    return dataclasses.replace(result, latency_simulated=not real)
