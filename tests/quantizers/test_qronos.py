"""Qronos against its two steps written out as least squares, and what must hold on any model."""

from statistics import fmean

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchsuite.quantizers import gptq, qronos
from benchsuite.quantizers.gptq import invert_panels, quantize_block, round_columns
from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.linear import quantized_linears
from tests.quantizers.drifted import (
    DAMP,
    assert_gptq_where_nothing_drifted,
    by_gptq,
    layer,
    logits_off,
    ratios,
)


def written_out(case, grid):
    """Both steps at every column, by least squares on the data; damping is n more tokens."""
    n, tokens = case.weight.shape[1], len(case.inputs)
    strength = (DAMP * case.hessian.diagonal().mean() * tokens / 2).sqrt()
    more = strength * torch.eye(n, dtype=torch.float64)
    there, goal = torch.cat([case.inputs, more]), torch.cat([case.original, more]) @ case.weight.T
    v, codes = case.weight.clone(), torch.zeros_like(case.weight)
    width = grid.columns_per_group(n)

    def diffuse(i):
        left = goal - there[:, : i + 1] @ v[:, : i + 1].T
        v[:, i + 1 :] = torch.linalg.lstsq(there[:, i + 1 :], left).solution.T

    for i in range(n):
        others = goal - there @ v.T + torch.outer(there[:, i], v[:, i])
        best = others.T @ there[:, i] / there[:, i].square().sum()
        if i == 0:  # the grid of the first group is fitted to what the columns are to be
            v[:, 0] = best
            diffuse(0)
        if i % width == 0:
            group = torch.cat([best[:, None], v[:, i + 1 : i + width]], 1)
            scale, zero = grid.fit(group)
        codes[:, i] = grid.encode(best, scale, zero)
        v[:, i] = grid.decode(codes[:, i], scale, zero)
        if i + 1 < n:
            diffuse(i)
    return codes


def ours(case, grid, order=None):
    drift = case.drift
    drift.mean()
    factor = case.factor
    panels = invert_panels(factor, grid.columns_per_group(len(factor)))
    work = case.weight.t()
    begun = work + qronos.shift(drift.cross(), factor).t() @ work
    return round_columns(begun, factor, panels, grid, order, False, quantize_block)


@given(
    seed=st.integers(0, 2**16),
    bits=st.integers(2, 4),
    group_size=st.sampled_from([-1, 8, 16]),
    sym=st.booleans(),
)
@settings(max_examples=12, deadline=None)
def test_codes_equal_the_two_steps(seed, bits, group_size, sym):
    case, grid = layer(seed), QuantizationGrid(bits, group_size, sym)
    assert torch.equal(ours(case, grid).codes.double(), written_out(case, grid))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inputs_that_have_not_drifted_give_gptq_s_codes(dtype):
    assert_gptq_where_nothing_drifted(ours, dtype)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_the_layer_puts_out_what_is_nearer_the_original_s(bits):
    found = ratios(QuantizationGrid(bits, 8), ours, by_gptq)
    assert max(found) < 1
    assert fmean(found) < 0.85


def test_act_order_is_the_two_steps_on_reordered_columns():
    """The method is given the drift of columns as they lie, and a factor in the loop's order."""
    case, grid = layer(5), QuantizationGrid(3, 8)
    order = case.hessian.diagonal().argsort(descending=True)
    turned, drift = type(case)(*(each[:, order] for each in case)), case.drift
    drift.mean()
    method = qronos.QronosMethod(None, grid, 0.01, True, quantize_block, dtype=torch.float64)
    prepared = method._prepared(turned.factor, order, drift)
    found = method._round(case.weight.t().clone(), turned.factor, order, *prepared)
    assert torch.equal(found.codes[:, order].double(), written_out(turned, grid))


@pytest.mark.parametrize("order", [False, True])
def test_the_first_group_of_a_model_has_gptq_s_codes(order, make_model, tokens):
    """Nothing lies before it that was quantized."""
    one, other = make_model(), make_model()
    for method, model in ((qronos, one), (gptq, other)):
        method.quantize(model, tokens, bits=3, group_size=32, desc_act=order)
    same = [
        torch.equal(mine.codes, quantized_linears(other)[name].codes)
        for name, mine in quantized_linears(one).items()
    ]
    assert all(same[:3])
    assert not any(same[3:])


def test_the_model_s_logits_are_nearer_than_gptq_s(make_model, tokens):
    assert logits_off(qronos, make_model, tokens) < 0.95
