"""SmoothQuant: smoothing changes nothing, integers multiply exactly, llm-compressor agrees."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from benchsuite.embedded import models as embedded
from benchsuite.errors import UsageError
from benchsuite.evaluation.perplexity import perplexity
from benchsuite.models.architecture import ARCHITECTURES, architecture_of
from benchsuite.quantizers import apply, smoothquant
from benchsuite.quantizers.formats.activations import quantize_per_token
from benchsuite.quantizers.formats.int8 import Int8Linear, int8_matmul
from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.kernels import using_kernel
from benchsuite.quantizers.linear import quantized_linears
from benchsuite.study import study

FAMILIES = ["llama", "mistral", "qwen2", "qwen3", "opt"]


def embedded_model(name):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(embedded.path(name), dtype=torch.float32).eval()


def embedded_batch(n_samples=8, seq_len=128):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 2048, (n_samples, seq_len), generator=generator)


def with_outliers(model):
    """Make a few channels of every norm large, as trained models have them."""
    architecture = architecture_of(model)
    for block in architecture.block_list(model):
        for group in architecture.groups:
            norm = block.get_submodule(group.source)
            if not isinstance(norm, torch.nn.Linear):
                weight = norm.weight.detach().clone()
                weight[[3, 50]] = torch.tensor([40.0, 25.0])
                norm.weight = torch.nn.Parameter(weight)
    return model


def inputs_of(model, batch):
    """The inputs of every group that a norm feeds, [tokens, features], by block and group name."""
    architecture, seen, handles = architecture_of(model), {}, []
    for index, block in enumerate(architecture.block_list(model)):
        for group in architecture.groups:
            if isinstance(block.get_submodule(group.source), torch.nn.Linear):
                continue

            def hook(module, args, key=(index, group.name)):
                seen[key] = args[0].flatten(0, -2)

            linear = block.get_submodule(group.linears[0])
            handles.append(linear.register_forward_pre_hook(hook))
    with torch.no_grad():
        model(input_ids=batch)
    for handle in handles:
        handle.remove()
    return seen


@given(
    m=st.integers(1, 40), k=st.integers(1, 200), n=st.integers(1, 40), seed=st.integers(0, 2**16)
)
@settings(max_examples=40, deadline=None)
def test_the_integer_product_is_exact(m, k, n, seed):
    generator = torch.Generator().manual_seed(seed)
    left, right = (
        torch.randint(-128, 128, shape, generator=generator, dtype=torch.int8)
        for shape in ((m, k), (n, k))
    )
    result = int8_matmul(left, right)
    assert result.dtype == torch.int32
    assert torch.equal(result.long(), left.long() @ right.long().t())
    # The product in float64, for devices without an integer one, is the same.
    assert torch.equal(result, (left.double() @ right.double().t()).to(torch.int32))


def test_the_largest_sums_do_not_overflow_or_saturate():
    ones = torch.full((3, 14336), -128, dtype=torch.int8)
    assert (int8_matmul(ones, ones) == 14336 * 2**14).all()


def int8_layer(dtype=torch.float32, bias=True):
    generator = torch.Generator().manual_seed(1)
    linear = torch.nn.Linear(48, 24, bias=bias, dtype=dtype)
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return linear, smoothquant.int8_linear(linear)


@pytest.mark.parametrize("bias", [True, False])
def test_the_layer_is_the_product_of_both_roundings(bias):
    linear, layer = int8_layer(bias=bias)
    x = torch.randn(2, 5, 48, generator=torch.Generator().manual_seed(2))
    codes, scales = quantize_per_token(x)
    expected = F.linear(codes.double() * scales, layer.dequantize(torch.float64))
    expected = expected if linear.bias is None else expected + linear.bias
    torch.testing.assert_close(layer(x).double(), expected, rtol=1e-5, atol=1e-4)
    assert (layer(x) - linear(x)).norm() < 0.02 * linear(x).norm()
    with using_kernel(layer, "held"):
        assert torch.equal(layer(x), copy.deepcopy(layer)(x))
    with pytest.raises(UsageError, match="int4_cpu"):
        layer.use("int4_cpu")


def test_the_layer_stores_bytes_and_its_codes_are_the_grid_s():
    linear, layer = int8_layer(torch.bfloat16)
    assert layer.packed.dtype == torch.int8
    assert layer.packed_bytes == 24 * 48 + 24 * 2
    assert torch.equal(layer.codes.int() - 128, layer.packed.int())
    step = layer.scales.float()
    assert ((layer.dequantize(torch.float32) - linear.weight).abs() <= 0.52 * step).all()
    assert layer(torch.ones(2, 48).bfloat16()).dtype == torch.bfloat16
    assert layer.float().scales.dtype == torch.float16


def test_the_scale_is_the_paper_s():
    maximum = torch.tensor([8.0, 2.0, 0.0])
    weights = [torch.tensor([[1.0, -4.0, 1.0]]), torch.tensor([[-2.0, 1.0, 0.0]])]
    scale = smoothquant.smoothing_scale(maximum, weights, alpha=0.5)
    assert scale.tolist() == pytest.approx([2.0, 0.5**0.5, 1.0])
    scale = smoothquant.smoothing_scale(maximum, weights, alpha=0.85)
    assert scale[0].item() == pytest.approx(8**0.85 / 2**0.15)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_is_smoothed_by_the_formula_from_its_own_inputs(family, make_model, tokens):
    model, smoothed = with_outliers(make_model(family)), with_outliers(make_model(family))
    smoothquant.smooth(smoothed, tokens, 0.7)
    architecture = architecture_of(model)
    for (index, name), inputs in inputs_of(model, tokens).items():
        block = architecture.block_list(model)[index]
        other = architecture.block_list(smoothed)[index]
        group = next(g for g in architecture.groups if g.name == name)
        weights = torch.cat([block.get_submodule(p).weight for p in group.linears])
        scale = inputs.abs().amax(0) ** 0.7 / weights.abs().amax(0) ** 0.3
        norms = [b.get_submodule(group.source) for b in (block, other)]
        torch.testing.assert_close(norms[1].weight, norms[0].weight / scale, rtol=1e-4, atol=1e-6)
        new = torch.cat([other.get_submodule(p).weight for p in group.linears])
        torch.testing.assert_close(new, weights * scale, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("alpha", [0.5, 0.85])
def test_smoothed_logits_equal_the_original_s(family, alpha, make_model, tokens):
    model = with_outliers(make_model(family))
    with torch.no_grad():
        before = model(input_ids=tokens).logits
        smoothquant.smooth(model, tokens, alpha)
        after = model(input_ids=tokens).logits
    torch.testing.assert_close(after, before, rtol=0, atol=1e-4)
    # And the outliers are gone from what the linears read.
    largest = inputs_of(model, tokens)[0, "qkv"].abs().amax(0)
    assert largest[3] < 10 * largest.median()


@pytest.mark.parametrize("name", ["tiny_llama_1m", "tiny_mistral_1m", "tiny_qwen_1m"])
def test_smoothed_embedded_models_equal_the_originals(name):
    model, batch = embedded_model(name), embedded_batch()
    with torch.no_grad():
        before = model(input_ids=batch).logits
        smoothquant.smooth(model, batch, 0.85)
        torch.testing.assert_close(model(input_ids=batch).logits, before, rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_linear_becomes_an_integer_layer_near_the_original(family, make_model, tokens):
    model, reference = make_model(family), make_model(family)
    seen = []
    result = smoothquant.quantize(model, tokens, progress=lambda *args: seen.append(args))
    names = [name for name, _ in architecture_of(model).named_linears(model)]
    assert [layer.name for layer in result.layers] == names
    assert all(isinstance(m, Int8Linear) for m in quantized_linears(model).values())
    assert set(quantized_linears(model)) == set(names)
    assert result.size_after_bytes < 0.5 * result.size_before_bytes
    assert seen == [("quantize", 0, 2), ("quantize", 1, 2), ("quantize", 2, 2)]
    with torch.no_grad():
        goal, got = reference(input_ids=tokens).logits, model(input_ids=tokens).logits
    assert (got - goal).norm() < 0.05 * goal.norm()


def test_smoothing_helps_where_there_are_outliers(make_model, tokens):
    def error(alpha):
        model, reference = with_outliers(make_model()), with_outliers(make_model())
        smoothquant.quantize(model, tokens, alpha=alpha)
        with torch.no_grad():
            return (model(input_ids=tokens).logits - reference(input_ids=tokens).logits).norm()

    assert error(0.5) < 0.7 * error(0.0)


def test_the_strength_follows_the_family(make_model):
    assert smoothquant.default_alpha(make_model("opt")) == 0.5
    assert smoothquant.default_alpha(make_model("llama")) == 0.85
    assert smoothquant.default_alpha(make_model("opt", do_layer_norm_before=False)) == 0.5
    assert smoothquant.default_alpha(make_model("mistral")) == 0.8
    narrow = {"hidden_size": 16, "intermediate_size": 16, "vocab_size": 16}
    assert smoothquant.default_alpha(make_model("llama", num_hidden_layers=80, **narrow)) == 0.9


@pytest.mark.parametrize("size", [0.0, 1e-7])
def test_a_silent_channel_leaves_the_norm_finite(make_model, tokens, size):
    """In float16: a norm's weight of 1 over the least scale of 1e-5 would be infinite there."""
    model = make_model(dtype=torch.float16)
    norm = model.model.layers[0].input_layernorm
    norm.weight = nn.Parameter(norm.weight.detach().index_fill(0, torch.tensor([3, 5]), size))
    with torch.no_grad():
        expected = model(input_ids=tokens).logits
    smoothquant.smooth(model, tokens, 0.5)
    assert torch.isfinite(norm.weight).all()
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=tokens).logits, expected, rtol=0.02, atol=0.02)


