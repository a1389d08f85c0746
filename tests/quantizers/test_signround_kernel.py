"""SignRound's kernels against its plain operations.

Needs a CUDA GPU, or Triton's interpreter: TRITON_INTERPRET=1 with the package triton installed.
"""

import os
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from benchsuite.quantizers import signround
from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.signround import LearnedLinear

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1" and find_spec("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

pytestmark = pytest.mark.skipif(
    not (torch.cuda.is_available() or INTERPRETED), reason="needs a CUDA GPU or TRITON_INTERPRET=1"
)


def some_layer(columns, bits, group_size, sym, dtype):
    """A layer in the middle of learning: ranges shrunk, so that codes are cut, and a row of 0."""
    generator = torch.Generator().manual_seed(columns)
    linear = nn.Linear(columns, 24, dtype=dtype)
    with torch.no_grad():
        linear.weight.copy_(torch.randn(24, columns, generator=generator))
        linear.weight[3] = 0
        learned = LearnedLinear(linear.to(DEVICE), QuantizationGrid(bits, group_size, sym))
        learned.offset.copy_(torch.rand(24, columns, generator=generator) - 0.5)
        for end in (learned.low, learned.high):
            end.copy_(0.5 + 0.5 * torch.rand(end.shape, generator=generator))
    return learned


def both(learned, monkeypatch, upstream):
    """(weight, gradients) by plain operations and by the kernels."""
    found = []
    for kernels in (False, True):
        monkeypatch.setattr(signround, "_has_kernels", lambda _, use=kernels: use)
        weight = learned.rounded()
        gradients = torch.autograd.grad(weight, list(learned.parameters()), upstream)
        found.append(
            (weight.detach(), dict(zip(["offset", "low", "high"], gradients, strict=True)))
        )
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("sym", [True, False])
@pytest.mark.parametrize(
    ("columns", "group_size"), [(64, 32), (72, 32), (1200, -1), (600, 128), (30, 7)]
)
@pytest.mark.parametrize("bits", [2, 4])
def test_rounding_and_gradients_are_the_plain_ones(
    bits, columns, group_size, sym, dtype, monkeypatch
):
    learned = some_layer(columns, bits, group_size, sym, dtype)
    upstream = torch.randn(24, columns, generator=torch.Generator().manual_seed(0)).to(dtype)
    (plain, expected), (weight, found) = both(learned, monkeypatch, upstream.to(DEVICE))
    assert weight.dtype == dtype
    cut_off = INTERPRETED and dtype == torch.bfloat16  # by the interpreter; a GPU rounds
    torch.testing.assert_close(weight, plain, rtol=2**-7 if cut_off else 0, atol=0)
    assert torch.equal(found["offset"], expected["offset"])
    assert (found["offset"] == 0).any()  # some codes are cut
    for end in ("low", "high"):
        torch.testing.assert_close(found[end], expected[end], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("better", [True, False])
@pytest.mark.parametrize("shape", [(5, 7), (3, 1500)])
def test_a_move_is_the_plain_one(shape, better, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    parameter, gradient, kept = (torch.randn(shape, generator=generator) for _ in range(3))
    gradient[0, :3] = torch.tensor([0.0, -0.0, 1e-30])
    found = []
    for kernels in (False, True):
        monkeypatch.setattr(signround, "_has_kernels", lambda _, use=kernels: use)
        moved, best = parameter.clone().to(DEVICE), kept.clone().to(DEVICE)
        size = torch.tensor([0.37], device=DEVICE)
        told = torch.tensor([better], device=DEVICE)
        signround._move(moved, gradient.to(DEVICE), best, told, size, -0.5, 0.5)
        found.append((moved, best))
    (moved, best), (by_kernel, best_by_kernel) = found
    assert torch.equal(moved, by_kernel)
    assert torch.equal(best, best_by_kernel)
    assert torch.equal(best.cpu(), parameter if better else kept)
    assert moved.abs().max() == 0.5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_graph_learns_what_single_launches_do(make_model, tokens, monkeypatch):
    """And kernels what plain operations do, but for signs of gradients that are nearly nothing."""
    found = []
    for graphs, kernels in ((True, True), (False, True), (False, False)):
        if not graphs:
            monkeypatch.setattr(signround, "Repeated", lambda step, _: step)
        if not kernels:
            monkeypatch.setattr(signround, "_has_kernels", lambda _: False)
        model = make_model().cuda()
        result = signround.quantize(model, tokens, bits=3, group_size=32, steps=20, batch_size=4)
        found.append((result.weights_sha256, [one.details for one in result.layers]))
    assert found[0] == found[1]
    for one, other in zip(found[1][1], found[2][1], strict=True):
        assert one["first_loss"] == pytest.approx(other["first_loss"], rel=1e-4)
        assert one["least_loss"] == pytest.approx(other["least_loss"], rel=0.05)
