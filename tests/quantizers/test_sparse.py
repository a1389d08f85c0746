"""2:4 sparsity: the pattern, Wanda and SparseGPT against their formulas, what is saved."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from benchsuite.engines import serving
from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.quantizers import checkpoint, sparsegpt, wanda
from benchsuite.quantizers.formats.sparse import SparseLinear, kept, places_of
from benchsuite.quantizers.linear import model_digest, quantized_linears, stored_bytes
from benchsuite.quantizers.walking.energy import Energy
from benchsuite.quantizers.walking.hessian import invert_upper, upper_factor, weighted_norm
from benchsuite.studies.quantizers import report

METHODS = {"wanda": wanda, "sparsegpt": sparsegpt}


def drawn(seed, rows=6, columns=24, tokens=200):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return normal(rows, columns), normal(tokens, columns) @ normal(columns, columns)


def by_wanda(weight, inputs):
    """The formula, one row and one four at a time."""
    pruned = weight.clone()
    for row in pruned:
        for start in range(0, len(row), 4):
            scores = [
                abs(row[j].item()) * inputs[:, j].norm().item() for j in range(start, start + 4)
            ]
            for place in sorted(range(4), key=scores.__getitem__)[:2]:
                row[start + place] = 0
    return pruned


def by_sparsegpt(weight, hessian, damp=0.01):
    """The optimal brain surgeon in column order: the Hessian of what remains inverted each time."""
    w, n = weight.clone(), weight.shape[1]
    h = hessian + damp * hessian.diagonal().mean() * torch.eye(n, dtype=w.dtype)
    pruned = torch.zeros_like(w)
    for i in range(n):
        if i % 4 == 0:
            costs = [w[:, j] ** 2 / torch.linalg.inv(h[j:, j:])[0, 0] for j in range(i, i + 4)]
            gone = torch.stack(costs, 1).argsort(1)[:, :2] + i
            mask = torch.ones_like(w, dtype=torch.bool).scatter_(1, gone, False)
        pruned[:, i] = w[:, i] * mask[:, i]
        inverse = torch.linalg.inv(h[i:, i:])
        w[:, i:] -= ((w[:, i] - pruned[:, i]) / inverse[0, 0])[:, None] * inverse[0]
    return pruned


def ours(weight, hessian):
    upper = invert_upper(upper_factor(hessian, 0.01, "test").upper)
    return sparsegpt.prune(weight.t().clone(), upper)[0].t()


@given(seed=st.integers(0, 2**16))
@settings(max_examples=10, deadline=None)
def test_both_equal_their_formulas(seed):
    weight, inputs = drawn(seed)
    mask = wanda.prune(weight, inputs.square().sum(0))
    assert torch.equal(weight * mask, by_wanda(weight, inputs))
    hessian = 2 * inputs.T @ inputs / len(inputs)
    found, expected = ours(weight, hessian), by_sparsegpt(weight, hessian)
    assert torch.equal(found == 0, expected == 0)
    torch.testing.assert_close(found, expected)
    errors = [weighted_norm(weight - w, hessian) for w in (found, weight * mask)]
    assert errors[0] < errors[1]


def test_blocks_of_columns_change_nothing():
    weight, inputs = drawn(1, rows=3, columns=140, tokens=500)
    hessian = 2 * inputs.T @ inputs / len(inputs)
    torch.testing.assert_close(ours(weight, hessian), by_sparsegpt(weight, hessian))


@given(seed=st.integers(0, 2**16), levels=st.integers(1, 5), dim=st.sampled_from([0, 1]))
@settings(max_examples=20, deadline=None)
def test_two_of_every_four_are_kept_and_none_lower_than_one_that_is_not(seed, levels, dim):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, levels, (12, 8), generator=generator).float()
    mask = kept(scores, dim)
    fours = mask.unflatten(dim, (-1, 4))
    assert (fours.sum(dim + 1) == 2).all()
    split = scores.unflatten(dim, (-1, 4))
    lowest = split.masked_fill(~fours, torch.inf).amin(dim + 1)
    highest = split.masked_fill(fours, -torch.inf).amax(dim + 1)
    assert (lowest >= highest).all()


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_every_order_of_four_is_kept_as_a_stable_sort_keeps_it(dim):
    """All 625 fours of 0, 1, 2, infinity and NaN, each with its places."""
    values = torch.tensor([0.0, 1.0, 2.0, torch.inf, torch.nan])
    every = torch.cartesian_prod(*[values] * 4)
    # Infinity and NaN count as equals here, which a sort does not take them for.
    order = every.nan_to_num(torch.inf, torch.inf).argsort(dim=1, descending=True, stable=True)
    expected = torch.zeros_like(every, dtype=torch.bool).scatter_(1, order[:, :2], True)
    places = order[:, :2].sort(1).values

    if dim == 0:
        assert torch.equal(kept(every.t().contiguous(), 0).t(), expected)
    else:
        assert torch.equal(kept(every, dim), expected)
    assert torch.equal(places_of(expected), places.to(torch.uint8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_holds_the_weight_in_nine_sixteenths(dtype):
    weight, inputs = (each.to(dtype) for each in drawn(2, columns=32))
    mask = wanda.prune(weight, inputs.float().square().sum(0))
    layer = SparseLinear(weight, mask, bias=torch.ones(6, dtype=dtype))
    assert torch.equal(layer.dequantize(), weight * mask)
    assert layer.packed_bytes * 8 / weight.numel() == 4 * dtype.itemsize + 1
    expected = torch.nn.functional.linear(inputs, weight * mask, layer.bias)
    for kernel in ("dequantize", "held"):
        assert torch.equal(layer.use(kernel)(inputs), expected)
    same = SparseLinear(weight, mask)
    assert same.digest == layer.digest
    assert SparseLinear(weight, ~mask).digest != layer.digest
    assert same.to(torch.float16).dequantize().dtype == torch.float16
    with pytest.raises(UsageError, match="no kernel 'triton'"):
        layer.use("triton")


@pytest.mark.parametrize("name", METHODS)
def test_a_pruned_model_is_saved_as_any_model_is(name, make_model, tokens, tmp_path):
    model = make_model("opt", dtype=torch.bfloat16)
    before = stored_bytes(model)
    given = {key: (p, p._version) for key, p in model.named_parameters()}
    result = METHODS[name].quantize(model, tokens)
    assert all(p._version == version for p, version in given.values())
    layers = quantized_linears(model)
    assert len(layers) == len(result.layers) == 12
    for layer in layers.values():
        fours = (layer.dequantize() != 0).unflatten(1, (-1, 4)).sum(2)
        assert fours.max() == 2
        assert (fours == 2).double().mean() > 0.99
    weights = sum(layer.in_features * layer.out_features for layer in layers.values())
    assert result.size_after_bytes == before - weights * 7 / 8
    widths = {"compressed_bits": 9.0, "dense_bits": 16.0}
    assert all(line.details == widths for line in result.layers)
    assert checkpoint.format_for(layers) == "dense"
    assert serving.write(model, tmp_path) == ""
    read = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    assert not (tmp_path / "quantize_config.json").exists()
    assert stored_bytes(read) == before
    with torch.no_grad():
        found, expected = (m(input_ids=tokens).logits for m in (read, model))
    assert torch.equal(found, expected)
    again = checkpoint.load(tmp_path)
    assert model_digest(again) == result.weights_sha256
    with torch.no_grad():
        assert torch.equal(again(input_ids=tokens).logits, expected)
    with pytest.raises(UsageError, match="hold weights only"):
        checkpoint.save(model, tmp_path / "packed", format="gptq")


def test_a_layer_of_zeros_is_read_back(make_model, tokens, tmp_path):
    """Of a model whose added blocks begin as no change, as in depth up-scaling."""
    model = make_model()
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.zero_()
    result = wanda.quantize(model, tokens)
    checkpoint.save(model, tmp_path)
    assert model_digest(checkpoint.load(tmp_path)) == result.weights_sha256


def test_an_ordinary_model_is_told_from_a_pruned_one(make_model, tmp_path):
    make_model().save_pretrained(tmp_path)
    told = r"nor is it 2:4 sparse: model\.layers\.0\S+ more than two of four .* with --local"
    with pytest.raises(BenchsuiteError, match=told):
        checkpoint.load(tmp_path)


def test_zeros_among_the_kept_weights_do_not_change_the_digest():
    weight = torch.tensor([[0.5, 0.0, -0.0, 0.25, 0.0, 0.0, 0.0, 2.0]])
    masks = torch.tensor([[1, 0, 0, 1, 0, 0, 1, 1], [1, 0, 0, 1, 1, 0, 0, 1]]).bool()
    one, other = (SparseLinear(weight, mask[None]) for mask in masks)
    assert one.digest == other.digest
    assert torch.equal(one.dequantize(), weight)


def test_errors_are_the_pruned_weights_and_fall_by_compensation(make_model, tokens):
    model, other = make_model(), make_model()
    with torch.no_grad():
        goal = make_model()(input_ids=tokens).logits
        lines = sparsegpt.quantize(model, tokens).layers
        wanda.quantize(other, tokens)
        errors = [(m(input_ids=tokens).logits - goal).norm() for m in (model, other)]
    assert errors[0] < errors[1]
    assert all(0 < line.relative_error < 0.5 for line in lines)


def test_wanda_prunes_a_model_by_the_inputs_that_its_layers_have(make_model, tokens):
    model, inputs = make_model(), []
    with torch.no_grad():
        query = model.model.layers[0].self_attn.q_proj
        handle = query.register_forward_hook(lambda _, given, __: inputs.append(given[0]))
        model(input_ids=tokens)
        handle.remove()
        expected = by_wanda(query.weight.double(), inputs[0].flatten(0, 1).double())
        wanda.quantize(model, tokens)
    found = model.model.layers[0].self_attn.q_proj.dequantize(torch.float64)
    assert torch.equal(found, expected)


def test_wanda_refuses_inputs_whose_squares_overflow(make_model, tokens):
    model = make_model()
    model.model.layers[0].input_layernorm.weight.data.fill_(1e25)
    with pytest.raises(BenchsuiteError, match=r"layers\.0\.q"):
        wanda.quantize(model, tokens)


@pytest.mark.parametrize("name", METHODS)
def test_a_width_that_is_no_multiple_of_four_is_refused_naming_the_layer(name, make_model, tokens):
    model = make_model(intermediate_size=70)
    with pytest.raises(UsageError, match=r"has 70.*layers\.0\.mlp\.down_proj"):
        METHODS[name].quantize(model, tokens)


def test_pruned_models_are_a_kind_of_their_own():
    kinds = {report.kind(name) for name in ("wanda_2of4", "sparsegpt_2of4")}
    assert kinds == {"2:4 sparse"}
    assert report.kind("gptq_w4") not in kinds


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_energy_is_summed_and_the_inputs_stay_as_they_are(dtype):
    """In float32 a conversion is no copy: squares once went on into the model."""
    _, inputs = drawn(5)
    inputs = inputs.to(dtype)
    kept, energy = inputs.clone(), Energy(inputs.shape[1], inputs.device)
    energy.update(inputs)
    energy.update(inputs)
    assert torch.equal(inputs, kept)
    assert torch.allclose(energy.total.double(), 2 * kept.double().square().sum(0), rtol=1e-5)