def test_a_norm_much_larger_than_its_output_stays_finite(make_model):
    block = make_model(dtype=torch.float16).model.layers[0]
    group = next(g for g in ARCHITECTURES["llama"].groups if g.name == "qkv")
    smoothquant.smooth_group(block, group, torch.full((128,), 1e-9), 1.0)
    assert torch.isfinite(block.input_layernorm.weight).all()


def test_a_model_that_normalises_after_the_addition_is_not_smoothed(make_model, tokens):
    model = make_model("opt", do_layer_norm_before=False)
    norm = model.model.decoder.layers[0].self_attn_layer_norm.weight
    smoothquant.quantize(model, tokens)
    assert model.model.decoder.layers[0].self_attn_layer_norm.weight is norm
    assert len(quantized_linears(model)) == 12


def test_given_tensors_are_never_written_and_equal_inputs_give_equal_weights(make_model, tokens):
    model = make_model("opt")
    given_tensors = [(p, p._version, p.clone()) for p in model.parameters()]
    state = torch.get_rng_state()
    first = smoothquant.quantize(model, tokens).weights_sha256
    assert torch.equal(torch.get_rng_state(), state)
    for parameter, version, before in given_tensors:
        assert parameter._version == version
        assert torch.equal(parameter, before)
    assert smoothquant.quantize(make_model("opt"), tokens).weights_sha256 == first
    assert smoothquant.quantize(make_model("opt"), tokens, alpha=0.6).weights_sha256 != first
    assert all(not m._forward_pre_hooks for m in model.modules())


