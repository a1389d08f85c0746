"""HQQ's solver and last rounding as kernels against the plain operations.

Needs a CUDA GPU, or Triton's interpreter: TRITON_INTERPRET=1 with the package triton installed.
"""

import os
from dataclasses import asdict
from importlib.util import find_spec

import pytest
import torch

from benchsuite.quantizers import hqq

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1" and find_spec("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# At the end the error falls by its last bits, which a GPU's sums in another order decide.
OFF = 1 if DEVICE == "cuda" else 0

pytestmark = [
    pytest.mark.skipif(
        not (torch.cuda.is_available() or INTERPRETED),
        reason="needs a CUDA GPU or TRITON_INTERPRET=1",
    ),
    # The interpreter's numpy warns of what a GPU answers: log2(0), and 0 times infinity.
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]


def some_groups(n, width, dtype=torch.bfloat16, spread=0.02):
    """Weights with heavy tails, a group of zeros, one of a single number and one of halves."""
    generator = torch.Generator().manual_seed(width)
    groups = spread * torch.randn(n, width, generator=generator)
    groups /= torch.rand(n, width, generator=generator) + 0.2
    groups[0], groups[1], groups[2] = 0, spread, (torch.arange(width) % 16 - 7.5) * 2**-6
    return groups.to(dtype).to(DEVICE)


def both(groups, bits, solver):
    """(zeros, iterations) of the plain solver and of the kernel, from the same start."""
    from benchsuite.quantizers import hqq_kernel

    top = 2**bits - 1
    scale, zero = hqq.range_grid(groups, top, torch.float16)
    plain = hqq.fit_zeros(groups.float(), scale, zero, top, solver)
    return plain, hqq_kernel.fit_zeros(groups, scale, zero, top, **asdict(solver))


def alike(plain, found, bits):
    """The share of groups whose zero points are as near as sums of another order are."""
    return ((plain - found).abs() <= 1e-6 * 2**bits).float().mean()


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize(("width", "norm"), [(64, 0.7), (48, 0.7), (600, 0.7), (64, 1.0), (5, 0.4)])
def test_zero_points_and_iterations_are_the_plain_solver_s(bits, width, norm):
    (plain, expected), (found, run) = both(some_groups(19, width), bits, hqq.Solver(norm))
    assert abs(run - expected) <= OFF
    assert expected > 1
    assert found.shape == plain.shape
    assert found.dtype == torch.float32
    assert alike(plain, found, bits) > 0.9  # of two codes that are equally near either is right


@pytest.mark.parametrize("norm", [0.7, 1.0])
def test_errors_worth_keeping_are_kept_at_any_size_and_iteration(norm):
    """From weights none of whose errors is to weights all of whose errors are."""
    groups = some_groups(24, 300, torch.float32, spread=1.0)
    groups *= torch.logspace(-2, 1.5, 24, device=DEVICE)[:, None]
    solver = hqq.Solver(norm, kappa=1.1, iterations=30)
    (plain, expected), (found, run) = both(groups, 3, solver)
    assert abs(run - expected) <= OFF
    assert expected > 21
    assert alike(plain, found, 3) > 0.9
    (unkept, _), _ = both(groups, 3, hqq.Solver(norm, beta=1e-9, iterations=run))
    assert alike(plain, unkept, 3) < 0.5


@pytest.mark.parametrize("iterations", [0, 1, 20, 47])
def test_it_runs_no_more_iterations_than_it_may(iterations):
    (plain, expected), (found, run) = both(
        some_groups(12, 600), 3, hqq.Solver(iterations=iterations)
    )
    assert abs(run - expected) <= OFF
    assert run <= iterations
    assert (expected > 21) == (iterations > 20)
    assert alike(plain, found, 3) > 0.9


def test_half_precision_is_read_as_its_copy_in_float32_is():
    groups = some_groups(70, 64, torch.float16)
    _, (found, run) = both(groups, 4, hqq.Solver())
    _, (again, as_often) = both(groups, 4, hqq.Solver())
    assert torch.equal(found, again)
    assert run == as_often
    _, (wide, as_often) = both(groups.float(), 4, hqq.Solver())
    assert abs(run - as_often) <= OFF
    assert alike(found, wide, 4) > 0.9


def test_a_quotient_is_ieee_s():
    """Of one number and no code but 0 the zero point becomes its quotient's opposite."""
    from benchsuite.quantizers import hqq_kernel

    n = 2**22 if DEVICE == "cuda" else 2**10
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(n, 1, generator=generator).to(DEVICE)
    scale = (torch.rand(n, 1, generator=generator) * 0.01 + 1e-4).to(DEVICE)
    how = {"norm": 1.0, "beta": 1e-9, "kappa": 1.0, "iterations": 1}
    found, _ = hqq_kernel.fit_zeros(numbers, scale, torch.zeros_like(scale), 0, **how)
    # The interpreter rounds a fused product, too.
    torch.testing.assert_close(
        -found, numbers / scale, rtol=0 if DEVICE == "cuda" else 3e-7, atol=0
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("width", [64, 48, 600])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_equal_zero_points_give_equal_codes(dtype, width, bits):
    from benchsuite.quantizers import hqq_kernel

    groups, top = some_groups(37, width, dtype), 2**bits - 1
    scale, zero = hqq.range_grid(groups, top, torch.float16)
    zero[2], scale[2] = 7, 2**-6  # halves between codes
    zero[3:] += torch.linspace(-1, 1, 34, device=DEVICE)[:, None]
    found = hqq_kernel.encode(groups, scale, zero, top)
    assert found.dtype == torch.uint8
    assert torch.equal(found, hqq.encode(groups.float(), scale, zero, top).to(torch.uint8))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("group_size", [64, 128, -1])
def test_a_weight_on_a_gpu_has_the_codes_of_the_plain_solver(bits, group_size):
    weight, top = some_groups(1024, 2048), 2**bits - 1
    codes, scales, zeros, run = hqq.round_weight(weight, bits, group_size)
    groups = weight.float().reshape(-1, 2048 if group_size == -1 else group_size)
    scale, zero = hqq.range_grid(groups, top, torch.float16)
    zero, expected = hqq.fit_zeros(groups, scale, zero, top, hqq.Solver())
    assert abs(run - expected) <= OFF
    assert torch.equal(scales.float().flatten(), scale.flatten())
    if run == expected:
        assert alike(zero.half().flatten(), zeros.flatten(), bits) > 0.98
    plain = hqq.encode(groups, scale, zero.half().float(), top).reshape(codes.shape)
    assert (codes == plain).float().mean() > 0.999
    again = hqq.round_weight(weight, bits, group_size)
    assert torch.equal(codes, again[0])
    assert torch.equal(zeros, again[2])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_narrower_last_group_is_like_a_weight_of_its_own():
    weight = some_groups(64, 160)
    together = hqq.round_weight(weight, 4, 64)
    apart = [hqq.round_weight(part, 4, 64) for part in (weight[:, :128], weight[:, 128:])]
    for place, parts in enumerate(zip(*(each[:3] for each in apart), strict=True)):
        assert torch.equal(together[place], torch.cat(parts, 1))
