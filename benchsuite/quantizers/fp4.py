"""NVFP4 and MXFP4 by rounding to nearest: weights alone (W4A16), or inputs too (W4A4).

`fp4_grid` says what the two formats are. What is left to a quantizer is what shares NVFP4's scale
of a whole tensor: the weights of the linears that engines run as one (q, k and v; gate and up), and
the inputs that linears have in common. That of the inputs is fixed beforehand: calibration data
say how large they become in the unrounded model, so one pass over the data is enough. Everything
else needs no data. Groups' scales of inputs are found while the model runs.

These are llm-compressor's NVFP4A16, NVFP4, MXFP4A16 and MXFP4.
"""

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from benchsuite.errors import UsageError
from benchsuite.quantizers.formats.fp4_grid import Fp4Format
from benchsuite.quantizers.formats.fp4_linear import Fp4Linear, format_named, shared_largest
from benchsuite.quantizers.input_ranges import by_largest_inputs
from benchsuite.quantizers.layers import Progress, block_groups, replace
from benchsuite.quantizers.result import Account, QuantizationResult
from benchsuite.quantizers.walking.hidden_states import CHOSEN_BY_DEVICE, WorkingMemory
from benchsuite.quantizers.walking.walk import GIVE_BATCH


def fp4_linears(
    linears: Mapping[str, nn.Linear],
    format: Fp4Format,
    *,
    activations: bool = False,
    largest: Tensor | None = None,
) -> dict[str, Fp4Linear]:
    """Return the layers that replace linears which read one input, by path, sharing their biases.

    ``largest``, a scalar, is the greatest magnitude of that input, where NVFP4 is to round it.
    """
    of_inputs = None if largest is None else format.global_scale(largest.reshape(1))
    made = {}
    for path, of_weights in shared_largest(linears).items():
        weight, g = linears[path].weight.detach(), format.global_scale(of_weights.reshape(1))
        codes, scales = format.encode(weight, g)
        made[path] = Fp4Linear(
            codes,
            scales,
            g,
            format=format,
            activations=activations,
            # A tensor of its own: a checkpoint stores shared ones once.
            input_global_scale=None if of_inputs is None else of_inputs.clone(),
            bias=linears[path].bias,
            dtype=weight.dtype,
        )
    return made


def _data_free(
    model: nn.Module, format: Fp4Format, activations: bool, progress: Progress | None
) -> QuantizationResult:
    account = Account(model)
    for name, linears in block_groups(model, progress):
        with account.timed(name):
            made = fp4_linears(linears, format, activations=activations)
        for path, linear in made.items():
            replace(model, path, linear)
            account.add(path, group=name, share=1 / len(made))
    return account.close()


@torch.no_grad()
def quantize(
    model: nn.Module,
    batch: Tensor | None = None,
    *,
    format: str = "nvfp4",
    activations: bool = False,
    memory: WorkingMemory = CHOSEN_BY_DEVICE,
    progress: Progress | None = None,
) -> QuantizationResult:
    """Round every block linear of ``model`` to nearest in FP4, in place on its module tree.

    ``activations`` rounds their inputs too, in simulation: the result says so. ``batch``, int64
    [n_samples, seq_len], is then NVFP4's calibration data; nothing else needs any. Raises
    ``UsageError`` where that is missing.
    """
    kind = format_named(format)
    if not activations:
        return _data_free(model, kind, False, progress)
    if not kind.has_global:
        result = _data_free(model, kind, True, progress)
    elif batch is None:
        raise UsageError("NVFP4 with rounded inputs needs calibration data", "FP4", GIVE_BATCH)
    else:

        def rounded(linears: Mapping[str, nn.Linear], largest: Tensor) -> dict[str, Fp4Linear]:
            return fp4_linears(linears, kind, activations=True, largest=largest)

        result = by_largest_inputs(model, batch, rounded, memory, progress)
    return dataclasses.replace(result, latency_simulated=True)