@pytest.fixture(scope="module")
def llm_compressor():
    """(original, llm-compressor's W8A8 model, batch), on an embedded model."""
    pytest.importorskip("llmcompressor")
    from datasets import Dataset
    from llmcompressor import oneshot
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier
    from transformers import AutoTokenizer

    original, batch = embedded_model("tiny_llama_1m"), embedded_batch()
    theirs = copy.deepcopy(original)
    data = {"input_ids": batch.tolist(), "attention_mask": torch.ones_like(batch).tolist()}
    oneshot(
        model=theirs,
        dataset=Dataset.from_dict(data),
        recipe=[
            SmoothQuantModifier(smoothing_strength=0.85),
            QuantizationModifier(targets="Linear", scheme="W8A8", ignore=["lm_head"]),
        ],
        num_calibration_samples=len(batch),
        max_seq_length=batch.shape[1],
        processor=AutoTokenizer.from_pretrained(embedded.path("tiny_llama_1m")),
    )
    return original, theirs.eval(), batch


def test_perplexity_is_llm_compressor_s(llm_compressor):
    original, theirs, batch = llm_compressor
    ours = copy.deepcopy(original)
    smoothquant.quantize(ours, batch)
    ids = embedded_batch(32).flatten()
    values = [perplexity(model, ids, seq_len=128).value for model in (ours, theirs)]
    assert values[0] == pytest.approx(values[1], rel=0.005)


