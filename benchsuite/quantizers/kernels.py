"""Which kernel the packed layers of a model multiply by, for a while."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from benchsuite.models.memory import available_bytes
from benchsuite.quantizers.formats.last_rounded import LastRounded, RoundsInputs
from benchsuite.quantizers.linear import QuantizedLinear, quantized_linears

HELD_SHARE = 0.9
"""Of a device's available memory that unpacked weights may take; activations have the rest."""


@contextmanager
def using_kernel(model: nn.Module, kernel: str) -> Iterator[nn.Module]:
    """Let every quantized linear of ``model`` use ``kernel`` inside the ``with`` block.

    ``held`` keeps unpacked weights only where a device has room for all of them; elsewhere each is
    unpacked in every call (``dequantize``), to the same bits. ``few_tokens`` lets each layer choose
    what generates fastest: `fastest_for_few_tokens`. With any kernel, what rounds its inputs does
    so once for all that read the same ones and round alike.
    """
    linears = [(linear, linear.kernel) for linear in quantized_linears(model).values()]
    if kernel == "held" and not _fit_unpacked(linear for linear, _ in linears):
        kernel = "dequantize"
    rounding = [(m, m.last_rounded) for m in model.modules() if isinstance(m, RoundsInputs)]
    shared = LastRounded()
    try:
        for linear, _ in linears:
            few = kernel == "few_tokens"
            linear.use(linear.fastest_for_few_tokens() if few else kernel)
        for module, _ in rounding:
            module.share(shared)
        yield model
    finally:
        for linear, kernel_before in linears:
            linear.use(kernel_before)
        for module, shared_before in rounding:
            module.share(shared_before)


def _fit_unpacked(linears: Iterable[QuantizedLinear]) -> bool:
    needed: Counter[torch.device] = Counter()
    for linear in linears:
        weights = linear.in_features * linear.out_features
        needed[linear.packed.device] += weights * linear.dtype.itemsize
    return all(
        n_bytes <= HELD_SHARE * available_bytes(device)
        for device, n_bytes in needed.items()
        if device.type != "meta"
    )
