"""Rounding of inputs in kernels against PyTorch's operations: equal bits.

Needs a CUDA GPU, or Triton's interpreter: TRITON_INTERPRET=1 with the package triton installed.
"""

import os
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from benchsuite.quantizers.formats.fp4_grid import FORMATS
from benchsuite.quantizers.formats.fp8_linear import BLOCK, SCHEMES, encode, scale_of
from benchsuite.quantizers.fp8 import fp8_linear

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1" and find_spec("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float32, torch.float16, torch.bfloat16]

pytestmark = pytest.mark.skipif(
    not (torch.cuda.is_available() or INTERPRETED), reason="needs a CUDA GPU or TRITON_INTERPRET=1"
)


def bits(x):
    """The numbers bit by bit, so that -0 is not 0; what is no number is one number."""
    x = x.float() if x.dtype == torch.float8_e4m3fn else x
    kinds = {4: torch.int32, 2: torch.int16}
    return x.masked_fill(x.isnan(), 7).view(kinds[x.element_size()])


def same(found, expected):
    return torch.equal(bits(found), bits(expected)) and found.isnan().equal(expected.isnan())


def inputs(dtype, tokens, columns):
    """Numbers of very unlike size, tokens of zeros, of the dtype's least and of its greatest."""
    generator = torch.Generator().manual_seed(columns)
    powers = torch.randint(-20, 12, (tokens, columns), generator=generator).float()
    x = (torch.randn(tokens, columns, generator=generator) * powers.exp2()).to(dtype)
    if tokens > 4:
        x[1] = 0
        if not (INTERPRETED and dtype == torch.bfloat16):  # it reads bfloat16's wrongly
            x[2] = torch.finfo(dtype).tiny * torch.linspace(-1, 1, columns)  # subnormal ones
        x[3] = torch.finfo(dtype).max * torch.linspace(-1, 1, columns)
        x[4, ::2] = -0.0
    return x.to(DEVICE)


SHAPES = [(6, 640), (5, 1000), (1, 7), (9, 128), (2, 9001), (17, 8200), (0, 64)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("tokens", "columns"), SHAPES)
def test_tokens_become_the_codes_and_scales_of_plain_operations(dtype, tokens, columns):
    from benchsuite.quantizers.formats import rounding_kernels

    x = inputs(dtype, tokens, columns)
    codes, scales = rounding_kernels.round_tokens(x)
    expected = scale_of(x.abs().amax(-1, keepdim=True))
    assert same(scales, expected)
    assert same(codes, encode(x, expected))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("tokens", "columns"), SHAPES)
def test_blocks_of_a_token_do_too_and_further_rows_are_zeros(dtype, tokens, columns):
    from benchsuite.quantizers.formats import rounding_kernels

    x = inputs(dtype, tokens, columns)
    layer = fp8_linear(nn.Linear(columns, 3).to(DEVICE), "block")
    codes, scales = rounding_kernels.round_groups(x, BLOCK, tokens + 3)
    expected = layer.plainly_rounded(x)
    assert same(codes[:tokens], expected[0])
    assert same(scales[:tokens], expected[1])
    assert not codes[tokens:].float().any()
    assert scales.t().is_contiguous()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-3, 0.25, 3e4])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_a_fixed_scale_does_too_and_what_is_beyond_it_is_cut_off(dtype, scale, stored):
    from benchsuite.quantizers.formats import rounding_kernels

    fixed = torch.tensor([scale], dtype=stored, device=DEVICE)
    for tokens, columns in SHAPES:
        x = inputs(dtype, tokens, columns)
        assert same(rounding_kernels.round_fixed(x, fixed), encode(x, fixed))


def test_every_number_of_half_precision_is_rounded_as_pytorch_does():
    """All of float16 as they are: every tie, every subnormal, both zeros, what is no number."""
    from benchsuite.quantizers.formats import rounding_kernels

    x = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.float16)
    one = torch.ones(1, device=DEVICE)
    x = x.reshape(64, -1).to(DEVICE)
    assert same(rounding_kernels.round_fixed(x, one), encode(x, one))


def test_what_is_no_number_stays_none():
    from benchsuite.quantizers.formats import rounding_kernels

    x = torch.randn(4, 256, device=DEVICE)
    x[1, 7], x[2, 200] = float("nan"), float("inf")
    codes, scales = rounding_kernels.round_tokens(x)
    assert scales.isnan().flatten().tolist() == [False, True, False, False]
    assert codes[1].float().isnan().all()
    assert codes[2].float().isnan().nonzero().flatten().tolist() == [200]
    assert rounding_kernels.round_groups(x, BLOCK, 4)[1].isnan().sum() == 1
    for format in FORMATS.values():
        g = format.global_scale(torch.ones(1, device=DEVICE))
        assert rounding_kernels.rounded_e2m1(x, g, format.group_size)[1, 7].isnan()


# Triton's interpreter cuts a bfloat16 off where a GPU rounds it; MXFP4's have no bit too many.
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("tokens", "columns"), SHAPES)
def test_simulated_fp4_inputs_have_the_bits_of_plain_operations(name, dtype, tokens, columns):
    if INTERPRETED and dtype == torch.bfloat16 and name == "nvfp4":
        pytest.skip("the interpreter cuts bfloat16 off")
    from benchsuite.quantizers.formats import rounding_kernels

    format, x = FORMATS[name], inputs(dtype, tokens, columns)
    for largest in (1e-30, 0.5, 6.0, 1e4):
        g = format.global_scale(torch.tensor([largest], device=DEVICE))
        found = rounding_kernels.rounded_e2m1(x, g, format.group_size)
        assert found.dtype == dtype
        assert same(found, format.plainly_rounded(x, g))
        assert same(rounding_kernels.rounded_e2m1(x[:, None], g, format.group_size)[:, 0], found)


def test_columns_of_a_wider_tensor_are_read_where_they_lie():
    from benchsuite.quantizers.formats import rounding_kernels

    wide = inputs(torch.float32, 6, 300)
    for x in (wide[:, 40:200], wide.t()[:160].contiguous().t()):
        whole = x.contiguous()
        assert same(rounding_kernels.round_tokens(x)[0], rounding_kernels.round_tokens(whole)[0])
        for format in FORMATS.values():
            g = format.global_scale(torch.ones(1, device=DEVICE))
            found = rounding_kernels.rounded_e2m1(x, g, format.group_size)
            assert same(found, format.plainly_rounded(whole, g))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tokens", [1, 4, 5, 33])
def test_a_layer_on_a_gpu_multiplies_the_codes_of_plain_operations(scheme, dtype, tokens):
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(1024, 256).to(dtype)
    layer = fp8_linear(linear, scheme, torch.tensor(3.0) if scheme == "static" else None).cuda()
    x = torch.randn(tokens, 1024, generator=generator).to("cuda", dtype)
    codes, scales = layer.round_inputs(x)
    expected = layer.plainly_rounded(x)
    assert same(codes[:tokens], expected[0])
    assert same(scales if scheme == "static" else scales[:tokens], expected[1])
    if dtype != torch.bfloat16:  # what PyTorch's product surely makes
        return
    fused = layer(x)
    layer.round_inputs = layer.plainly_rounded
    assert torch.equal(fused, layer(x))
