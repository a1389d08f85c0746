"""FP8's product for a few tokens against the product of what its codes stand for.

Needs a CUDA GPU, or Triton's interpreter: TRITON_INTERPRET=1 with the package triton installed.
"""

import copy
import os
from importlib.util import find_spec

import pytest
import torch
from torch.nn import functional as F

from benchsuite.quantizers.formats.fp8_linear import BLOCK, E4M3, SCHEMES, Fp8Linear
from benchsuite.quantizers.linear import FEW_TOKENS

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1" and find_spec("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

pytestmark = pytest.mark.skipif(
    not (torch.cuda.is_available() or INTERPRETED), reason="needs a CUDA GPU or TRITON_INTERPRET=1"
)


def layer(scheme, rows, columns, *, dtype=torch.float32, biased=True, stored=torch.float32):
    """A layer of every code but those that are no number."""
    generator = torch.Generator().manual_seed(columns)
    codes = torch.randint(0, 254, (rows, columns), generator=generator, dtype=torch.uint8)
    codes += (codes >= 0x7F).to(torch.uint8)
    shape = {"static": (1,), "dynamic": (rows, 1)}.get(
        scheme, (-(-rows // BLOCK), -(-columns // BLOCK))
    )
    bias = torch.randn(rows, generator=generator).to(dtype) if biased else None
    return Fp8Linear(
        codes.view(E4M3),
        (1e-3 * (0.5 + torch.rand(shape, generator=generator))).to(stored),
        scheme=scheme,
        input_scale=torch.tensor([0.011], dtype=stored) if scheme == "static" else None,
        bias=bias,
        dtype=dtype,
    ).to(DEVICE)


def tokens_of(n, columns, dtype=torch.float32):
    generator = torch.Generator().manual_seed(n)
    powers = torch.randint(-8, 3, (n, columns), generator=generator).float().exp2()
    x = torch.randn(n, columns, generator=generator) * powers
    x[n // 2, : columns // 2] = 0
    return x.to(DEVICE, dtype)


def expected_of(quantized, x):
    """The product in float64 of the rounded inputs and the weight, and that of their sizes."""
    codes, scales = quantized.plainly_rounded(x)
    if quantized.scheme == "block":
        scales = scales.repeat_interleave(BLOCK, 1)[:, : x.shape[1]]
    seen, weight = codes.double() * scales, quantized.dequantize(torch.float64)
    bias = None if quantized.bias is None else quantized.bias.double()
    return F.linear(seen, weight, bias), F.linear(seen.abs(), weight.abs()).max()


SHAPES = [(37, 640), (5, 1000), (1, 7), (3, 33), (130, 2304), (261, 16), (2, 4100)]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
@pytest.mark.parametrize(("tokens", "biased"), [(1, False), (2, True), (3, True)])
def test_the_product_is_that_of_what_the_codes_stand_for(scheme, rows, columns, tokens, biased):
    quantized = layer(scheme, rows, columns, biased=biased)
    x = tokens_of(tokens, columns)
    expected, size = expected_of(quantized, x)
    found = quantized.use("triton")(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6 * float(size))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(scheme, dtype):
    quantized = layer(scheme, 7, 1000, dtype=dtype, stored=dtype)
    x = tokens_of(2, 1000, dtype)
    expected, size = expected_of(quantized, x)
    found = quantized.use("triton")(x.reshape(2, 1, 1000))
    assert (found.dtype, found.shape) == (dtype, (2, 1, 7))
    # The interpreter cuts off what it brings to bfloat16, a GPU rounds it.
    step = torch.finfo(dtype).eps * (1 if INTERPRETED else 0.5)
    torch.testing.assert_close(
        found.reshape(2, 7).double(), expected, rtol=1.01 * step, atol=1e-6 * float(size)
    )


def test_every_code_is_its_number():
    """Each of a row's 254 codes alone, by an input of one."""
    codes = torch.tensor([c for c in range(256) if c & 0x7F != 0x7F], dtype=torch.uint8)
    quantized = Fp8Linear(codes[:, None].view(E4M3), torch.ones(254, 1), scheme="dynamic")
    quantized = quantized.to(DEVICE).use("triton")
    found = quantized(torch.full((1, 1), 448.0, device=DEVICE))[0]
    assert torch.equal(found.cpu() / 448, codes.view(E4M3).float())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_more_tokens_are_multiplied_as_without_it(scheme):
    quantized = layer(scheme, 48, 512, dtype=torch.bfloat16)
    x = tokens_of(FEW_TOKENS + 1, 512, torch.bfloat16)
    expected = quantized(x)
    assert torch.equal(quantized.use("triton")(x), expected)
    assert quantized(x[:0]).shape == (0, 48)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_same_bits_every_time_and_in_any_company(scheme):
    quantized = layer(scheme, 37, 640).use("triton")
    x = tokens_of(FEW_TOKENS, 640)
    together = quantized(x)
    assert torch.equal(together, quantized(x))
    for few in (slice(3, 4), slice(2), slice(1, 4)):
        assert torch.equal(together[few], quantized(x[few]))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("place", [0, 130, 199])
def test_an_input_that_is_no_number_is_not_hidden(scheme, place):
    quantized = layer(scheme, 5, 200).use("triton")
    x = tokens_of(2, 200)
    x[1, place] = float("nan")
    assert quantized(x).isnan().all(1).tolist() == [False, True]
    assert not quantized(x)[0].isnan().any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("tokens", [1, 2, FEW_TOKENS, 8])
def test_a_decoder_s_widths_on_a_gpu(scheme, tokens):
    for rows, columns in ((4096, 4096), (1024, 14336)):
        quantized = layer(scheme, rows, columns, dtype=torch.bfloat16)
        assert quantized.fastest_for_few_tokens() == "triton"
        assert copy.deepcopy(quantized).cpu().fastest_for_few_tokens() == "dequantize"
        x = tokens_of(tokens, columns, torch.bfloat16)
        plain = quantized.use("dequantize")(x)
        found = quantized.use("triton")(x)
        assert torch.equal(quantized(x), found)
        if tokens > FEW_TOKENS:  # the card's product, whose sums are less exact
            assert torch.equal(found, plain)
            continue
        expected, size = expected_of(quantized, x)
        torch.testing.assert_close(
            found.double(), expected, rtol=1.01 * 2**-7, atol=2e-5 * float(size)
        )
        torch.testing.assert_close(found, plain, rtol=2**-6, atol=1e-3 * float(size))
