"""Rotations in the weights: nothing changes, nothing is added, and an ordinary reader agrees."""

import pytest
import torch
from torch import nn

from benchsuite.errors import CellCannotRun
from benchsuite.models.architecture import architecture_of
from benchsuite.quantizers import checkpoint, gptq, rotated, rotation, rtn
from benchsuite.quantizers.checkpoint import packed
from benchsuite.quantizers.hadamard import hadamard_matrix
from benchsuite.quantizers.linear import quantized_linears
from tests.quantizers.conftest import logits, with_varied_norms, word_tokenizer
from tests.quantizers.families import build

MODELS = {
    "llama": {},
    "llama tied": {"tie_word_embeddings": True},
    "llama with biases": {"attention_bias": True, "mlp_bias": True},
    "llama with one key head": {"num_key_value_heads": 1},
    "llama without a Hadamard matrix": {"hidden_size": 184, "num_attention_heads": 4},
    "mistral": {},
    "qwen2 tied": {"tie_word_embeddings": True},
    "qwen3 with wider heads": {"head_dim": 64},
    "opt tied": {"tie_word_embeddings": True},
    "opt untied": {"tie_word_embeddings": False},
    "opt without biases": {"enable_bias": False},
    "opt with bare norms": {"layer_norm_elementwise_affine": False},
}


@pytest.fixture
def varied(make_model):
    """A model of ``MODELS`` whose norms are not all alike."""
    return lambda name, **more: with_varied_norms(
        make_model(name.split()[0], **MODELS[name], **more)
    )


@pytest.mark.parametrize("name", MODELS)
def test_a_folded_model_computes_the_same_with_the_same_modules(name, varied, tokens):
    model = varied(name)
    goal, modules = logits(model, tokens), [type(m) for m in model.modules()]
    given = [(p, p.clone()) for p in model.parameters()]
    names = {n for n, _ in model.named_parameters(remove_duplicate=False)}
    rotation.fold(model, seed=3)
    torch.testing.assert_close(logits(model, tokens), goal, rtol=0, atol=1e-5)
    assert [type(m) for m in model.modules()] == modules
    assert {n for n, _ in model.named_parameters(remove_duplicate=False)} == names
    assert all(torch.equal(parameter, before) for parameter, before in given)
    for path, norm in model.named_modules():
        if path.endswith("norm") and not path.endswith(("q_norm", "k_norm")):
            assert norm.weight is None or (norm.weight == 1).all()


@pytest.mark.parametrize("family", ["phi3", "granite", "smollm3", "mixtral", "qwen3_moe"])
def test_further_families_are_folded_exactly(family, tokens):
    model, goal = build(family), logits(build(family), tokens)
    before = model.model.layers[0].self_attn.o_proj.weight
    rotation.fold(model, seed=3)
    assert not torch.equal(model.model.layers[0].self_attn.o_proj.weight, before)
    torch.testing.assert_close(logits(model, tokens), goal, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["llama", "opt tied"])
def test_the_stream_is_the_original_s_times_q_and_values_are_times_h(name, varied, tokens):
    """R1 and R2 seen from outside: hidden states by an explicit Q, values by an explicit H."""
    model, values, states = varied(name, dtype=torch.float64), [], []

    def look():
        (path,) = (g.source for g in architecture_of(model).groups if g.name == "o")
        block = architecture_of(model).block_list(model)[1]
        hook = block.get_submodule(path).register_forward_hook(lambda *a: values.append(a[2]))
        with torch.no_grad():
            states.append(model(input_ids=tokens[:2], output_hidden_states=True).hidden_states[1])
        hook.remove()

    look()
    rotation.fold(model, seed=5)
    look()
    is_opt = name.startswith("opt")
    q = rotation.ResidualRotation(128, 5, torch.device("cpu"), keeps_mean=is_opt)(
        torch.eye(128, dtype=torch.float64)
    )
    torch.testing.assert_close(q @ q.t(), torch.eye(128, dtype=torch.float64))
    before = states[0] - states[0].mean(-1, keepdim=True) if is_opt else states[0]
    torch.testing.assert_close(states[1], before @ q, rtol=0, atol=1e-5)
    heads = [v.unflatten(-1, (-1, 32)) for v in values]
    # The angles of positions are float32.
    torch.testing.assert_close(heads[1], heads[0] @ hadamard_matrix(32), rtol=0, atol=1e-5)


def test_a_rotation_that_keeps_the_mean_keeps_ones():
    ones = torch.ones(1, 96, dtype=torch.float64)
    for width in (96, 92):
        turned = rotation.ResidualRotation(width, 1, torch.device("cpu"), keeps_mean=True)
        torch.testing.assert_close(turned(ones[:, :width]), ones[:, :width])


