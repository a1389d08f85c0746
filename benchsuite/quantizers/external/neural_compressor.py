"""Intel's Neural Compressor (github.com/intel/neural-compressor): its GPTQ, with its own defaults.

W4A16, symmetric, damping .01, no act order. Its groups of 32 give way to the study's. Its
columns go in one block of up to 2048, inside which each group's scale is fitted to weights that
earlier columns have not yet corrected (``block_size=128`` fits them to corrected ones). Codes are
taken over one by one.
"""

from typing import Any

import torch
from torch import Tensor

from benchsuite.models.architecture import architecture_of
from benchsuite.quantizers.external import guest
from benchsuite.quantizers.layers import Progress, replace
from benchsuite.quantizers.linear import QuantizedLinear
from benchsuite.quantizers.result import QuantizationResult


def quantize(
    model: Any,
    batch: Tensor,
    *,
    bits: int = 4,
    group_size: int = 128,
    seed: int = 0,
    progress: Progress | None = None,
    **options: Any,
) -> QuantizationResult:
    """Quantize every block linear, in place on the module tree.

    ``batch`` is int64 [n_samples, seq_len]; ``options`` go to the library's ``GPTQConfig``.
    """
    with guest.guest(model, "neural-compressor", seed, progress) as stay:
        from neural_compressor.torch.quantization import GPTQConfig, convert, prepare

        config = GPTQConfig(bits=bits, group_size=group_size, **options)
        library = prepare(guest.own_copy(model), config)
        for row in batch:
            library(row[None].to(model.device))
        library = convert(library)
        after = guest.held_bytes(library)
        for name, layer in architecture_of(library).named_linears(library):
            original = model.get_submodule(name)
            replace(model, name, _packed(layer, original).to(model.device))
    return stay.account(after)


def _packed(layer: Any, original: Any) -> QuantizedLinear:
    """Return the packed layer of the library's, with the bias in the dtype that it had."""
    held = layer.unpack()
    middle = 2 ** (layer.bits - 1)
    zeros = held["zp"].to(torch.uint8)
    return QuantizedLinear(
        held["int_weight"].to(torch.uint8),
        held["scales"],
        None if (zeros == middle).all() else zeros,
        bits=layer.bits,
        group_size=layer.group_size,
        bias=original.bias,
        g_idx=held["g_idx"],
        dtype=original.weight.dtype,
    )
