"""AdaRound against autograd, brute force and the paper's mini-batches, and on whole models."""

import itertools
from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchsuite.errors import UsageError
from benchsuite.quantizers import adaround
from benchsuite.quantizers.adaround import Schedule
from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.linear import quantized_linear, quantized_linears
from benchsuite.quantizers.walking.hessian import error_norms, weighted_norm
from benchsuite.quantizers.walking.walk import turn


def problem(seed, rows=16, columns=32, bits=4, n=400):
    """A layer: weight, its inputs, their H, and the grid's scale and zero for every weight."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator)
    mixing = torch.randn(columns, columns, generator=generator)
    inputs = torch.randn(n, columns, generator=generator) @ mixing / columns**0.5
    grid = QuantizationGrid(bits, -1)
    scale, zero = (grid.spread(p, columns) for p in grid.fit_groups(weight))
    return weight, inputs, 2 * inputs.T @ inputs / n, scale, zero, grid


def soft(v):
    return (1.2 * torch.sigmoid(v) - 0.1).clamp(0, 1)


def loss(v, weight, inputs, scale, zero, max_code, b):
    """The paper's loss, spelled out."""
    level = (torch.floor(weight / scale) + soft(v)).clamp(-zero, max_code - zero)
    off = (inputs @ (scale * level - weight).T).square().sum(1).mean()
    if b is None:
        return off
    return off + 0.01 * (1 - (2 * soft(v) - 1).abs().pow(b)).sum()


@pytest.mark.parametrize("b", [None, 20.0, 2.0])
def test_gradient_is_autograd_s(b):
    weight, inputs, hessian, scale, zero, grid = problem(1)
    generator = torch.Generator().manual_seed(2)
    v = 3 * torch.randn(weight.shape, generator=generator)
    low = torch.floor(weight / scale)
    free = (low >= -zero) & (low < grid.max_code - zero)
    assert free.float().mean() > 0.9
    wanted = v.clone().requires_grad_()
    loss(wanted, weight, inputs, scale, zero, grid.max_code, b).backward()
    pull = b and tuple(v.new_tensor([n]) for n in (b - 1, 0.01 * b * 2.0**b))
    got = adaround.gradient(v, low * scale - weight, scale * free, hessian, pull)
    torch.testing.assert_close(got[free], wanted.grad[free], rtol=1e-3, atol=1e-5)


@given(st.floats(0, 0.999))
def test_it_starts_at_the_fraction(fraction):
    v = adaround.start_at(torch.tensor([fraction], dtype=torch.float64))
    assert soft(v).item() == pytest.approx(fraction, abs=1e-9)


def test_schedule_is_the_paper_s():
    plan = Schedule()
    assert plan.step == pytest.approx(1e-3)
    assert plan.b(2999) is None
    assert plan.b(3000) == pytest.approx(20)
    assert plan.b(9000) == pytest.approx(11)
    assert plan.b(14999) == pytest.approx(2, abs=1e-3)
    assert Schedule(iterations=300).step == pytest.approx(0.05)
    assert Schedule(learning_rate=0.01).step == 0.01


@given(seed=st.integers(0, 2**16), bits=st.sampled_from([2, 4, 8]))
@settings(max_examples=15, deadline=None)
def test_each_weight_goes_to_a_neighbour_inside_the_grid(seed, bits):
    weight, _, hessian, scale, zero, grid = problem(seed, bits=bits)
    codes = learned(weight, hessian, scale, zero, grid.max_code, Schedule(20))
    assert ((codes >= 0) & (codes <= grid.max_code)).all()
    off = (codes - zero) - weight / scale
    # The largest weight of a symmetric grid lies up to half a step beyond its last code.
    assert (off.abs() <= 1.001).all()


def test_with_a_diagonal_hessian_the_nearest_codes_are_learned():
    weight, _, hessian, scale, zero, grid = problem(3)
    codes = learned(weight, hessian.diagonal().diag(), scale, zero, grid.max_code, Schedule(300))
    nearest = grid.encode(weight, scale, zero)
    halfway = ((weight / scale) % 1 - 0.5).abs() < 0.02
    assert torch.equal(codes[~halfway], nearest[~halfway])


@pytest.mark.parametrize("seed", range(3))
def test_it_comes_near_the_best_of_all_roundings(seed):
    weight, _, hessian, scale, zero, grid = problem(seed, rows=8, columns=10, bits=3)
    codes = learned(weight, hessian, scale, zero, grid.max_code, Schedule(500))
    ups = torch.tensor(list(itertools.product((0.0, 1.0), repeat=10)))
    sums = {"learned": 0.0, "nearest": 0.0, "best": 0.0}
    nearest = grid.encode(weight, scale, zero)
    for row in range(8):
        low = torch.floor(weight[row] / scale[row])
        every = (low + ups).clamp(-zero[row, 0], grid.max_code - zero[row, 0]) + zero[row]
        for name, tried in {"learned": codes[row], "nearest": nearest[row], "best": every}.items():
            off = grid.decode(tried, scale[row], zero[row]) - weight[row]
            sums[name] += ((off @ hessian) * off).sum(-1).min().item()
    # A local search in a problem with many optima: three quarters of the way or so.
    assert sums["learned"] < sums["best"] + 0.35 * (sums["nearest"] - sums["best"])