@pytest.mark.parametrize("rounding", ["rtn", pytest.param("gptq", marks=pytest.mark.stress)])
def test_what_is_rounded_is_the_folded_model(rounding, make_model, tokens):
    model, reference = (make_model(num_hidden_layers=1) for _ in range(2))
    batch = None if rounding == "rtn" else tokens
    result = rotated.quantize(model, batch, group_size=32, seed=2)
    rotation.fold(reference, seed=2)
    options = {"bits": 4, "group_size": 32, "mse": True}
    if rounding == "rtn":
        expected = rtn.quantize(reference, **options)
    else:
        expected = gptq.quantize(reference, tokens, **options)
    assert result.weights_sha256 == expected.weights_sha256
    assert "rotate" in result.stage_seconds
    assert not result.latency_simulated
    other = rotated.quantize(make_model(num_hidden_layers=1), batch, group_size=32, seed=3)
    assert other.weights_sha256 != result.weights_sha256


def test_columns_of_large_weights_cost_less_behind_rotations(make_model, tokens):
    def with_large_columns():
        model = make_model(num_hidden_layers=1)
        for block in model.model.layers:
            for path in ("self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"):
                block.get_submodule(path).weight.data[:, [7, 90]] *= 20
        return model

    goal = logits(with_large_columns(), tokens)
    plain, turned = with_large_columns(), with_large_columns()
    rtn.quantize(plain, group_size=-1, mse=True)
    rotated.quantize(turned, group_size=-1)
    errors = [(logits(model, tokens) - goal).norm() for model in (turned, plain)]
    assert errors[0] < 0.7 * errors[1]


@pytest.mark.parametrize(
    "name",
    [
        "llama tied",
        pytest.param("opt tied", marks=pytest.mark.stress),
        pytest.param("qwen2 tied", marks=pytest.mark.stress),
        pytest.param("qwen3 with wider heads", marks=pytest.mark.stress),
    ],
)
def test_transformers_computes_the_logits_of_the_saved_model(name, varied, tokens, tmp_path):
    pytest.importorskip("compressed_tensors")
    from transformers import AutoModelForCausalLM

    model = varied(name)
    goal = logits(model, tokens)
    rotated.quantize(model, tokens, bits=8, group_size=32)
    checkpoint.save(model, tmp_path, format=packed.FORMAT)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    got = logits(theirs, tokens)
    # The same weights in float32, multiplied by other code: the last bits of a sum.
    torch.testing.assert_close(got, logits(model, tokens), rtol=0, atol=1e-6)
    assert (got - goal).norm() < 0.03 * goal.norm()
    assert theirs.config.tie_word_embeddings is False
    assert not torch.equal(
        theirs.get_output_embeddings().weight, theirs.get_input_embeddings().weight
    )


@pytest.mark.stress
@pytest.mark.parametrize("name", ["llama tied", "qwen2 tied", "qwen3 with wider heads"])
def test_gptqmodel_computes_the_logits_of_the_saved_model(
    name, varied, tokens, tmp_path, monkeypatch
):
    monkeypatch.setenv("GPTQMODEL_CPU_WORKERS", "2")
    gptqmodel = pytest.importorskip("gptqmodel")

    model = varied(name, dtype=torch.float16)
    rotated.quantize(model, tokens, group_size=32)
    checkpoint.save(model, tmp_path, tokenizer=word_tokenizer())
    theirs = gptqmodel.GPTQModel.load(
        str(tmp_path), device="cpu", backend=gptqmodel.BACKEND.GPTQ_TORCH, dtype=torch.float16
    ).model
    with torch.no_grad():
        got = theirs(input_ids=tokens[:2]).logits.float()
    ours_32 = logits(model.float(), tokens[:2])
    # Their layers compute in half precision: 1 % of the logits' size.
    assert (got - ours_32).norm() < 0.01 * ours_32.norm()


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("gemma2", {}),
        ("gemma3_text", {}),
        ("opt", {"do_layer_norm_before": False}),
        ("opt", {"word_embed_proj_dim": 64}),
    ],
)
def test_a_decoder_that_cannot_be_rotated_is_refused_untouched(family, changes, make_model, tokens):
    model = build(family) if family.startswith("gemma") else make_model(family, **changes)
    goal = logits(model, tokens)
    with pytest.raises(CellCannotRun, match=f"and not what it writes.*this {family}"):
        rotated.quantize(model, tokens)
    assert torch.equal(logits(model, tokens), goal)
    assert not quantized_linears(model)


def test_a_norm_whose_bias_has_nowhere_to_go_is_named_before_anything_changes(varied, tokens):
    model = varied("opt untied")
    norm = model.model.decoder.final_layer_norm
    weight = norm.weight.detach().clone()
    weight[3] = 0
    norm.weight = nn.Parameter(weight)
    goal = logits(model, tokens)
    with pytest.raises(CellCannotRun, match="final_layer_norm has a bias and a weight of nothing"):
        rotation.fold(model)
    assert torch.equal(logits(model, tokens), goal)
