"""Every supported family, by every own method: the map is right where the function stays."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from benchsuite.errors import BenchsuiteError, CellCannotRun, UsageError
from benchsuite.models.architecture import ARCHITECTURES, architecture_of
from benchsuite.models.experts import Experts
from benchsuite.quantizers import checkpoint, loaded, quarot, smoothquant
from benchsuite.quantizers.linear import quantized_linears
from benchsuite.quantizers.registry import CACHES, GGUF, OWN, apply
from tests.quantizers.conftest import logits
from tests.quantizers.families import EXPERTS, FAMILIES, SHAPE, build

ALIKE = {"mxfp4_gptq_w4a4", "nvfp4_mrgptq_w4a4"}  # each on the other format
ALIKE |= {*GGUF, *CACHES} - {"gguf_imatrix_q4_k_m"}  # a cache has no linears
WIDTHS = ("_w8", "_w5", "_w3", "_w2", "gptq_w4a16")
METHODS = sorted(n for n in OWN if n not in ALIKE and not n.endswith(WIDTHS))
# Every method on two families that are built differently, six on all; the rest are long rounds.
FIRST = {"rtn_w4", "gptq_w4", "awq_w4", "smoothquant_w8a8", "quarot_w4a4kv4", "fp8_dynamic"}
LONG = {"mixed_w4"}
EVERY = [
    pytest.param(family, method, marks=[] if short else pytest.mark.stress)
    for family in FAMILIES
    for method in METHODS
    for short in [method in FIRST or (method not in LONG and family in ("gemma2", "phi3"))]
]


@pytest.mark.parametrize("family", FAMILIES)
def test_what_only_moves_factors_leaves_the_logits_as_they_were(family, tokens):
    expected = logits(build(family), tokens)
    model = build(family)
    smoothquant.smooth(model, tokens, 0.7)
    assert not torch.equal(model.model.layers[0].input_layernorm.weight.data, torch.zeros(64))
    torch.testing.assert_close(logits(model, tokens), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_rotated_logits_are_the_original_s_or_the_refusal_says_why(family, tokens):
    expected, model = logits(build(family), tokens), build(family)
    if architecture_of(model).normed_outputs:
        with pytest.raises(CellCannotRun, match="not what it writes"):
            quarot.rotate(model)
        return
    before = model.model.layers[0].self_attn.o_proj.weight
    quarot.rotate(model)
    assert not torch.equal(model.model.layers[0].self_attn.o_proj.linear.weight, before)
    torch.testing.assert_close(logits(model, tokens), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("family", "method"), EVERY)
def test_every_own_method_quantizes_every_linear(family, method, tokens):
    model = build(family)
    if method.startswith(("quarot", "rotated")) and architecture_of(model).normed_outputs:
        return
    options = {"group_size": 32, "iterations": 10, "steps": 5, "alpha": 0.5}
    result = apply(method, model, tokens, seed=0, progress=None, **options)
    inside = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
    assert [name for name in inside if ".layers." in name] == []
    names = [layer.name.removesuffix(".linear") for layer in result.layers]
    assert len(names) == len(set(names)) == len(quantized_linears(model))
    expected = logits(build(family), tokens)
    error = (logits(model, tokens) - expected).norm() / expected.norm()
    # Random weights have no half that may go; outputs that had nothing in common would be 1.4 off.
    most = {"W8A8": 0.25, "W4A4": 0.8, "weight-only": 0.6, "2:4 sparse": 1.1}
    assert error < most[OWN[method].ranking]


@pytest.mark.parametrize("family", ["gemma2", "phi3", *EXPERTS])
def test_calibrated_rounding_is_nearer_than_rounding(family, tokens):
    expected, errors = logits(build(family), tokens), {}
    for method in ("rtn_w4", "gptq_w4", "awq_w4"):
        model = build(family)
        apply(method, model, tokens, seed=0, progress=None, group_size=32)
        errors[method] = (logits(model, tokens) - expected).norm()
    assert max(errors["gptq_w4"], errors["awq_w4"]) < errors["rtn_w4"]


@pytest.mark.parametrize("family", ["gemma3_text", "phi3", *EXPERTS])
def test_a_saved_checkpoint_is_read_back(family, tokens, tmp_path):
    model = build(family)
    result = apply("gptq_w4", model, tokens, seed=0, progress=None, group_size=32)
    checkpoint.save(model, tmp_path)
    loaded = checkpoint.load(tmp_path)
    assert torch.equal(logits(loaded, tokens), logits(model, tokens))
    names = {layer.name for layer in result.layers}
    assert set(quantized_linears(loaded)) == names


def test_gemma_3_with_an_image_encoder_has_its_decoder_quantized(tokens):
    text = SHAPE | {"sliding_window": 16, "model_type": "gemma3_text"}
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    vision |= {"num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    config = AutoConfig.for_model("gemma3", text_config=text, vision_config=vision)
    model = AutoModelForCausalLM.from_config(config).eval()
    expected = logits(model, tokens)
    smoothquant.smooth(model, tokens, 0.7)
    torch.testing.assert_close(logits(model, tokens), expected, rtol=1e-4, atol=1e-4)
    apply("gptq_w4", model, tokens, seed=0, progress=None, group_size=32)
    assert len(quantized_linears(model)) == 2 * 7
    assert all(".language_model.layers." in name for name in quantized_linears(model))


# --- experts


@pytest.mark.parametrize("family", EXPERTS)
def test_experts_taken_apart_are_the_same_function_of_the_same_tensors(family, tokens):
    model = build(family)
    fused = model.model.layers[1].mlp.experts
    expected, whole = logits(model, tokens), fused.gate_up_proj
    architecture_of(model)
    experts = model.model.layers[1].mlp.experts
    assert isinstance(experts, Experts)
    torch.testing.assert_close(logits(model, tokens), expected)
    assert experts[0].gate_proj.weight.data_ptr() == whole.data_ptr()
    inner = experts[3].up_proj.out_features
    assert torch.equal(experts[3].up_proj.weight, whole[3, inner:])
    architecture_of(model)
    assert model.model.layers[1].mlp.experts is experts


@pytest.mark.parametrize("family", EXPERTS)
def test_tokens_by_expert_are_those_of_the_router_and_none_goes_uncalibrated(family, tokens):
    """The last expert is never chosen: the router's logit for it is far below the others."""
    model, sent = build(family, num_hidden_layers=1), []
    layer = model.model.layers[0]
    layer.mlp.gate.weight[3] = 0
    layer.post_attention_layernorm.weight.fill_(1.0)
    router = layer.mlp.gate

    def far_below(module, args, output):
        below = output[0].clone()
        below[:, 3] = -1e4
        weights, index = torch.topk(below.float().softmax(-1), 2)
        sent.append(index.flatten())
        return below, (weights / weights.sum(-1, keepdim=True)).to(below.dtype), index

    router.register_forward_hook(far_below)
    logits(model, tokens)
    expected = torch.bincount(sent[0], minlength=4).tolist()
    result = apply("gptq_w4", model, tokens, seed=0, progress=None, group_size=32)
    by_expert = {
        int(layer.name.split(".experts.")[1].split(".")[0]): layer
        for layer in result.layers
        if layer.name.endswith("down_proj")
    }
    assert [by_expert[i].details["routed_tokens"] for i in range(4)] == expected
    assert expected[3] == 0
    assert sum(expected) == 2 * tokens.numel()
    blind = build(family, num_hidden_layers=1)
    blind.model.layers[0].mlp.gate.weight[3] = 0
    blind.model.layers[0].post_attention_layernorm.weight.fill_(1.0)
    rounded = apply("rtn_w4", blind, None, seed=0, progress=None, group_size=32)
    assert all("routed_tokens" not in layer.details for layer in rounded.layers)
    path = "model.layers.0.mlp.experts.3.down_proj"
    assert not torch.equal(
        quantized_linears(model)[path].codes, quantized_linears(blind)[path].codes
    )
    assert by_expert[3].relative_error > 0


