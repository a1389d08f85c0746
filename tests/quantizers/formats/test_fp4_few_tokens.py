"""FP4's packed product for a few tokens against the linear of the unpacked weight.

Needs a CUDA GPU, or Triton's interpreter: TRITON_INTERPRET=1 with the package triton installed.
"""

import os
from importlib.util import find_spec

import pytest
import torch
from torch.nn import functional as F

from benchsuite.quantizers.formats.fp4_grid import FORMATS
from benchsuite.quantizers.formats.fp4_linear import Fp4Linear
from benchsuite.quantizers.linear import FEW_TOKENS

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1" and find_spec("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# Triton's interpreter cuts a bfloat16 off where a GPU rounds it.
EXACT = [torch.float32, torch.float16, *([torch.bfloat16] if DEVICE == "cuda" else [])]

pytestmark = pytest.mark.skipif(
    not (torch.cuda.is_available() or INTERPRETED), reason="needs a CUDA GPU or TRITON_INTERPRET=1"
)


def layer(name, rows, columns, *, dtype=torch.float32, activations=False, scales=None):
    """A layer of every code, with any scale but one that is no number."""
    format, generator = FORMATS[name], torch.Generator().manual_seed(columns)
    codes = torch.randint(0, 16, (rows, columns), generator=generator, dtype=torch.uint8)
    shape = (rows, -(-columns // format.group_size))
    low, high = scales or ((0, 0x7F) if format.has_global else (0, 255))
    g = torch.tensor([37.3]) if format.has_global else None
    return Fp4Linear(
        codes,
        torch.randint(low, high, shape, generator=generator, dtype=torch.uint8),
        g,
        format=format,
        activations=activations,
        input_global_scale=g if activations else None,
        bias=torch.randn(rows, generator=generator).to(dtype),
        dtype=dtype,
    ).to(DEVICE)


SHAPES = [(37, 640), (5, 1000), (1, 7), (3, 33), (4, 2304), (2, 16)]
SHAPES += [(130, 4100)] if DEVICE == "cuda" else []
SANE = {"nvfp4": (0x30, 0x50), "mxfp4": (120, 128)}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_the_unpacked_weight_has_the_bits_of_plain_operations(name, dtype, rows, columns):
    from benchsuite.quantizers.formats import fp4_few_tokens

    quantized = layer(name, rows, columns)
    found = fp4_few_tokens.unpacked(
        quantized.packed,
        quantized.scales,
        quantized.global_scale,
        quantized.format.group_size,
        n_columns=columns,
        dtype=dtype,
    )
    expected = quantized.plainly_dequantized(dtype)
    assert torch.equal(found.view(torch.uint8), expected.view(torch.uint8))
    assert torch.equal(quantized.dequantize(dtype).view(torch.uint8), expected.view(torch.uint8))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
@pytest.mark.parametrize("activations", [False, True])
def test_the_product_is_that_of_the_unpacked_weight(name, rows, columns, activations):
    quantized = layer(name, rows, columns, activations=activations, scales=SANE[name])
    x = torch.randn(2, 3, columns, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    g = quantized.input_global_scale
    seen = quantized.format.plainly_rounded(x, g) if activations else x
    weight = quantized.plainly_dequantized().double()
    expected = F.linear(seen.double(), weight, quantized.bias.double())
    found = quantized.use("triton")(x)
    bar = 1e-6 * float(F.linear(seen.double().abs(), weight.abs()).max())
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=bar)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(name, dtype):
    quantized = layer(name, 7, 1000, dtype=dtype, scales=SANE[name])
    x = torch.randn(1, 1000, generator=torch.Generator().manual_seed(1)).to(DEVICE, dtype)
    weight = quantized.plainly_dequantized().double()
    expected = F.linear(x.double(), weight, quantized.bias.double())
    found = quantized.use("triton")(x)
    assert found.dtype == dtype
    bar = 2e-2 * float(expected.abs().max())
    torch.testing.assert_close(found.double(), expected, rtol=1e-2, atol=bar)


@pytest.mark.parametrize("name", FORMATS)
def test_more_tokens_use_the_unpacked_weight(name):
    quantized = layer(name, 7, 1000, scales=SANE[name])
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(FEW_TOKENS + 1, 1000, generator=generator).to(DEVICE)
    expected = F.linear(x, quantized.plainly_dequantized(), quantized.bias)
    assert torch.equal(quantized.use("triton")(x), expected)


def test_the_same_bits_every_time_and_in_any_company():
    quantized = layer("nvfp4", 37, 640, scales=SANE["nvfp4"]).use("triton")
    x = torch.randn(FEW_TOKENS, 640, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    together = quantized(x)
    assert torch.equal(together, quantized(x))
    for few in (slice(3, 4), slice(2), slice(1, 4), slice(5)):
        assert torch.equal(together[few], quantized(x[few]))


def test_a_scale_that_is_no_number_is_not_hidden():
    quantized = layer("nvfp4", 3, 64, scales=SANE["nvfp4"])
    quantized.scales[1, 2] = 0x7F
    x = torch.ones(1, 64, device=DEVICE)
    assert quantized.use("triton")(x)[0].isnan().tolist() == [False, True, False]
    assert quantized.use("dequantize")(x)[0].isnan().tolist() == [False, True, False]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("name", FORMATS)
def test_a_layer_on_a_gpu_chooses_the_kernel_for_few_tokens(name):
    quantized = layer(name, 64, 640)
    assert quantized.fastest_for_few_tokens() == "triton"
    assert quantized.cpu().fastest_for_few_tokens() == "dequantize"
