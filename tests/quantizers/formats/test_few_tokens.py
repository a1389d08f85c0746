"""The packed product for a few tokens against the linear of the unpacked weight.

Needs a CUDA GPU, or Triton's interpreter: TRITON_INTERPRET=1 with the package triton installed.
"""

import os
from importlib.util import find_spec

import pytest
import torch
from torch.nn import functional as F

from benchsuite.quantizers.formats.activations import quantize_per_token
from benchsuite.quantizers.formats.int8 import Int8Linear
from benchsuite.quantizers.linear import FEW_TOKENS, QuantizedLinear

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1" and find_spec("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

# The interpreter cuts off what it brings to bfloat16, a GPU rounds it.
EXACT = [torch.float32, torch.float16] + ([] if INTERPRETED else [torch.bfloat16])

pytestmark = pytest.mark.skipif(
    not (torch.cuda.is_available() or INTERPRETED), reason="needs a CUDA GPU or TRITON_INTERPRET=1"
)


def layer(bits, zeros, *, rows=37, columns=640, group_size=128, order=False, dtype=torch.float32):
    generator = torch.Generator().manual_seed(bits)
    codes = torch.randint(0, 2**bits, (rows, columns), generator=generator, dtype=torch.uint8)
    shape = (rows, -(-columns // group_size))
    scales = (0.01 + 0.02 * torch.rand(shape, generator=generator)).half()
    zero = {
        "symmetric": None,
        "integer": torch.randint(0, 2**bits, shape, generator=generator, dtype=torch.uint8),
        "free": (2**bits * torch.rand(shape, generator=generator)).half(),
    }[zeros]
    mixed = torch.randperm(columns, generator=generator) // group_size
    return QuantizedLinear(
        codes,
        scales,
        zero,
        bits=bits,
        group_size=group_size,
        bias=torch.randn(rows, generator=generator).to(dtype),
        g_idx=mixed if order else None,
        dtype=dtype,
        free_zeros=zeros == "free",
    ).to(DEVICE)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("zeros", ["symmetric", "integer", "free"])
@pytest.mark.parametrize("order", [False, True])
def test_any_packing_gives_the_product_of_the_unpacked_weight(bits, zeros, order):
    quantized = layer(bits, zeros, order=order)
    x = torch.randn(2, 3, 640, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    expected = F.linear(
        x.double(), quantized.plainly_dequantized().double(), quantized.bias.double()
    )
    found = quantized.use("triton")(x)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(
    ("rows", "columns", "group_size"),
    [
        *((8, 96, 32), (5, 1000, -1), (7, 576, 128), (3, 2304, 64), (4, 100, 20), (1, 72, 8)),
        (1030, 72, 8),
    ],
)
def test_half_precision_and_odd_shapes(dtype, bits, rows, columns, group_size):
    group_size = columns if group_size == -1 else group_size
    shape = {"rows": rows, "columns": columns, "group_size": group_size}
    quantized = layer(bits, "integer", **shape, dtype=dtype)
    x = torch.randn(1, columns, generator=torch.Generator().manual_seed(1)).to(DEVICE, dtype)
    weight = quantized.plainly_dequantized().double()
    expected = F.linear(x.double(), weight, quantized.bias.double())
    found = quantized.use("triton")(x)
    assert found.dtype == dtype
    coarse = torch.finfo(dtype).eps * (x.double().abs() @ weight.abs().T).max().item()
    torch.testing.assert_close(found.double(), expected, rtol=1e-2, atol=max(3e-2, coarse))


# Triton's interpreter cuts a bfloat16 off where a GPU rounds it.
EXACT = [torch.float32, torch.float16, *([torch.bfloat16] if DEVICE == "cuda" else [])]


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize(
    ("rows", "columns", "tokens", "biased"),
    [(37, 640, 1, True), (5, 2304, 3, False), (8, 100, 8, True), (3, 64, 1, False)],
)
def test_integers_give_the_bits_that_they_give_without_the_kernel(
    dtype, rows, columns, tokens, biased
):
    generator = torch.Generator().manual_seed(rows)
    codes = torch.randint(0, 256, (rows, columns), generator=generator, dtype=torch.uint8)
    scales = (0.01 + 0.02 * torch.rand(rows, 1, generator=generator)).to(dtype)
    bias = torch.randn(rows, generator=generator).to(dtype) if biased else None
    linear = Int8Linear(codes, scales, bias=bias, dtype=dtype).to(DEVICE)
    x = torch.randn(tokens, columns, generator=generator).to(DEVICE, dtype)
    x[0, : columns // 2] *= 0.5  # halves between two codes
    x[-1, :4] = x[-1].abs().max() * torch.tensor([0.5, 1.5, 2.5, 127]).to(DEVICE, dtype) / 127
    x[tokens // 2] = 0 if tokens > 1 else x[0]
    expected = linear.use("dequantize")(x)
    found = linear.use("triton")(x)
    assert found.dtype == dtype
    assert torch.equal(found, expected)


def test_a_token_with_a_number_that_is_none_has_no_other_outputs():
    from benchsuite.quantizers.formats import int8_few_tokens

    x = torch.randn(4, 100, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    x[0, 3], x[1, 7], x[2, 99] = torch.nan, torch.inf, -torch.inf
    codes, scales = int8_few_tokens.round_tokens(x)
    expected = quantize_per_token(x)
    assert torch.equal(codes[3], expected[0][3])
    torch.testing.assert_close(scales, expected[1], rtol=0, atol=0, equal_nan=True)
    weight = torch.randint(-128, 128, (24, 100), generator=torch.Generator().manual_seed(2))
    linear = Int8Linear(weight.add(128).to(torch.uint8), torch.ones(24, 1)).to(DEVICE)
    outputs = linear.use("triton")(x)
    assert outputs.isnan().all(1).tolist() == [True, True, True, False]
    torch.testing.assert_close(outputs, linear.use("held")(x), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize(
    ("zeros", "order", "columns"),
    [("symmetric", False, 640), ("integer", True, 640), ("free", False, 1000)],
)
def test_more_tokens_use_the_unpacked_weight(bits, zeros, order, columns):
    quantized = layer(bits, zeros, rows=7, columns=columns, order=order)
    x = torch.randn(FEW_TOKENS + 1, columns, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    weight = quantized.plainly_dequantized()
    assert torch.equal(quantized.use("triton")(x), F.linear(x, weight, quantized.bias))
    for dtype in EXACT:
        expected = quantized.plainly_dequantized(dtype)
        given = None if quantized.sym else quantized.zeros.contiguous()
        assert torch.equal(quantized._unpacked(given, dtype), expected)
        assert torch.equal(quantized.dequantize(dtype), expected)


def test_the_same_bits_every_time_and_in_any_company():
    quantized = layer(4, "integer").use("triton")
    x = torch.randn(FEW_TOKENS, 640, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    together = quantized(x)
    assert torch.equal(together, quantized(x))
    for few in (slice(3, 4), slice(2), slice(1, 4), slice(5)):
        assert torch.equal(together[few], quantized(x[few]))
