"""Mixed precision: costs of parts alone, the knapsack by brute force, and what is made of both."""

import itertools
import json
from fractions import Fraction

import numpy as np
import pytest
import torch

from benchsuite.errors import UsageError
from benchsuite.evaluation.divergence import divergence
from benchsuite.models.architecture import architecture_of
from benchsuite.quantizers import checkpoint, gptq, mixed, rtn
from benchsuite.quantizers.alone import kl_alone, kl_divergence
from benchsuite.quantizers.checkpoint import packed
from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.knapsack import cheapest
from benchsuite.quantizers.layers import replace
from benchsuite.quantizers.linear import model_digest, quantized_linears
from tests.quantizers.conftest import logits
from tests.quantizers.families import build as build_family

WIDTHS = mixed.WIDTHS


def mean_bits(model):
    """The mean width of the codes, as a fraction."""
    linears = quantized_linears(model).values()
    weights = sum(m.in_features * m.out_features for m in linears)
    return Fraction(sum(m.bits * m.in_features * m.out_features for m in linears), weights)


# --- the knapsack


@pytest.mark.parametrize("seed", range(40))
def test_the_knapsack_is_the_best_of_all_choices(seed):
    generator = np.random.default_rng(seed)
    n_items, n_options = generator.integers(1, 6), generator.integers(1, 5)
    sizes = generator.integers(0, 9, (n_items, n_options)).tolist()
    # Few different costs, so that some choices cost the same.
    costs = (generator.integers(0, 12, (n_items, n_options)) / 4).tolist()
    capacity = int(generator.integers(0, 9 * n_items))
    fitting = []
    for choice in itertools.product(range(n_options), repeat=n_items):
        size = sum(row[k] for row, k in zip(sizes, choice, strict=True))
        cost = sum(row[k] for row, k in zip(costs, choice, strict=True))
        if size <= capacity:
            fitting.append((cost, size))
    chosen = cheapest(sizes, costs, capacity)
    if not fitting:
        assert chosen is None
        return
    assert chosen is not None
    size = sum(row[k] for row, k in zip(sizes, chosen, strict=True))
    cost = sum(row[k] for row, k in zip(costs, chosen, strict=True))
    assert (cost, size) == min(fitting)


def test_more_room_never_costs_more_and_all_of_it_takes_the_cheapest():
    generator = np.random.default_rng(0)
    sizes = [[width * int(n) for width in WIDTHS] for n in generator.integers(1, 20, 60)]
    costs = [sorted(generator.random(5), reverse=True) for _ in sizes]

    def cost(capacity):
        chosen = cheapest(sizes, costs, capacity)
        return sum(row[k] for row, k in zip(costs, chosen, strict=True))

    rooms = range(sum(row[0] for row in sizes), sum(row[-1] for row in sizes) + 1, 501)
    found = [cost(room) for room in rooms]
    assert found == sorted(found, reverse=True)
    assert cost(10**9) == pytest.approx(sum(row[-1] for row in costs))


# --- costs


def test_kl_of_close_logits_keeps_its_digits():
    generator = torch.Generator().manual_seed(1)
    p = 3 * torch.randn(50, 300, generator=generator)
    for size in (1.0, 1e-2, 1e-3):
        q = p + size * torch.randn(50, 300, generator=generator)
        log_p, log_q = p.double().log_softmax(-1), q.double().log_softmax(-1)
        exact = (log_p.exp() * (log_p - log_q)).sum(-1)
        torch.testing.assert_close(kl_divergence(p, q).double(), exact, rtol=2e-3, atol=0)


@pytest.mark.parametrize("family", ["llama", "opt", "granite", "gemma2", "mixtral"])
def test_a_part_alone_costs_what_a_model_with_it_alone_costs(family, make_model, tokens):
    """Also where logits are capped or divided, and where what is replaced is an expert's."""
    build = make_model if family in ("llama", "opt") else build_family
    model, one = build(family), build(family)
    architecture = architecture_of(model)
    paths = [architecture.linears[0], architecture.linears[-1]]
    rtn.quantize(quantized := build(family), bits=3, group_size=32)
    theirs = quantized_linears(quantized)

    def replacements(index, block):
        name = architecture.block_name(index)
        yield index, {path: theirs[f"{name}.{path}"] for path in paths}

    before = list(model.modules())
    found = kl_alone(model, tokens, replacements)
    assert [id(m) for m in model.modules()] == [id(m) for m in before]
    architecture_of(one)
    for path in paths:
        name = f"{architecture.block_name(1)}.{path}"
        replace(one, name, theirs[name])
    goal = divergence(model, one, tokens.flatten(), seq_len=48).value
    assert found[1] == pytest.approx(goal, rel=1e-3)
    assert found[0] > 0


