"""FP4's fused column loop and fit against their plain twins: equal bits.

Needs a CUDA GPU, or Triton's interpreter: TRITON_INTERPRET=1 with the package triton installed.
"""

import os
from importlib.util import find_spec

import pytest
import torch

from benchsuite.quantizers import fp4_gptq
from benchsuite.quantizers.formats.fp4_grid import FORMATS
from benchsuite.quantizers.gptq import invert_panels, round_columns
from benchsuite.quantizers.linear import quantized_linears
from benchsuite.quantizers.walking.hessian import Hessian, upper_factor
from tests.quantizers.conftest import build

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1" and find_spec("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

pytestmark = pytest.mark.skipif(
    not (torch.cuda.is_available() or INTERPRETED), reason="needs a CUDA GPU or TRITON_INTERPRET=1"
)


def bits(x):
    return x.contiguous().view(torch.int32)


def problem(rows, columns, seed=0):
    """Weights [columns, rows] of very unlike size with zeros among them, and their V."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(columns, rows, generator=generator) * 0.02
    weight *= torch.randint(-6, 3, (1, rows), generator=generator).float().exp2()
    weight[::7, ::3] = 0
    weight[:, 0] = 0
    mixing = torch.randn(columns, columns, generator=generator)
    hessian = Hessian(columns, "cpu")
    hessian.update(torch.randn(2 * columns, columns, generator=generator) @ mixing)
    factor = upper_factor(hessian.mean(), 0.01, "layer").upper
    return weight.to(DEVICE), factor.to(DEVICE)


def grid(name, weight, fused):
    format = FORMATS[name]
    g = format.global_scale(weight.abs().amax().expand(weight.shape[1]))
    return fp4_gptq.Fp4Grid(format, g, fused=fused)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("width", [1, 7, 16, 32])
@pytest.mark.parametrize("rows", [1, 33, 200])
def test_a_group_s_scale_has_equal_bits(name, width, rows):
    weight, _ = problem(rows, width)
    weight[0, rows // 2] = 1e-40  # a subnormal number alone
    weight[1:, rows // 2] = 0
    found, zero = grid(name, weight, True).fit(weight, dim=0)
    expected, plain_zero = grid(name, weight, False).fit(weight, dim=0)
    assert torch.equal(bits(found), bits(expected))
    assert torch.equal(zero, plain_zero)


def test_scales_of_any_size_have_equal_bits():
    """MXFP4's powers at every border: exact powers, 7/4 of them and their neighbours."""
    powers = torch.tensor([-149, -148, -130, *range(-128, -123), -20, -2, *range(5), 90, 126, 127])
    borders = torch.cat([powers.float().exp2() * by for by in (1, 1.5, 1.75)])
    steps = [torch.nextafter(borders, torch.tensor(to)) for to in (0.0, float("inf"))]
    largest = torch.cat([borders, *steps])
    largest = largest[largest.isfinite()].to(DEVICE)[None]
    for name in FORMATS:
        for g in (None,) if name == "mxfp4" else (1e-6, 1.0, 448 * 6.0, 3e30):
            of_tensor = None if g is None else torch.full_like(largest[0], g)
            found, expected = (
                fp4_gptq.Fp4Grid(FORMATS[name], of_tensor, fused=fused).fit(largest, dim=0)[0]
                for fused in (True, False)
            )
            assert torch.equal(bits(found), bits(expected))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("rows", "columns", "static"),
    [(1, 16, False), (33, 32, False), (70, 7, False), (20, 128, True), (33, 96, True)],
)
def test_one_block_gives_equal_codes_and_errors(name, rows, columns, static):
    from benchsuite.quantizers import fp4_gptq_kernel

    weight, factor = problem(rows, columns)
    upper = invert_panels(factor, columns)[0]
    plain_grid = grid(name, weight, False)
    scale, zero = plain_grid.fit(weight, dim=0)
    if static:
        width = plain_grid.format.group_size
        pair = plain_grid.fit_groups(weight.t())
        scale, zero = (p.t().repeat_interleave(width, 0)[:columns] for p in pair)
        shuffled = torch.randperm(columns, generator=torch.Generator().manual_seed(1))
        scale = scale[shuffled.to(DEVICE)]  # as act order leaves them
    weight[: columns // 2, -1] = 5 * scale.reshape(-1, rows)[0, -1]  # a tie: 5/2 of a number
    # The factor may lie column by column in memory, as linear algebra leaves it.
    for given in (upper, upper.t().contiguous().t())[: 1 if static else 2]:
        fused = fp4_gptq_kernel.quantize_block(weight.clone(), given, scale, zero, 24)
        plain = fp4_gptq.quantize_block(weight.clone(), given, scale, zero, 24)
        assert torch.equal(fused[0], plain[0])
        assert torch.equal(fused[1], plain[1])
    assert len(fused[0].unique()) > 3


def test_ties_go_to_the_even_code():
    """Every number between two of E2M1, and both zeros, of both signs: no compensation."""
    from benchsuite.quantizers import fp4_gptq_kernel

    sizes = torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5, 7, 1e-45, 1e30])
    weight = torch.cat([sizes, -sizes])[None].to(DEVICE)
    half = torch.full((22,), 0.5, device=DEVICE)
    one = torch.ones(1, 1, device=DEVICE)
    codes, errors = fp4_gptq_kernel.quantize_block(weight.clone(), one, half, half, 24)
    expected = [12, 12, 14, 14, 16, 16, 20, 20, 24, 12, 24]
    assert codes[0, :11].tolist() == expected
    assert codes[0, 11:].tolist() == [24 - code for code in expected]
    plain = fp4_gptq.quantize_block(weight.clone(), one, half, half, 24)
    assert torch.equal(codes, plain[0])
    assert torch.equal(errors, plain[1])


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("turned", [False, True])
def test_whole_layers_give_equal_codes_and_scales(name, turned):
    from benchsuite.quantizers import fp4_gptq_kernel

    rows, columns = (200, 1100) if DEVICE == "cuda" else (20, 100)
    weight, factor = problem(rows, columns)
    panels = invert_panels(factor, FORMATS[name].group_size)
    order = torch.randperm(columns, generator=torch.Generator().manual_seed(2)).to(DEVICE)
    results = [
        round_columns(
            weight.clone(),
            factor,
            panels,
            grid(name, weight, fused),
            order if turned else None,
            turned,
            loop,
        )
        for loop, fused in (
            (fp4_gptq_kernel.quantize_block, True),
            (fp4_gptq.quantize_block, False),
        )
    ]
    assert torch.equal(results[0].codes, results[1].codes)
    assert torch.equal(bits(results[0].scales), bits(results[1].scales))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("activations", [False, True])
def test_a_model_on_cuda_is_the_plain_loop_s(name, turned, activations, tokens):
    """Three blocks of one shape: the loop runs as it is, becomes a graph, is replayed."""
    digests, layers = [], []
    for kernel in ("auto", "torch"):
        model = build(num_hidden_layers=3).cuda()
        result = fp4_gptq.quantize(
            model,
            tokens,
            format=name,
            activations=activations,
            rotate_groups=turned,
            block_kernel=kernel,
        )
        digests.append(result.weights_sha256)
        layers.append(quantized_linears(model))
    assert digests[0] == digests[1]
    for fused, plain in zip(*(found.values() for found in layers), strict=True):
        assert torch.equal(fused.codes, plain.codes)
