"""QuaRot: rotation changes nothing, rounding happens where it says, a cache changes nothing."""

import copy
import itertools

import pytest
import torch
from torch import nn

from benchsuite.embedded import models as embedded
from benchsuite.errors import CellCannotRun, UsageError
from benchsuite.models.architecture import architecture_of
from benchsuite.quantizers import gptq, quarot, rotation
from benchsuite.quantizers.formats.activations import ActivationQuantizer, fake_quantize_groups
from benchsuite.quantizers.hadamard import largest_order, transform
from benchsuite.quantizers.linear import quantized_linears
from tests.quantizers.conftest import logits, with_varied_norms

FAMILIES = ["llama", "mistral", "qwen2", "qwen3", "opt"]
SIXTEEN = {"activation_bits": 16, "kv_bits": 16}


def with_outliers(model):
    """Make two channels of the residual stream large, as trained models have them."""
    model = with_varied_norms(model)
    weight = model.model.embed_tokens.weight.detach().clone()
    weight[:, [7, 90]] *= 60
    model.model.embed_tokens.weight = nn.Parameter(weight)
    return model


def assert_rotation_changes_nothing(model, tokens):
    before = logits(model, tokens)
    quarot.rotate(model, seed=3)
    torch.testing.assert_close(logits(model, tokens), before, rtol=0, atol=1e-4)
    quarot.round_key_values(model, nn.Identity())
    torch.testing.assert_close(logits(model, tokens), before, rtol=0, atol=1e-4)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_rotated_logits_equal_the_original_s(family, tied, make_model, tokens):
    model = with_varied_norms(make_model(family, tie_word_embeddings=tied))
    assert_rotation_changes_nothing(model, tokens)


@pytest.mark.parametrize("name", embedded.NAMES)
def test_rotated_embedded_models_equal_the_originals(name):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(embedded.path(name), dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(0)
    assert_rotation_changes_nothing(model, torch.randint(0, 2048, (2, 64), generator=generator))


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {"hidden_size": 96, "num_attention_heads": 6, "intermediate_size": 144}),
        ("llama", {"hidden_size": 184, "num_attention_heads": 4, "intermediate_size": 172}),
        ("llama", {"attention_bias": True, "mlp_bias": True}),
        ("llama", {"num_key_value_heads": 1}),
        ("qwen3", {"head_dim": 20}),
        ("opt", {"layer_norm_elementwise_affine": False}),
        ("opt", {"enable_bias": False}),
    ],
    ids=["12*8", "no Hadamard", "biases", "one key head", "wider heads", "bare norms", "no biases"],
)
def test_every_shape_is_rotated_exactly(family, changes, make_model, tokens):
    assert_rotation_changes_nothing(with_varied_norms(make_model(family, **changes)), tokens)


@pytest.mark.parametrize(("width", "full"), [(128, True), (96, True), (184, False)])
def test_q_is_orthogonal_and_drawn_from_the_seed(width, full):
    assert (largest_order(width) == width) == full
    eye = torch.eye(width, dtype=torch.float64)
    first, again, other = (rotation.ResidualRotation(width, s, "cpu")(eye) for s in (1, 1, 2))
    torch.testing.assert_close(first @ first.t(), eye)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_rotation_spreads_outliers_over_the_channels(make_model, tokens):
    def peak(model, path):
        """The largest input of a linear over its root mean square."""
        seen = []
        linear = model.get_submodule(path)
        handle = linear.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        logits(model, tokens)
        handle.remove()
        return (seen[0].abs().amax() / seen[0].square().mean().sqrt()).item()

    model = with_outliers(make_model())
    before = peak(model, "model.layers.0.mlp.gate_proj")
    quarot.rotate(model)
    assert before > 10
    assert peak(model, "model.layers.0.mlp.gate_proj") < 5


@pytest.mark.parametrize("kind", [{"do_layer_norm_before": False}, {"word_embed_proj_dim": 64}])
def test_a_decoder_that_cannot_be_rotated_exactly_is_refused_untouched(kind, make_model, tokens):
    model = make_model("opt", **kind)
    before = logits(model, tokens)
    with pytest.raises(CellCannotRun, match="normalise what each layer reads"):
        quarot.quantize(model, tokens)
    assert torch.equal(logits(model, tokens), before)


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_alone_are_gptq_s_of_the_rotated_model(family, make_model, tokens):
    model, reference = make_model(family), make_model(family)
    goal = logits(reference, tokens)
    result = quarot.quantize(model, tokens, bits=8, seed=1, **SIXTEEN)
    assert (logits(model, tokens) - goal).norm() < 0.03 * goal.norm()
    architecture = quarot.rotate(reference, seed=1)
    expected = gptq.quantize(
        reference, tokens, bits=8, group_size=-1, mse=True, architecture=architecture
    )
    assert result.weights_sha256 == expected.weights_sha256
    assert {layer.name for layer in result.layers} == set(quantized_linears(model))
    assert len(result.layers) == 2 * len(architecture_of(model).linears)
    assert result.latency_simulated
    assert result.size_after_bytes < result.size_before_bytes
    assert "rotate" in result.stage_seconds


@pytest.mark.parametrize("family", FAMILIES)
def test_eight_bits_everywhere_stay_near_the_original(family, make_model, tokens):
    model, goal = make_model(family), logits(make_model(family), tokens)
    quarot.quantize(
        model, tokens, bits=8, activation_bits=8, activation_clip=1.0, kv_bits=8, kv_clip=1.0
    )
    assert (logits(model, tokens) - goal).norm() < 0.05 * goal.norm()


