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
from benchsuite.models.architecture import architecture_of
from benchsuite.models.streaming import Blocks
from benchsuite.quantizers.formats.fp4_grid import Fp4Format
from benchsuite.quantizers.formats.fp4_linear import Fp4Linear, format_named, shared_largest
from benchsuite.quantizers.layers import Progress, group_linears, replace
from benchsuite.quantizers.result import Account, QuantizationResult
from benchsuite.quantizers.walking.finite import refuse_infinite_inputs, refuse_infinite_weights
from benchsuite.quantizers.walking.hidden_states import CHOSEN_BY_DEVICE, WorkingMemory
from benchsuite.quantizers.walking.largest import Largest
from benchsuite.quantizers.walking.visit import Visit
from benchsuite.quantizers.walking.walk import GIVE_BATCH, walk_blocks


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


def _calibrated(
    model: nn.Module,
    batch: Tensor,
    format: Fp4Format,
    memory: WorkingMemory,
    progress: Progress | None,
) -> QuantizationResult:
    account = Account(model)

    def visit(here: Visit) -> None:
        largest = here.collect({group.name: Largest for group in here.groups}, advance=True)
        made = []
        for group in here.groups:
            value = largest[group.name].value
            refuse_infinite_inputs(value, f"{here.name}.{group.name}")
            with here.clock.measure("round", here.device_of(group)):
                linears = here.linears(group)
                rounded = fp4_linears(linears, format, activations=True, largest=value)
                made += [(group, path, linear) for path, linear in rounded.items()]
        for group, path, linear in made:
            replace(here.block, path, here.brought_home(group, linear))
            account.add(f"{here.name}.{path}")

    return account.close(walk_blocks(model, batch, visit, memory=memory, progress=progress))


def _data_free(
    model: nn.Module, format: Fp4Format, activations: bool, progress: Progress | None
) -> QuantizationResult:
    account, architecture, blocks = Account(model), architecture_of(model), Blocks(model)
    for index, block in blocks.each():
        if progress is not None:
            progress("quantize", index, len(blocks))
        where = architecture.block_name(index)
        for group in architecture.groups:
            linears = group_linears(block, group, where)
            refuse_infinite_weights({f"{where}.{p}": linear for p, linear in linears.items()})
            with account.timed(f"{where}.{group.name}"):
                made = fp4_linears(linears, format, activations=activations)
            for path, linear in made.items():
                replace(block, path, linear)
                account.add(f"{where}.{path}", group=f"{where}.{group.name}", share=1 / len(made))
        blocks.put_away(index)
    if progress is not None:
        progress("quantize", len(blocks), len(blocks))
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
    [n_samples, seq_len], is then NVFP4's calibration data; nothing else needs any.
    """
    kind = format_named(format)
    if not activations:
        return _data_free(model, kind, False, progress)
    if not kind.has_global:
        result = _data_free(model, kind, True, progress)
    elif batch is None:
        raise UsageError("NVFP4 with rounded inputs needs calibration data", "FP4", GIVE_BATCH)
    else:
        result = _calibrated(model, batch, kind, memory, progress)
    return dataclasses.replace(result, latency_simulated=True)
