"""The Hessian's accumulation and the factor of its inverse."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchsuite.errors import BenchsuiteError
from benchsuite.quantizers.walking.hessian import (
    Drift,
    Hessian,
    error_norms,
    invert_upper,
    revive_dead,
    upper_factor,
)


def inputs(seed: int = 0, tokens: int = 200, features: int = 24) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(features, features, generator=generator, dtype=torch.float64)
    return torch.randn(tokens, features, generator=generator, dtype=torch.float64) @ mixing


@given(seed=st.integers(0, 2**16), cuts=st.lists(st.integers(1, 199), max_size=4))
def test_accumulation_does_not_depend_on_the_micro_batches(seed, cuts):
    x = inputs(seed)
    expected = 2 * x.T @ x / len(x)
    hessian = Hessian(24, "cpu")
    for part in torch.tensor_split(x, sorted(cuts)):
        hessian.update(part.float())
    assert hessian.n_vectors == 200
    torch.testing.assert_close(hessian.mean().double(), expected, rtol=1e-4, atol=1e-4)


def test_sums_of_two_parts_are_merged_into_those_of_the_whole():
    x, original = inputs(0), inputs(1)
    first, second, whole = (Drift(24, "cpu", torch.float64) for _ in range(3))
    whole.update(x, original)
    first.update(x[:80], original[:80])
    second.update(x[80:], original[80:])
    first.merge(second)
    torch.testing.assert_close(first.mean(), whole.mean())
    torch.testing.assert_close(first.cross(), whole.cross())
    torch.testing.assert_close(first.cross(), 2 * (original - x).T @ x / len(x))


def test_norms_are_the_mean_squared_errors_of_the_outputs():
    x, generator = inputs(), torch.Generator().manual_seed(1)
    weight = torch.randn(6, 24, generator=generator, dtype=torch.float64)
    rounded = weight + 0.1 * torch.randn(6, 24, generator=generator, dtype=torch.float64)
    lost, had = error_norms(weight, rounded, 2 * x.T @ x / len(x))
    for norm, outputs in ((lost, x @ weight.T - x @ rounded.T), (had, x @ weight.T)):
        assert norm.item() == pytest.approx(2 * outputs.square().sum(1).mean().item())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs_are_summed_in_full_precision(dtype):
    x = inputs(tokens=4000).to(dtype)
    before = torch.backends.mkldnn.matmul.fp32_precision
    hessian = Hessian(24, "cpu")
    hessian.update(x)
    expected = 2 * x.double().T @ x.double() / len(x)
    error = (hessian.mean().double() - expected).norm() / expected.norm()
    assert error < 1e-6
    assert torch.backends.mkldnn.matmul.fp32_precision == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_factor_inverted_is_the_upper_cholesky_factor_of_the_damped_inverse(dtype):
    x = inputs()
    h = (2 * x.T @ x / len(x)).to(dtype)
    factor = upper_factor(h, 0.01, "layer")
    damped = h.double() + 0.01 * h.double().diagonal().mean() * torch.eye(24).double()
    expected = torch.linalg.cholesky(torch.linalg.inv(damped), upper=True)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    torch.testing.assert_close(
        invert_upper(factor.upper).double(),
        expected,
        rtol=tolerance,
        atol=tolerance * expected.abs().max(),
    )
    upper = factor.upper.double()
    torch.testing.assert_close(upper @ upper.T, damped, rtol=tolerance, atol=tolerance)
    assert (factor.damp, factor.retries) == (0.01, 0)


@pytest.mark.parametrize("shape", [(1, 1), (256, 256), (257, 257), (1100, 1100), (3, 300, 300)])
def test_triangular_inversion_by_halves_is_the_inverse(shape):
    n = shape[-1]
    generator = torch.Generator().manual_seed(n)
    upper = torch.randn(shape, generator=generator, dtype=torch.float64).triu() / n
    upper.diagonal(dim1=-2, dim2=-1).add_(2)
    inverse = invert_upper(upper)
    eye = torch.eye(n).double().expand(shape)
    torch.testing.assert_close(inverse @ upper, eye, rtol=0, atol=1e-12)
    assert torch.equal(inverse, inverse.triu())


def test_a_failed_cholesky_raises_the_damping_and_is_recorded():
    h = torch.eye(4)
    h[0, 1] = h[1, 0] = 1.05  # an eigenvalue of -.05: damping .01 fails, .1 does not
    factor = upper_factor(h, 0.01, "layer")
    assert factor.retries == 1
    assert factor.damp == pytest.approx(0.1)
    assert upper_factor(h, 0.0, "layer").retries == 3


def test_a_hopeless_hessian_is_an_error_that_names_the_layer():
    with pytest.raises(BenchsuiteError, match=r"positive definite.*layer\.3"):
        upper_factor(-torch.eye(3) + 1e-9, 0.01, "layer.3")
    with pytest.raises(BenchsuiteError, match=r"infinite.*layer\.3"):
        upper_factor(torch.full((3, 3), torch.nan), 0.01, "layer.3")


def test_dead_inputs_get_a_unit_diagonal_and_the_original_stays():
    h = torch.diag(torch.tensor([2.0, 0.0, 3.0]))
    revived, dead = revive_dead(h)
    assert revived.diagonal().tolist() == [2, 1, 3]
    assert dead.tolist() == [False, True, False]
    assert h.diagonal().tolist() == [2, 0, 3]
