"""GPTQ against the textbook algorithm, and what must hold on any model."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.quantizers import gptq, rtn
from benchsuite.quantizers.gptq import invert_panels, quantize_block, round_columns
from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.linear import quantized_linears
from benchsuite.quantizers.walking.hessian import invert_upper, upper_factor, weighted_norm
from benchsuite.quantizers.walking.hidden_states import WorkingMemory


def textbook(weight, hessian, grid, damp=0.01):
    """Optimal brain quantization in column order: invert the Hessian of what remains, each time.

    Comparisons use float16 scales: with exact ones the largest weight of a symmetric group lies
    half-way between two codes, where the last bit of either computation decides.
    """
    w = weight.double().clone()
    n = w.shape[1]
    h = hessian.double() + damp * hessian.double().diagonal().mean() * torch.eye(n).double()
    codes = torch.zeros_like(w)
    width = grid.columns_per_group(n)
    for i in range(n):
        if i % width == 0:
            scale, zero = grid.fit(w[:, i : i + width])
        inverse = torch.linalg.inv(h[i:, i:])
        codes[:, i] = grid.encode(w[:, i], scale, zero)
        error = (w[:, i] - grid.decode(codes[:, i], scale, zero)) / inverse[0, 0]
        w[:, i:] -= error[:, None] * inverse[0]
    return codes


def problem(seed, rows=12, columns=40, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator, dtype=dtype)
    mixing = torch.randn(columns, columns, generator=generator, dtype=dtype)
    x = torch.randn(3 * columns, columns, generator=generator, dtype=dtype) @ mixing
    return weight, 2 * x.T @ x / len(x)


def ours(weight, hessian, grid, order=None, static_groups=False):
    if order is not None:
        hessian = hessian[order][:, order]
    factor = upper_factor(hessian, 0.01, "test").upper
    panels = invert_panels(factor, grid.columns_per_group(len(factor)))
    work = weight.t().clone()
    return round_columns(work, factor, panels, grid, order, static_groups, quantize_block)


@given(
    seed=st.integers(0, 2**16),
    bits=st.integers(2, 5),
    group_size=st.sampled_from([-1, 8, 16, 24]),
    sym=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_codes_equal_the_textbook_s(seed, bits, group_size, sym):
    weight, hessian = problem(seed)
    grid = QuantizationGrid(bits, group_size, sym)
    expected = textbook(weight, hessian, grid)
    assert torch.equal(ours(weight, hessian, grid).codes.double(), expected)


@pytest.mark.parametrize("panel_columns", [32, 100, 512])
@pytest.mark.parametrize("group_size", [-1, 32, 64, 128, 192])
def test_blocks_and_panels_equal_the_textbook_s(group_size, panel_columns, monkeypatch):
    monkeypatch.setattr(gptq, "PANEL_COLUMNS", panel_columns)
    weight, hessian = problem(3, rows=4, columns=300)
    grid = QuantizationGrid(3, group_size)
    expected = textbook(weight, hessian, grid)
    assert torch.equal(ours(weight, hessian, grid).codes.double(), expected)


@pytest.mark.parametrize("static_groups", [False, True])
@pytest.mark.parametrize("act_order", [False, True])
def test_panels_change_no_code(static_groups, act_order, monkeypatch):
    weight, hessian = problem(4, rows=6, columns=300)
    grid = QuantizationGrid(4, 24)
    order = hessian.diagonal().argsort(descending=True) if act_order else None
    whole = ours(weight, hessian, grid, order, static_groups)
    monkeypatch.setattr(gptq, "PANEL_COLUMNS", 48)
    assert torch.equal(ours(weight, hessian, grid, order, static_groups).codes, whole.codes)


def test_act_order_is_the_textbook_on_reordered_columns():
    weight, hessian = problem(5)
    grid = QuantizationGrid(4, 8)
    order = hessian.diagonal().argsort(descending=True)
    rounded = ours(weight, hessian, grid, order)
    expected = textbook(weight[:, order], hessian[order][:, order], grid)
    assert torch.equal(rounded.codes[:, order].double(), expected)
    assert torch.equal(rounded.g_idx[order], torch.arange(40) // 8)


def test_static_groups_keep_the_columns_in_their_own_groups():
    weight, hessian = problem(6)
    grid = QuantizationGrid(4, 8, scale_dtype=torch.float64)
    order = hessian.diagonal().argsort(descending=True)
    rounded = ours(weight, hessian, grid, order, static_groups=True)
    scales, zeros = grid.fit_groups(weight)
    assert rounded.g_idx is None
    assert torch.equal(rounded.scales, scales)
    back = grid.decode(rounded.codes.double(), grid.spread(scales, 40), grid.spread(zeros, 40))
    nearest = grid.encode(weight, grid.spread(scales, 40), grid.spread(zeros, 40))
    plain = grid.decode(nearest, grid.spread(scales, 40), grid.spread(zeros, 40))
    assert weighted_norm(back - weight, hessian) < weighted_norm(plain - weight, hessian)


@given(
    seed=st.integers(0, 2**16),
    bits=st.integers(2, 8),
    group_size=st.sampled_from([-1, 8, 16]),
    sym=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_with_a_diagonal_hessian_gptq_is_round_to_nearest(seed, bits, group_size, sym):
    weight, hessian = problem(seed, dtype=torch.float32)
    grid = QuantizationGrid(bits, group_size, sym)
    rounded = ours(weight, hessian.diagonal().diag(), grid)
    codes, scales, zeros = grid.round_weight(weight)
    assert torch.equal(rounded.codes, codes)
    assert torch.equal(rounded.scales, scales)
    assert torch.equal(rounded.zeros, zeros)


@given(seed=st.integers(0, 2**16))
@settings(max_examples=20, deadline=None)
def test_squared_errors_of_the_loop_are_the_damped_objective(seed):
    """sum e^2 = tr(E (H + damp) E^T): the identity that makes GPTQ greedy in that norm."""
    weight, hessian = problem(seed)
    damped = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(40).double()
    grid = QuantizationGrid(3, -1, scale_dtype=torch.float64)
    upper = invert_upper(upper_factor(hessian, 0.01, "test").upper)
    scale, zero = grid.fit(weight)
    codes, errors = quantize_block(weight.t().clone(), upper, scale, zero, grid.max_code)
    left = weight - grid.decode(codes.t().double(), scale[:, None], zero[:, None])
    assert errors.square().sum().item() == pytest.approx(weighted_norm(left, damped).item())


def test_the_model_is_quantized_and_better_than_rounding(make_model, tokens):
    rounded = make_model()
    rtn.quantize(rounded, bits=3, group_size=32)
    model, reference = make_model(), make_model()
    result = gptq.quantize(model, tokens, bits=3, group_size=32)
    with torch.no_grad():
        goal = reference(input_ids=tokens).logits
        ours_off = (model(input_ids=tokens).logits - goal).square().mean()
        rtn_off = (rounded(input_ids=tokens).logits - goal).square().mean()
    assert ours_off < 0.8 * rtn_off
    names = [layer.name for layer in result.layers]
    assert names == list(quantized_linears(model))
    assert len(names) == 14
    assert all(0 < layer.relative_error < 0.2 for layer in result.layers)
    assert all((layer.damp, layer.retries) == (0.01, 0) for layer in result.layers)
    assert result.size_after_bytes < result.size_before_bytes
    assert {"forward", "statistics", "factor", "loop"} <= set(result.stage_seconds)


@pytest.mark.parametrize("family", ["mistral", "qwen2", "qwen3", "opt"])
def test_every_family_is_quantized_well(family, make_model, tokens):
    model, reference = make_model(family), make_model(family)
    result = gptq.quantize(model, tokens, bits=8, group_size=-1)
    assert {layer.name for layer in result.layers} == set(quantized_linears(model))
    with torch.no_grad():
        goal, got = reference(input_ids=tokens).logits, model(input_ids=tokens).logits
    assert (got - goal).norm() < 0.03 * goal.norm()


def test_given_tensors_are_never_written(make_model, tokens):
    model = make_model("opt")
    given = {name: (p, p._version, p.clone()) for name, p in model.named_parameters()}
    gptq.quantize(model, tokens, group_size=32, desc_act=True)
    for parameter, version, copy in given.values():
        assert parameter._version == version
        assert torch.equal(parameter, copy)


def test_equal_inputs_give_equal_weights_and_other_data_other_ones(make_model, tokens):
    digests = [
        gptq.quantize(make_model(), batch, bits=3, group_size=32).weights_sha256
        for batch in (tokens, tokens, tokens.flip(0, 1))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_micro_batches_change_only_rounding(make_model, tokens):
    whole = gptq.quantize(make_model(), tokens)
    parts = gptq.quantize(make_model(), tokens, memory=WorkingMemory(tokens_per_step=3 * 48))
    for one, other in zip(whole.layers, parts.layers, strict=True):
        assert other.error == pytest.approx(one.error, rel=0.02)


def test_global_random_state_is_left_alone(make_model, tokens):
    model = make_model()
    before = torch.get_rng_state()
    gptq.quantize(model, tokens, hessian_permutation_seed=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_true_sequential_calibrates_on_quantized_predecessors(make_model, tokens):
    plain = gptq.quantize(make_model(), tokens, bits=2, group_size=32).layers
    model = make_model()
    sequential = gptq.quantize(model, tokens, bits=2, group_size=32, true_sequential=True).layers
    assert [a.name for a in plain] == [b.name for b in sequential]
    # q, k and v come first in a block, so nothing before them changes; everything later does.
    assert [a.error == b.error for a, b in zip(plain[:7], sequential[:7], strict=True)] == [
        True,
        True,
        True,
        False,
        False,
        False,
        False,
    ]


def test_a_shuffled_hessian_does_worse_and_depends_on_its_seed(make_model, tokens):
    def run(seed):
        return gptq.quantize(
            make_model(), tokens, bits=3, group_size=32, hessian_permutation_seed=seed
        )

    plain, control = run(None), run(1)
    assert control.weights_sha256 == run(1).weights_sha256 != run(2).weights_sha256
    worse = [c.error > p.error for p, c in zip(plain.layers, control.layers, strict=True)]
    assert sum(worse) >= 12


@pytest.mark.parametrize(
    "options",
    [
        {"desc_act": True},
        {"desc_act": True, "static_groups": True},
        {"static_groups": True},
        {"mse": True},
        {"sym": False},
        {"group_size": -1},
        {"hessian_dtype": torch.float64},
    ],
    ids=str,
)
def test_every_option_stays_near_the_original(options, make_model, tokens):
    model = make_model()
    result = gptq.quantize(model, tokens, **({"bits": 4, "group_size": 32} | options))
    assert max(layer.relative_error for layer in result.layers) < 0.05


def test_dead_inputs_cost_nothing(make_model, tokens):
    model = make_model("opt", activation_function="relu")
    block = model.model.decoder.layers[0]
    with torch.no_grad():
        block.fc1.weight[5] = 0
        block.fc1.bias[5] = -1
    result = gptq.quantize(model, tokens, group_size=32)
    assert all(torch.isfinite(torch.tensor(layer.error)) for layer in result.layers)
    assert (block.fc2.dequantize()[:, 5] == 0).all()


def test_overflowing_activations_are_an_error_that_names_the_layer(make_model, tokens):
    model = make_model()
    model.model.layers[1].input_layernorm.weight = torch.nn.Parameter(
        torch.full((128,), float("inf"))
    )
    with pytest.raises(BenchsuiteError, match=r"model\.layers\.1\.qkv"):
        gptq.quantize(model, tokens)


def test_a_quantized_model_cannot_be_quantized_again(make_model, tokens):
    model = make_model()
    gptq.quantize(model, tokens)
    with pytest.raises(UsageError, match="freshly leased"):
        gptq.quantize(model, tokens)


def test_the_fused_kernel_is_refused_where_it_cannot_run(make_model, tokens):
    with pytest.raises(UsageError, match="Triton kernel needs float32 on CUDA"):
        gptq.quantize(make_model(), tokens, block_kernel="triton")
