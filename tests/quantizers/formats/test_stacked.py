"""The weights of packed layers, unpacked by one kernel, against each layer's own.

Needs a CUDA GPU, or Triton's interpreter: TRITON_INTERPRET=1 with the package triton installed.
"""

import pytest
import torch

from benchsuite.quantizers.formats.stacked import unpacked_at_once
from tests.quantizers.formats.test_few_tokens import EXACT, layer, pytestmark  # noqa: F401


@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize("zeros", ["symmetric", "integer", "free"])
@pytest.mark.parametrize("group_size", [32, 640])
def test_one_kernel_makes_the_bits_that_each_layer_makes(bits, zeros, group_size):
    layers = [layer(bits, zeros, group_size=group_size) for _ in range(3)]
    for index, one in enumerate(layers):  # no two alike
        one.packed, one.scales = one.packed.roll(index, 0), one.scales.roll(index, 0)
        if one.packed_zeros is not None:
            one.packed_zeros = one.packed_zeros.roll(index, 1)
        if one.free_zeros is not None:
            one.free_zeros = one.free_zeros.roll(index, 0)
    for dtype in EXACT:
        found = unpacked_at_once(layers, dtype)
        assert found.shape == (3, 37, 640)
        for weight, one in zip(found, layers, strict=True):
            assert torch.equal(weight, one.plainly_dequantized(dtype))