def test_rotation_is_what_makes_four_bits_work(make_model, tokens):
    reference = with_outliers(make_model())
    goal = logits(reference, tokens)
    rotated, plain = with_outliers(make_model()), with_outliers(make_model())
    quarot.quantize(rotated, tokens, kv_bits=16)
    gptq.quantize(plain, tokens, group_size=-1, mse=True)
    quarot.round_activations(plain, 4, 0.9)
    errors = [(logits(model, tokens) - goal).norm() / goal.norm() for model in (rotated, plain)]
    assert errors[0] < 0.6 * errors[1]


@pytest.fixture
def w4a4kv4(make_model, tokens):
    def build(family="llama", dtype=torch.float32):
        model = make_model(family, dtype)
        quarot.quantize(model, tokens)
        return model

    return build


@pytest.mark.parametrize("family", FAMILIES)
def test_every_linear_reads_at_most_sixteen_levels_per_token(family, w4a4kv4, tokens):
    model, seen = w4a4kv4(family), {}
    for name, linear in quantized_linears(model).items():
        linear.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0]}))
    logits(model, tokens)
    assert len(seen) == 2 * len(architecture_of(model).linears)
    for inputs in seen.values():
        levels = [len(torch.unique(token)) for token in inputs.reshape(-1, inputs.shape[-1])[:20]]
        assert 4 <= max(levels) <= 16


def test_attention_sees_rounded_transformed_keys_and_rounded_values(w4a4kv4, tokens):
    model, seen = w4a4kv4(), []
    rounding = model.model.layers[1].self_attn.key_value_rounding
    rounding.register_forward_hook(lambda _, args, outputs: seen.append((args, outputs)))
    logits(model, tokens)
    (query, key, value), (new_query, new_key, new_value) = seen[0]
    torch.testing.assert_close(new_query, transform(query))
    assert torch.equal(new_key, fake_quantize_groups(transform(key), 4, 128, 0.95))
    assert torch.equal(new_value, fake_quantize_groups(value, 4, 128, 0.95))
    assert len(torch.unique(new_key[0, 0, 5])) <= 16


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cache_gives_the_same_logits(family, w4a4kv4, tokens):
    # In float64, so that no last bit decides between two levels.
    model = w4a4kv4(family, torch.float64)
    whole = logits(model, tokens[:2])
    with torch.no_grad():
        out = model(input_ids=tokens[:2, :30], use_cache=True)
        steps = [out.logits]
        for position in range(30, 48):
            out = model(
                input_ids=tokens[:2, position : position + 1],
                past_key_values=out.past_key_values,
                use_cache=True,
            )
            steps.append(out.logits)
    torch.testing.assert_close(torch.cat(steps, 1), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_is_masked_as_before(family, make_model, tokens):
    model = make_model(family)
    mask = torch.ones_like(tokens[:2])
    mask[0, :9] = 0
    before = logits(model, tokens[:2], attention_mask=mask)
    quarot.rotate(model)
    quarot.round_key_values(model, nn.Identity())
    after = logits(model, tokens[:2], attention_mask=mask)
    torch.testing.assert_close(after[mask == 1], before[mask == 1], rtol=0, atol=1e-4)


def test_a_deep_copy_computes_the_same_and_shares_nothing_with_the_original(w4a4kv4, tokens):
    model = w4a4kv4()
    other = copy.deepcopy(model)
    expected = logits(model, tokens)
    assert torch.equal(logits(other, tokens), expected)
    for module in other.modules():
        if isinstance(module, ActivationQuantizer):
            module.bits = 2
    assert not torch.equal(logits(other, tokens), expected)
    assert torch.equal(logits(model, tokens), expected)


@pytest.mark.parametrize("family", ["llama", "opt"])
def test_half_precision_keeps_its_dtype(family, make_model, tokens):
    model, reference = make_model(family, torch.bfloat16), make_model(family, torch.bfloat16)
    quarot.quantize(model, tokens, bits=8, activation_bits=8, kv_bits=8)
    result, goal = logits(model, tokens), logits(reference, tokens)
    assert result.dtype == torch.bfloat16
    assert (result - goal).float().norm() < 0.2 * goal.float().norm()


@pytest.mark.parametrize("family", ["qwen2", "opt"])
def test_given_tensors_are_never_written_and_embeddings_are_untied(family, make_model, tokens):
    model = make_model(family, tie_word_embeddings=True)
    embedding = model.get_input_embeddings().weight
    assert model.lm_head.weight is embedding
    given = [(p, p._version, p.clone()) for p in model.parameters()]
    state = torch.get_rng_state()
    quarot.quantize(model, tokens)
    assert torch.equal(torch.get_rng_state(), state)
    for parameter, version, before in given:
        assert parameter._version == version
        assert torch.equal(parameter, before)
    assert model.lm_head.weight is not model.get_input_embeddings().weight
    model.tie_weights()
    assert model.lm_head.weight is not model.get_input_embeddings().weight


def test_equal_inputs_give_equal_weights_and_another_seed_other_ones(make_model, tokens):
    digests = [
        quarot.quantize(make_model(), tokens, seed=seed, **SIXTEEN).weights_sha256
        for seed in (1, 1, 2)
    ]
    assert digests[0] == digests[1] != digests[2]


def test_a_rotated_model_cannot_be_quantized_again(w4a4kv4, tokens):
    with pytest.raises(UsageError, match="freshly leased"):
        gptq.quantize(w4a4kv4(), tokens)


def test_options_reach_the_layers(make_model, tokens):
    sizes = set()
    for bits, group_size in itertools.product((3, 4), (32, -1)):
        model = make_model()
        quarot.quantize(model, tokens, bits=bits, group_size=group_size, mse=False, **SIXTEEN)
        layer = model.model.layers[0].mlp.down_proj.linear
        assert layer.bits == bits
        assert layer.group_size == (256 if group_size == -1 else group_size)
        sizes.add(layer.packed_bytes)
    assert len(sizes) == 4