def test_units_are_linears_or_what_reads_one_input_and_experts_share_theirs(make_model):
    found = mixed.units(architecture_of(make_model()), "b", fused=True)
    assert list(found) == ["b.qkv", "b.o", "b.gate_up", "b.down"]
    assert [len(paths) for paths in found.values()] == [3, 1, 2, 1]
    apart = mixed.units(architecture_of(build_family("mixtral")), "b", fused=False)
    assert list(apart)[-1] == "b.mlp.experts.*.down_proj"
    assert len(apart["b.mlp.experts.*.gate_proj"]) == 4
    assert len(apart) == 7


# --- the method


def test_the_choice_is_the_best_of_all_and_no_larger_than_one_width(make_model, tokens):
    model = make_model(num_hidden_layers=1)
    result = mixed.quantize(model, tokens, bits=3, widths=(2, 3, 4), group_size=32)
    bits = {layer.name: int(layer.details["bits"]) for layer in result.layers}
    assert bits == {name: m.bits for name, m in quantized_linears(model).items()}
    fresh = make_model(num_hidden_layers=1)
    grids = [QuantizationGrid(width, 32) for width in (2, 3, 4)]
    costs = mixed.sensitivities(fresh, tokens, grids)
    weights = {name: fresh.get_submodule(name).weight.numel() for name in costs}
    best = min(
        sum(row[k] for row, k in zip(costs.values(), choice, strict=True))
        for choice in itertools.product(range(3), repeat=7)
        if sum((2 + k) * n for k, n in zip(choice, weights.values(), strict=True))
        <= 3 * sum(weights.values())
    )
    chosen = sum(costs[name][width - 2] for name, width in bits.items())
    assert chosen == pytest.approx(best, rel=1e-9)
    told = sum(layer.details["kl_alone"] for layer in result.layers)
    assert told == pytest.approx(best, rel=1e-9)
    assert len(set(bits.values())) > 1
    uniform = make_model(num_hidden_layers=1)
    assert (
        result.size_after_bytes
        <= gptq.quantize(uniform, tokens, bits=3, group_size=32).size_after_bytes
    )


@pytest.mark.parametrize(
    ("bits", "sizes"), [(2.3, (15, 34, 1)), (4.1, (3, 26, 1)), (4.6, (15, 9, 1))]
)
def test_a_mean_that_widths_meet_exactly_is_not_missed_by_a_rounding(bits, sizes):
    """In floating point 2.3 times 50 is 114.99999999999999: the first unit did not fit in."""
    low, weights = int(bits), dict(zip("abc", sizes, strict=True))
    costs = {"a": [9.0, 0.0], "b": [0.5, 0.0], "c": [0.2, 0.0]}
    assert mixed.choose(costs, weights, (low, low + 1), bits) == {"a": 1, "b": 0, "c": 0}


def test_costs_are_told_of_the_first_tokens_alone(make_model, tokens):
    model, other = (make_model(num_hidden_layers=1) for _ in range(2))
    few = {"widths": (3,), "bits": 3, "group_size": 32, "sensitivity_tokens": tokens.shape[1] + 1}
    found = {
        each.name: each.details["kl_alone"] for each in mixed.quantize(model, tokens, **few).layers
    }
    expected = mixed.sensitivities(other, tokens[:1], [QuantizationGrid(3, 32)])
    assert found == pytest.approx({name: cost for name, (cost,) in expected.items()}, rel=1e-6)


@pytest.mark.parametrize("family", ["llama", pytest.param("opt", marks=pytest.mark.stress)])
def test_of_one_width_it_is_gptq(family, make_model, tokens):
    model, reference = make_model(family), make_model(family)
    result = mixed.quantize(model, tokens, bits=4.5, widths=(4,), group_size=32)
    expected = gptq.quantize(reference, tokens, bits=4, group_size=32)
    assert result.weights_sha256 == expected.weights_sha256
    for ours, theirs in zip(result.layers, expected.layers, strict=True):
        assert ours.error == pytest.approx(theirs.error, rel=1e-6)


