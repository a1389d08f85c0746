"""Grids: the AutoGPTQ convention, and what must hold on any weights."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchsuite.errors import UsageError
from benchsuite.quantizers.grid import QuantizationGrid

grids = st.builds(
    QuantizationGrid,
    bits=st.integers(2, 8),
    group_size=st.sampled_from([-1, 4, 8, 16]),
    sym=st.booleans(),
    mse=st.booleans(),
    scale_dtype=st.sampled_from([torch.float16, torch.float32]),
)


def weights(seed: int, rows: int = 6, columns: int = 24, spread: float = 1.0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * spread


def test_symmetric_convention_is_autogptq_s():
    scale, zero = QuantizationGrid(4, scale_dtype=torch.float32).fit(
        torch.tensor([0.1, -0.75, 0.5])
    )
    assert scale.item() == pytest.approx(2 * 0.75 / 15)
    assert zero.item() == 8


def test_asymmetric_grid_covers_the_range_and_holds_zero():
    grid = QuantizationGrid(4, sym=False, scale_dtype=torch.float32)
    w = torch.tensor([-0.3, 0.2, 1.2])
    scale, zero = grid.fit(w)
    assert scale.item() == pytest.approx(1.5 / 15)
    assert zero.item() == 3
    assert grid.encode(w, scale, zero).tolist() == [0, 5, 15]


def test_a_group_of_zeros_stays_zero():
    for sym in (True, False):
        grid = QuantizationGrid(3, sym=sym)
        scale, zero = grid.fit(torch.zeros(5))
        assert (
            grid.decode(grid.encode(torch.zeros(5), scale, zero), scale, zero).tolist() == [0] * 5
        )


@given(grid=grids, seed=st.integers(0, 2**16), spread=st.sampled_from([1e-4, 1.0, 100.0]))
def test_codes_are_in_range_and_nearest(grid, seed, spread):
    w = weights(seed, spread=spread)
    scales, zeros = grid.fit_groups(w)
    scale, zero = grid.spread(scales, w.shape[1]), grid.spread(zeros, w.shape[1])
    codes = grid.encode(w, scale, zero)
    assert codes.min() >= 0
    assert codes.max() <= grid.max_code
    assert torch.equal(codes, codes.round())
    chosen = (grid.decode(codes, scale, zero) - w).abs()
    for step in (-1, 1):
        other = (codes + step).clamp(0, grid.max_code)
        assert (chosen <= (grid.decode(other, scale, zero) - w).abs() + 1e-3 * scale).all()


@given(grid=grids, seed=st.integers(0, 2**16))
def test_grid_points_are_fixed_points(grid, seed):
    w = weights(seed)
    scales, zeros = grid.fit_groups(w)
    scale, zero = grid.spread(scales, w.shape[1]), grid.spread(zeros, w.shape[1])
    codes = grid.encode(w, scale, zero)
    again = grid.encode(grid.decode(codes, scale, zero), scale, zero)
    assert torch.equal(codes, again)


@given(seed=st.integers(0, 2**16), bits=st.integers(2, 5), sym=st.booleans())
def test_clip_search_never_raises_the_norm_it_minimises(seed, bits, sym):
    w = weights(seed)
    errors = []
    for mse in (False, True):
        grid = QuantizationGrid(bits, -1, sym, mse)
        scale, zero = grid.fit_groups(w)
        back = grid.decode(grid.encode(w, scale, zero), scale, zero)
        errors.append((back - w).abs().pow(2.4).sum(1))
    assert (errors[1] <= errors[0]).all()


def test_stored_scales_are_exact_in_their_dtype():
    scale, _ = QuantizationGrid(4).fit_groups(weights(1, spread=1e-3))
    assert torch.equal(scale, scale.half().float())
    tiny, _ = QuantizationGrid(4).fit_groups(torch.full((1, 128), 1e-12))
    assert tiny.item() > 0


@pytest.mark.parametrize(("columns", "size"), [(24, 8), (20, 8), (24, -1), (4, 128)])
def test_groups_are_runs_of_columns_and_the_last_may_be_narrow(columns, size):
    grid = QuantizationGrid(4, size, scale_dtype=torch.float32)
    w = weights(2, columns=columns)
    scales, _ = grid.fit_groups(w)
    width = columns if size == -1 else size
    assert scales.shape == (6, math.ceil(columns / width))
    for group, part in enumerate(w.split(width, 1)):
        assert torch.allclose(scales[:, group], 2 * part.abs().amax(1) / 15)
    assert grid.spread(scales, columns).shape == w.shape


@pytest.mark.parametrize(("bits", "size"), [(1, 128), (9, 128), (4, 0), (4, -2)])
def test_impossible_grids_are_usage_errors(bits, size):
    with pytest.raises(UsageError):
        QuantizationGrid(bits, size)
