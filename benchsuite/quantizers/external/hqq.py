"""HQQ's reference implementation (github.com/mobiusml/hqq), in its own layers.

Its defaults: 4 bits, groups of 64. It needs no data. ``HQQLinear`` keeps scales and zero
points in the compute dtype and dequantizes in every call.
"""

from typing import Any

from benchsuite.quantizers.external import guest
from benchsuite.quantizers.layers import Progress
from benchsuite.quantizers.result import QuantizationResult


def quantize(
    model: Any,
    *,
    bits: int = 4,
    group_size: int = 64,
    seed: int = 0,
    progress: Progress | None = None,
) -> QuantizationResult:
    """Put an ``HQQLinear`` in the place of every block linear, in place on the module tree."""
    with guest.guest(model, "hqq", seed, progress) as stay:
        from hqq.core.quantize import BaseQuantizeConfig, HQQLinear

        settings = BaseQuantizeConfig(nbits=bits, group_size=group_size)
        where = {"compute_dtype": model.dtype, "device": str(model.device)}
        guest.replace_linears(
            model, lambda linear: HQQLinear(linear, settings, del_orig=False, **where)
        )
    return stay.account()