def test_from_llm_compressor_s_statistic_come_its_weights_and_its_errors(llm_compressor):
    original, theirs, batch = llm_compressor
    smoothed = copy.deepcopy(original)
    architecture = architecture_of(smoothed)
    for (index, name), inputs in inputs_of(original, batch).items():
        # It takes max - min in place of max|X|, and 2 max|W|: a factor that all channels share.
        statistic = (inputs.amax(0) - inputs.amin(0)) * 0.5 ** (0.15 / 0.85)
        block = architecture.block_list(smoothed)[index]
        group = next(g for g in architecture.groups if g.name == name)
        smoothquant.smooth_group(block, group, statistic, 0.85)
    seen, ratios = {}, []
    for name, linear in architecture.named_linears(smoothed):
        linear.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0]}))
    with torch.no_grad():
        smoothed(input_ids=batch)
        for name, linear in architecture.named_linears(smoothed):
            other, inputs = theirs.get_submodule(name), seen[name]
            torch.testing.assert_close(other.weight.data, linear.weight.data, rtol=1e-4, atol=1e-6)
            goal = F.linear(inputs, linear.weight)

            def error(outputs, goal=goal):
                return (outputs - goal).square().mean().item()

            their_error = error(other(inputs))
            assert error(in_its_conventions(linear, inputs)) == pytest.approx(their_error, rel=0.01)
            ratios.append(error(smoothquant.int8_linear(linear)(inputs)) / their_error)
    # The source's token scale clips nothing, which is a little better.
    assert 0.95 < sum(ratios) / len(ratios) < 1.01


def in_its_conventions(linear, inputs):
    """The layer's outputs with float32 weight scales and the token scale max / 127.5."""
    grid = QuantizationGrid(8, -1, True, False, torch.float)
    codes, scales, _ = grid.round_weight(linear.weight)
    token_scales = inputs.abs().amax(-1, keepdim=True) / 127.5
    rounded = (inputs / token_scales).round().clamp(-128, 127) * token_scales
    return F.linear(rounded, Int8Linear(codes, scales).dequantize())


def test_the_study_sets_the_smoothing_strength(make_model, tokens):
    def digest(**parameters):
        options = {"seed": 0, "progress": None, "group_size": 128, **parameters}
        return apply("smoothquant_w8a8", make_model(), tokens, **options).weights_sha256

    assert digest(alpha=None) == digest(alpha=0.85) != digest(alpha=0.5)
    with pytest.raises(UsageError, match="from 0 to 1, not 85"):
        digest(alpha=85)


def test_only_smoothquant_has_a_smoothing_strength():
    cells = study("quantizers").cells()
    assert {c.method for c in cells if "alpha" in c.parameters} == {"smoothquant_w8a8"}