@pytest.mark.parametrize(
    ("bits", "fused"), [(3.3, True), pytest.param(3.3, False, marks=pytest.mark.stress)]
)
def test_the_mean_is_kept_and_layers_of_one_unit_have_one_width(bits, fused, make_model, tokens):
    model = make_model("qwen3")
    mixed.quantize(model, tokens, bits=bits, group_size=32, fused=fused)
    assert mean_bits(model) <= Fraction(str(bits))
    assert mean_bits(model) > Fraction(str(bits)) - Fraction(1, 3)
    for block in model.model.layers:
        attention = block.self_attn
        alike = {m.bits for m in (attention.q_proj, attention.k_proj, attention.v_proj)}
        assert not fused or len(alike) == 1


def test_experts_of_a_mixture_share_a_width_by_projection(tokens):
    model = build_family("mixtral", num_hidden_layers=1)
    result = mixed.quantize(model, tokens, bits=3, widths=(2, 3, 4), group_size=32)
    for block in model.model.layers:
        for projection in ("gate_proj", "up_proj", "down_proj"):
            experts = [getattr(expert, projection) for expert in block.mlp.experts]
            assert len({expert.bits for expert in experts}) == 1
    assert mean_bits(model) <= 3
    assert all({"bits", "kl_alone"} <= set(layer.details) for layer in result.layers)


def test_what_costs_most_gets_most(make_model, tokens):
    """A value projection that everything hangs on is wider than the mean."""
    model = make_model(num_hidden_layers=1)
    block = model.model.layers[0]
    block.self_attn.o_proj.weight.data *= 30
    mixed.quantize(model, tokens, bits=3, group_size=32)
    bits = {name: m.bits for name, m in quantized_linears(model).items()}
    assert min(bits["model.layers.0.self_attn.v_proj"], bits["model.layers.0.self_attn.o_proj"]) > 3
    assert bits["model.layers.0.self_attn.q_proj"] <= 3


@pytest.mark.parametrize("bits", [3, pytest.param(4, marks=pytest.mark.stress)])
def test_a_mixed_model_is_saved_whole_and_read_by_transformers(bits, make_model, tokens, tmp_path):
    pytest.importorskip("compressed_tensors")
    from transformers import AutoModelForCausalLM

    model = make_model(num_hidden_layers=1)
    result = mixed.quantize(model, tokens, bits=bits, group_size=32)
    widths = {m.bits for m in quantized_linears(model).values()}
    assert len(widths) > 1
    checkpoint.save(model, tmp_path / "own")
    back = checkpoint.load(tmp_path / "own")
    assert model_digest(back) == result.weights_sha256
    assert torch.equal(logits(back, tokens[:2]), logits(model, tokens[:2]))
    config = json.loads((tmp_path / "own" / "config.json").read_text())["quantization_config"]
    assert config["quant_method"] == ("compressed-tensors" if 6 in widths else "gptq")
    checkpoint.save(model, tmp_path / "packed", format=packed.FORMAT)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "packed", dtype=torch.float32)
    torch.testing.assert_close(
        logits(theirs, tokens[:2]), logits(model, tokens[:2]), rtol=0, atol=1e-6
    )


def test_equal_inputs_give_equal_models_and_the_original_s_tensors_stay(make_model, tokens):
    model = make_model()
    given = [(p, p.clone()) for p in model.parameters()]
    options = {"bits": 3, "widths": (2, 3, 4), "group_size": 32, "fused": True}
    first = mixed.quantize(model, tokens, **options)
    assert all(torch.equal(parameter, before) for parameter, before in given)
    again = mixed.quantize(make_model(), tokens, **options)
    assert first.weights_sha256 == again.weights_sha256
    assert "sensitivity" in first.stage_seconds


def test_a_mean_below_the_narrowest_and_a_quantized_model_are_refused(make_model, tokens):
    with pytest.raises(UsageError, match=r"a mean of 1\.5 bits is below the narrowest width, 2"):
        mixed.quantize(make_model(), tokens, bits=1.5)
    with pytest.raises(UsageError, match=r"rows of one token hold none .* longer"):
        mixed.quantize(make_model(), tokens[:, :1])
    model = make_model()
    rtn.quantize(model, group_size=32)
    with pytest.raises(UsageError, match="freshly leased"):
        mixed.quantize(model, tokens)
