"""Hadamard matrices against their definition, the transform against the dense product."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchsuite.quantizers.hadamard import (
    factors,
    hadamard_matrix,
    largest_order,
    paley,
    transform,
)


@pytest.mark.parametrize(
    ("order", "q"),
    [(12, 11), (20, 19), (28, 27), (36, 17), (52, 25), (76, 37), (100, 49), (108, 107), (344, 343)],
)
def test_paley_s_matrices_are_hadamard_over_prime_and_prime_power_fields(order, q):
    matrix = paley(order)
    assert order in (q + 1, 2 * (q + 1))
    assert (matrix.abs() == 1).all()
    assert torch.equal(matrix @ matrix.t(), order * torch.eye(order, dtype=torch.int64))


@pytest.mark.parametrize("order", [1, 2, 6, 10, 14, 22, 92, 172])
def test_an_order_that_paley_does_not_have_is_none(order):
    assert paley(order) is None


@pytest.mark.parametrize("n", [1, 2, 4, 8, 12, 40, 64, 96, 128, 160, 256, 384, 768, 1024])
def test_the_matrix_is_orthogonal_with_entries_of_one_size(n):
    matrix = hadamard_matrix(n)
    torch.testing.assert_close(matrix @ matrix.t(), torch.eye(n, dtype=torch.float64))
    torch.testing.assert_close((matrix * n**0.5).abs(), torch.ones_like(matrix))


@pytest.mark.parametrize(
    "width", [768, 896, 1536, 2560, 3584, 4864, 5120, 8960, 11008, 13824, 14336, 18944, 27648]
)
def test_every_width_of_the_supported_families_has_a_full_hadamard(width):
    assert largest_order(width) == width
    assert torch.tensor(factors(width)).prod() == width
    x = torch.randn(2, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(transform(x).norm(dim=1), x.norm(dim=1))
    # An outlier is spread evenly over all channels: that is what the transform is for.
    one = torch.zeros(1, width, dtype=torch.float64)
    one[0, 3] = 1
    torch.testing.assert_close(transform(one).abs(), torch.full_like(one, width**-0.5))


@pytest.mark.parametrize(("n", "order"), [(14, 2), (7, 1), (172, 4), (18, 2)])
def test_without_a_known_order_blocks_are_transformed(n, order):
    assert largest_order(n) == order
    blocks = torch.block_diag(*[hadamard_matrix(order)] * (n // order))
    assert torch.equal(hadamard_matrix(n), blocks)


@given(n=st.sampled_from([1, 4, 12, 14, 24, 96]), inner=st.integers(1, 5), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_the_transform_is_the_dense_product(n, inner, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 3, n * inner, generator=generator, dtype=torch.float64)
    expected = torch.einsum("abni,nm->abmi", x.unflatten(-1, (n, inner)), hadamard_matrix(n))
    torch.testing.assert_close(transform(x, inner), expected.flatten(-2))


def test_weights_and_inputs_transformed_alike_keep_their_product():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 24, generator=generator)
    weight = torch.randn(7, 24, generator=generator)
    torch.testing.assert_close(transform(x) @ transform(weight).t(), x @ weight.t())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_is_kept_and_half_precision_is_rounded_once(dtype):
    x = torch.randn(4, 96, generator=torch.Generator().manual_seed(0)).to(dtype)
    result = transform(x)
    assert result.dtype == dtype
    exact = transform(x.double())
    torch.testing.assert_close(result, exact.to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-6)
