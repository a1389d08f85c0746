"""The fused CUDA kernel against its plain twin: equal codes from the same factor.

Needs a CUDA GPU. Triton's interpreter runs one test: TRITON_INTERPRET=1 with triton installed.
"""

import os
from importlib.util import find_spec

import pytest
import torch

from benchsuite.quantizers import gptaq, gptq
from benchsuite.quantizers.gptq import invert_panels, quantize_block, round_columns
from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.walking.hessian import Hessian, invert_upper, upper_factor, weighted_norm
from benchsuite.quantizers.walking.hidden_states import WorkingMemory

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1" and find_spec("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
BLOCKS = [(1, 128), (33, 128), (700, 128), (64, 96), (50, 7)]


def problem(rows, columns, seed=0):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator) * 0.02
    mixing = torch.randn(columns, columns, generator=generator)
    x = torch.randn(2 * columns, columns, generator=generator) @ mixing
    hessian = Hessian(columns, DEVICE)
    hessian.update(x.to(DEVICE))
    return weight.to(DEVICE), upper_factor(hessian.mean(), 0.01, "layer").upper


def columns_first(weight):
    """A copy of the weight as the loop wants it: [columns, rows], contiguous."""
    return torch.empty(weight.shape[::-1], device=weight.device).copy_(weight.t())


@pytest.mark.skipif(
    not (torch.cuda.is_available() or INTERPRETED), reason="needs a CUDA GPU or TRITON_INTERPRET=1"
)
@pytest.mark.parametrize(
    ("rows", "columns"), [(1, 128), (33, 40), (5, 7)] if INTERPRETED else BLOCKS
)
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("sym", [True, False])
def test_one_block_gives_equal_codes_and_errors(rows, columns, bits, sym):
    from benchsuite.quantizers import gptq_kernel

    weight, factor = problem(rows, columns)
    grid = QuantizationGrid(bits, -1, sym)
    scale, zero = grid.fit(weight)
    arguments = (invert_upper(factor), scale, zero, grid.max_code)
    fused = gptq_kernel.quantize_block(columns_first(weight), *arguments)
    plain = quantize_block(columns_first(weight), *arguments)
    assert torch.equal(fused[0], plain[0])
    assert torch.equal(fused[1], plain[1])
    on_cpu = quantize_block(
        columns_first(weight.cpu()), *(a.cpu() if torch.is_tensor(a) else a for a in arguments)
    )
    assert torch.equal(fused[0].cpu(), on_cpu[0])


@pytest.mark.skipif(
    not (torch.cuda.is_available() or INTERPRETED), reason="needs a CUDA GPU or TRITON_INTERPRET=1"
)
@pytest.mark.parametrize(
    ("rows", "columns"), [(1, 128), (33, 40), (5, 7)] if INTERPRETED else BLOCKS
)
@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("static", [False, True])
def test_one_drifted_block_gives_equal_codes_errors_and_columns(rows, columns, bits, static):
    from benchsuite.quantizers import gptq_kernel

    weight, factor = problem(rows, columns)
    upper = invert_upper(factor)
    passed = gptaq.transfer(0.1 * torch.randn(columns, columns, device=DEVICE), upper, 1.0)
    grid = QuantizationGrid(bits, -1, sym=False)
    scale, zero = grid.fit(weight)
    if static:
        scale, zero = (each.expand(columns, rows).contiguous() for each in (scale, zero))
    arguments = (upper, passed, scale, zero, grid.max_code)
    # A block is some lines of what holds more, as `round_panel` hands it over.
    several, one = (torch.cat([columns_first(weight)] * 2) for _ in range(2))
    fused = gptq_kernel.quantize_drifted_block(several[columns:], *arguments)
    plain = gptaq.quantize_block(one[columns:], *arguments)
    assert torch.equal(fused[0], plain[0])
    assert torch.equal(fused[1], plain[1])
    assert torch.equal(several, one)
    by_gptq = quantize_block(columns_first(weight), upper, *arguments[2:])
    assert not torch.equal(fused[1], by_gptq[1])


@needs_gpu
@pytest.mark.parametrize("group_size", [-1, 32, 128, 192])
@pytest.mark.parametrize("order", [False, True])
@pytest.mark.parametrize("static_groups", [False, True])
def test_whole_layers_give_equal_codes(group_size, order, static_groups):
    from benchsuite.quantizers import gptq_kernel

    weight, factor = problem(200, 1100)
    panels = invert_panels(factor, group_size if group_size > 0 else len(factor))
    grid = QuantizationGrid(4, group_size)
    permutation = torch.randperm(1100).cuda() if order else None
    results = [
        round_columns(columns_first(weight), factor, panels, grid, permutation, static_groups, loop)
        for loop in (gptq_kernel.quantize_block, quantize_block)
    ]
    assert torch.equal(results[0].codes, results[1].codes)
    assert torch.equal(results[0].scales, results[1].scales)


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("features", [128, 1100])
def test_hessians_are_accumulated_in_full_precision(dtype, features):
    x = torch.randn(5000, features, device="cuda").to(dtype)
    hessian = Hessian(features, "cuda")
    for part in x.split(2000):
        hessian.update(part)
    expected = 2 * x.double().T @ x.double() / len(x)
    # Tensor cores keep fewer bits of a running sum than an fp32 unit does.
    assert (hessian.mean().double() - expected).norm() < 5e-5 * expected.norm()


@needs_gpu
def test_reported_norms_in_tf32_agree_with_full_precision():
    weight, factor = problem(512, 2048)
    x = torch.randn(4096, 2048, device="cuda") @ torch.randn(2048, 2048, device="cuda")
    hessian = 2 * x.T @ x / len(x)
    factor = upper_factor(hessian, 0.01, "layer").upper
    grid = QuantizationGrid(4, 128)
    panels = invert_panels(factor, 128)
    work = columns_first(weight)
    rounded = round_columns(work, factor, panels, grid, None, False, quantize_block)
    back = grid.decode(
        rounded.codes.float(), grid.spread(rounded.scales, 2048), grid.spread(rounded.zeros, 2048)
    )
    error = weight - back
    exact = ((error.double() @ hessian.double()) * error.double()).sum().item()
    assert weighted_norm(error, hessian).item() == pytest.approx(exact, rel=1e-3)
    assert torch.backends.cuda.matmul.fp32_precision != "tf32"


@needs_gpu
def test_a_model_on_cuda_is_as_good_as_on_the_cpu(make_model, tokens):
    on_cpu = gptq.quantize(make_model(), tokens, group_size=32)
    model = make_model().cuda()
    on_cuda = gptq.quantize(model, tokens, group_size=32)
    on_the_host = WorkingMemory(budget_bytes=0)
    spilled = gptq.quantize(make_model().cuda(), tokens, group_size=32, memory=on_the_host)
    plain = gptq.quantize(make_model().cuda(), tokens, group_size=32, block_kernel="torch")
    assert on_cuda.weights_sha256 == spilled.weights_sha256 == plain.weights_sha256
    for cpu, cuda in zip(on_cpu.layers, on_cuda.layers, strict=True):
        assert cuda.error == pytest.approx(cpu.error, rel=0.02)