def test_all_samples_at_once_do_no_worse_than_the_paper_s_mini_batches():
    weight, inputs, hessian, scale, zero, grid = problem(5, rows=24, columns=48, n=1500)
    plan = Schedule(iterations=1000)
    ours = learned(weight, hessian, scale, zero, grid.max_code, plan)
    low = torch.floor(weight / scale)
    v = adaround.start_at(weight / scale - low).requires_grad_()
    adam = torch.optim.Adam([v], lr=plan.step)
    generator = torch.Generator().manual_seed(6)
    for iteration in range(plan.iterations):
        batch = inputs[torch.randint(0, len(inputs), (32,), generator=generator)]
        adam.zero_grad()
        loss(v, weight, batch, scale, zero, grid.max_code, plan.b(iteration)).backward()
        adam.step()
    theirs = (low + (v >= 0)).clamp(-zero, grid.max_code - zero) + zero
    errors = [
        weighted_norm(grid.decode(codes, scale, zero) - weight, hessian).item()
        for codes in (ours, theirs.detach(), grid.encode(weight, scale, zero))
    ]
    assert errors[0] < 1.02 * errors[1]
    assert errors[0] < 0.6 * errors[2]


def learned(*arguments):
    """What `adaround.learn` returns after all its turns."""
    turns, found = adaround.learn(*arguments), None
    while found is None:
        found = turn(turns)
    return found


class Compared(adaround.AdaRoundMethod):
    """AdaRound that also notes what round to nearest would do to each layer."""

    def __init__(self, *args):
        super().__init__(*args)
        self.nearest = {}

    def quantize(self, here, group, statistic):
        hessian = deepcopy(statistic).mean()
        for path, linear in here.linears(group).items():
            plain = quantized_linear(linear, self.grid, *self.grid.round_weight(linear.weight))
            error, _ = error_norms(linear.weight, plain.dequantize(torch.float32), hessian)
            self.nearest[f"{here.name}.{path}"] = error.item()
        return super().quantize(here, group, statistic)


@pytest.mark.parametrize("iterations", [1, 3, 60])
@pytest.mark.parametrize(("bits", "family"), [(4, "llama"), (8, "llama"), (3, "opt")])
def test_no_layer_is_worse_than_round_to_nearest(
    iterations, bits, family, make_model, tokens, monkeypatch
):
    made = []

    def method(*args):
        made.append(Compared(*args))
        return made[-1]

    monkeypatch.setattr(adaround, "AdaRoundMethod", method)
    result = adaround.quantize(
        make_model(family), tokens, bits=bits, group_size=32, iterations=iterations
    )
    for layer in result.layers:
        assert layer.error <= made[0].nearest[layer.name] * (1 + 1e-5)
    if iterations == 60:
        ratios = [layer.error / made[0].nearest[layer.name] for layer in result.layers]
        assert sum(ratios) / len(ratios) < 0.8


def test_rows_that_learned_worse_keep_the_nearest_rounding(make_model, tokens):
    # One huge step throws every weight to an arbitrary side.
    layers = adaround.quantize(
        make_model(), tokens, group_size=32, iterations=1, learning_rate=100.0
    ).layers
    kept = [layer.details["rows_kept_nearest"] for layer in layers]
    assert all(0 <= share <= 1 for share in kept)
    assert sum(kept) / len(kept) > 0.5
    better = adaround.quantize(make_model(), tokens, group_size=32, iterations=60).layers
    assert max(layer.details["rows_kept_nearest"] for layer in better) < 0.1


@pytest.mark.parametrize("sym", [True, False])
@pytest.mark.parametrize("family", ["mistral", "qwen2", "qwen3", "opt"])
def test_every_family_is_quantized_well(family, sym, make_model, tokens):
    model, reference = make_model(family), make_model(family)
    result = adaround.quantize(model, tokens, bits=8, group_size=-1, sym=sym, iterations=30)
    assert {layer.name for layer in result.layers} == set(quantized_linears(model))
    assert all(layer.relative_error < 1e-3 for layer in result.layers)
    with torch.no_grad():
        goal, got = reference(input_ids=tokens).logits, model(input_ids=tokens).logits
    assert (got - goal).norm() < 0.03 * goal.norm()


def test_given_tensors_are_never_written_and_the_result_is_reproducible(make_model, tokens):
    def run(batch, **options):
        return adaround.quantize(make_model("opt"), batch, group_size=32, iterations=20, **options)

    model = make_model("opt")
    given = {name: (p, p._version, p.clone()) for name, p in model.named_parameters()}
    before = torch.get_rng_state()
    result = adaround.quantize(model, tokens, group_size=32, iterations=20)
    assert torch.equal(torch.get_rng_state(), before)
    for parameter, version, copy in given.values():
        assert parameter._version == version
        assert parameter.grad is None
        assert torch.equal(parameter, copy)
    assert run(tokens).weights_sha256 == result.weights_sha256
    assert run(tokens.flip(0, 1)).weights_sha256 != result.weights_sha256
    assert run(tokens, regularisation=0.0).weights_sha256 != result.weights_sha256
    assert {"forward", "statistics", "learn", "compare"} <= set(result.stage_seconds)


def test_impossible_schedules_are_usage_errors(make_model, tokens):
    with pytest.raises(UsageError, match="at least one iteration"):
        adaround.quantize(make_model(), tokens, iterations=0)
    with pytest.raises(UsageError, match="regularisation"):
        adaround.quantize(make_model(), tokens, regularisation=-1.0)