def test_blocks_with_and_without_experts_are_refused():
    model = build("qwen3_moe", mlp_only_layers=[0])
    with pytest.raises(BenchsuiteError, match=r"different numbers of experts: \[0, 4\]"):
        architecture_of(model)


def test_an_unknown_family_is_refused_naming_the_known():
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("olmo2", **SHAPE))
    with pytest.raises(UsageError, match="olmo2"):
        architecture_of(model)
    assert "gemma3_text" in ARCHITECTURES


@pytest.mark.parametrize("precision", ["8bit", "4bit"])
@pytest.mark.parametrize("family", ["phi3", *EXPERTS])
def test_bitsandbytes_reduces_every_linear_of_the_blocks(family, precision, tokens):
    """As the uncertainty study loads Mixtral: the model stays close, and no linear is left."""
    pytest.importorskip("bitsandbytes")
    # Its CPU kernel for 4 bits wants wide layers.
    wide = {"hidden_size": 256, "intermediate_size": 256, "head_dim": 64}
    if family == "qwen3_moe":
        wide["moe_intermediate_size"] = 256
    expected, model = logits(build(family, **wide), tokens), build(family, **wide)
    reduced = loaded.reduce(model, precision, own=False)
    left = [
        name
        for name, module in reduced.named_modules()
        if type(module) is torch.nn.Linear and ".layers." in name
    ]
    assert left == []
    error = (logits(reduced, tokens) - expected).norm() / expected.norm()
    assert error < {"8bit": 0.1, "4bit": 0.5}[precision]
