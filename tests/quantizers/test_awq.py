"""AWQ against its formulas, two libraries, and what must hold on any model."""

import functools
import types

import pytest
import torch
from torch import nn

from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.models.architecture import architecture_of
from benchsuite.quantizers import awq, awq_search, checkpoint
from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.linear import model_digest, quantized_linears
from tests.quantizers.conftest import word_tokenizer

GRID = QuantizationGrid(4, 32, sym=False)


def with_outliers(model):
    """Make some channels of every norm large, as trained models have them: what AWQ is for."""
    generator = torch.Generator().manual_seed(2)
    for name, module in model.named_modules():
        if "norm" in name and hasattr(module, "weight") and module.weight.numel() == 128:
            big = torch.randperm(128, generator=generator)[:4]
            weight = module.weight.detach().clone()
            weight[big] *= 12
            module.weight = nn.Parameter(weight, requires_grad=False)
    return model


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_scales_are_the_formula():
    size = torch.tensor([0.0, 0.5, 2.0])
    assert torch.equal(awq_search.channel_scales(size, 0.0), torch.ones(3))
    expected = torch.tensor([1e-4, 0.5**0.5, 2**0.5])
    expected /= (expected.max() * expected.min()).sqrt()
    torch.testing.assert_close(awq_search.channel_scales(size, 0.5), expected)


@pytest.mark.parametrize("n_tokens", [100, 512, 2000])
def test_statistics_do_not_depend_on_micro_batches(n_tokens):
    x = normal(n_tokens, 8)
    whole = awq.Inputs(8, torch.device("cpu"), n_tokens)
    whole.update(x)
    parts = awq.Inputs(8, torch.device("cpu"), n_tokens)
    for part in x.split(37):
        parts.update(part)
    torch.testing.assert_close(parts.mean_size(), x.abs().mean(0))
    assert torch.equal(whole.tokens(), x[:: max(1, n_tokens // 512)])
    assert torch.equal(parts.tokens(), whole.tokens())


def test_clip_search_equals_running_the_tokens():
    weight, tokens = normal(6, 64, seed=1) ** 3, normal(50, 64, seed=2) * normal(64, seed=3).exp()
    clipped, share = awq_search.best_clip(weight, tokens, GRID)
    for row in range(6):
        for group in range(2):
            columns = slice(32 * group, 32 * group + 32)
            w, x = weight[row, columns], tokens[:, columns]
            errors = []
            for step in range(10):
                limit = (1 - step / 20) * w.abs().max()
                tried = w.clamp(-limit, limit)[None]
                errors.append(((awq_search.rounded(tried, GRID)[0] - w) @ x.T).square().mean())
            best = int(torch.stack(errors).argmin())
            assert share[row, group].item() == pytest.approx(1 - best / 20)
            limit = (1 - best / 20) * w.abs().max()
            torch.testing.assert_close(clipped[row, columns], w.clamp(-limit, limit))


def exact(monkeypatch):
    """Let nothing be rounded, so that what AWQ folds must cancel."""
    from benchsuite.quantizers.linear import QuantizedLinear

    def unrounded(self, dtype=None):
        return self.kept.to(dtype or self.dtype)

    original = QuantizationGrid.round_weight

    def keeping(grid, weight):
        kept.append(weight)
        return original(grid, weight)

    kept = []
    before = QuantizedLinear.__init__

    def init(self, *args, **kwargs):
        before(self, *args, **kwargs)
        self.kept = kept[-1]

    monkeypatch.setattr(QuantizationGrid, "round_weight", keeping)
    monkeypatch.setattr(QuantizedLinear, "__init__", init)
    monkeypatch.setattr(QuantizedLinear, "dequantize", unrounded)


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3", "opt"])
@pytest.mark.parametrize("shared_heads", [True, False])
def test_without_rounding_the_model_is_unchanged(
    family, shared_heads, make_model, tokens, monkeypatch
):
    changes = {} if shared_heads or family == "opt" else {"num_key_value_heads": 4}
    model = with_outliers(make_model(family, **changes))
    with torch.no_grad():
        goal = model(input_ids=tokens).logits
    exact(monkeypatch)
    result = awq.quantize(model, tokens, group_size=32, clip=False)
    with torch.no_grad():
        got = model(input_ids=tokens).logits
    torch.testing.assert_close(got, goal, rtol=1e-3, atol=1e-4)
    assert any(layer.details["exponent"] > 0 for layer in result.layers if layer.details)
    o_scaled = "exponent" in result.layers[3].details
    assert o_scaled == (family == "opt" or not shared_heads)
    assert all(layer.relative_error < 1e-8 for layer in result.layers)


def test_outlier_channels_make_awq_better_than_rounding(make_model, tokens):
    with torch.no_grad():
        goal = with_outliers(make_model())(input_ids=tokens).logits
        off = {}
        for name, options in {
            "plain": {"clip": False, "exponents": False},
            "scaled": {"clip": False},
            "both": {},
        }.items():
            model = with_outliers(make_model())
            exponents = awq_search.EXPONENTS if options.pop("exponents", True) else (0.0,)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(awq_search, "EXPONENTS", exponents)
                result = awq.quantize(model, tokens, bits=3, group_size=32, **options)
            off[name] = (model(input_ids=tokens).logits - goal).norm().item()
            assert len(result.layers) == 14
    assert off["both"] < off["plain"]
    assert off["scaled"] < 0.9 * off["plain"]


def test_the_search_never_chooses_worse_than_no_scaling(make_model, tokens):
    result = awq.quantize(make_model("qwen2"), tokens, group_size=32)
    gains = [layer.details["search_gain"] for layer in result.layers if "exponent" in layer.details]
    assert gains
    assert all(gain <= 1 for gain in gains)
    clipped = {layer.name.rpartition(".")[2]: layer.details for layer in result.layers}
    assert "clipped_groups" not in clipped["q_proj"]
    assert 0 < clipped["up_proj"]["clipped_groups"] < 1


def test_an_activation_that_is_no_relu_takes_no_scales(make_model, tokens):
    details = awq.quantize(
        make_model("opt", activation_function="gelu"), tokens, group_size=32
    ).layers
    assert "exponent" not in details[5].details
    relu = awq.quantize(make_model("opt"), tokens, group_size=32).layers
    assert "exponent" in relu[5].details


def test_a_norm_without_a_weight_takes_no_scales(make_model, tokens):
    """Galactica's: there is nothing to divide, and what it feeds is rounded and clipped alone."""
    bare = {"layer_norm_elementwise_affine": False, "enable_bias": False}
    layers = awq.quantize(make_model("opt", **bare), tokens, group_size=32).layers
    scaled = [layer.name for layer in layers[:6] if "exponent" in layer.details]
    assert [name.rpartition(".")[2] for name in scaled] == ["out_proj", "fc2"]


def test_given_tensors_are_never_written_and_the_result_is_reproducible(make_model, tokens):
    model = make_model("opt")
    given = {name: (p, p._version, p.clone()) for name, p in model.named_parameters()}
    before = torch.get_rng_state()
    result = awq.quantize(model, tokens, group_size=32)
    assert torch.equal(torch.get_rng_state(), before)
    for parameter, version, copy in given.values():
        assert parameter._version == version
        assert torch.equal(parameter, copy)
    assert all(not m._forward_pre_hooks for m in model.modules())
    again = awq.quantize(make_model("opt"), tokens, group_size=32)
    assert again.weights_sha256 == result.weights_sha256
    other = awq.quantize(make_model("opt"), tokens.flip(0, 1), group_size=32)
    assert other.weights_sha256 != result.weights_sha256
    assert {"forward", "statistics", "scales", "clip", "pack"} <= set(result.stage_seconds)


def test_half_precision_norms_are_paid_back_by_the_weights(make_model, tokens):
    model = with_outliers(make_model(dtype=torch.bfloat16))
    reference = with_outliers(make_model(dtype=torch.bfloat16))
    awq.quantize(model, tokens, bits=8, group_size=32)
    with torch.no_grad():
        goal, got = reference(input_ids=tokens).logits, model(input_ids=tokens).logits
    assert (got - goal).float().norm() < 0.03 * goal.float().norm()


def test_clipping_in_a_post_norm_block_is_searched_on_its_own_inputs(make_model, tokens):
    """There q, k and v read the residual stream, which the walk advances in the same forward."""
    model = make_model("opt", do_layer_norm_before=False)
    seen = []
    attention = model.model.decoder.layers[0].self_attn
    hook = attention.v_proj.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        model(input_ids=tokens)
    hook.remove()
    inputs, weight = seen[0].reshape(-1, 128), attention.v_proj.weight.detach()
    grid = QuantizationGrid(4, 32, sym=False)
    clipped, _ = awq_search.best_clip(weight, inputs, grid)
    lost = ((awq_search.rounded(clipped, grid) - weight) @ inputs.t()).square().sum()
    expected = lost / (weight @ inputs.t()).square().sum()
    result = awq.quantize(model, tokens, group_size=32)
    (v_proj,) = (x for x in result.layers if x.name == "model.decoder.layers.0.self_attn.v_proj")
    # Its rows are divided by what o takes up, which half-precision scales round differently.
    assert v_proj.relative_error == pytest.approx(float(expected), rel=0.01)


@pytest.mark.parametrize("clip", [True, False])
def test_a_narrower_last_group_is_like_a_group_of_its_own(clip):
    """The first 96 and the last 32 columns, apart and together."""
    generator = torch.Generator().manual_seed(0)
    weight, tokens = (
        torch.randn(8, 128, generator=generator),
        torch.randn(40, 128, generator=generator),
    )
    grid = QuantizationGrid(4, 96, sym=False)
    parts = [slice(0, 96), slice(96, 128)]
    if clip:
        whole, share = awq_search.best_clip(weight, tokens, grid)
        assert share.shape == (8, 2)
        apart = [awq_search.best_clip(weight[:, p], tokens[:, p], grid)[0] for p in parts]
    else:
        whole = awq_search.rounded(weight, grid)
        apart = [awq_search.rounded(weight[:, p], grid) for p in parts]
    assert torch.equal(whole, torch.cat(apart, 1))


def test_faults_are_named(make_model, tokens):
    model = make_model()
    model.model.layers[1].input_layernorm.weight = nn.Parameter(torch.full((128,), float("inf")))
    with pytest.raises(BenchsuiteError, match=r"model\.layers\.1\.qkv"):
        awq.quantize(model, tokens, group_size=32)


# Parity. The library functions run in float64, since on a CPU gptqmodel's search fails to restore
# float32 weights between candidates (its copy of them is no copy there).


def gptqmodel_processor(group_size):
    module = pytest.importorskip("gptqmodel.looper.awq_processor")
    processor = types.SimpleNamespace(
        qcfg=types.SimpleNamespace(
            group_size=group_size, bits=4, sym=False, scale_search_chunked_activations=True
        ),
        duo_scaling=False,
        _scale_context=types.SimpleNamespace(),
        _iter_module_forward_outputs=lambda x, module, kwargs: iter([module(x)]),
        _iter_reference_output_chunks=lambda x, goals: iter(goals),
    )
    for name in ("_compute_best_scale", "_compute_best_clip", "_pseudo_quantize_tensor_into"):
        function = getattr(module.AWQProcessor, name)
        setattr(processor, name, functools.partial(function, processor))
    return processor


class Gated(nn.Module):
    """An MLP as Llama has it."""

    def __init__(self, seed):
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(64, 96, bias=False), nn.Linear(64, 96, bias=False)
        self.down_proj = nn.Linear(96, 64, bias=False)
        for number, linear in enumerate(self.children()):
            weight = 0.1 * normal(*linear.weight.shape, seed=seed + number)
            linear.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, x):
        return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


@pytest.mark.parametrize("seed", [10, 20, 30])
def test_scales_agree_with_gptqmodel(seed):
    processor = gptqmodel_processor(32)
    x = normal(200, 64, seed=seed) * (1.2 * normal(64, seed=seed + 1)).exp()
    mlp = Gated(seed)
    grid = QuantizationGrid(4, 32, sym=False, scale_dtype=torch.float32)
    mean_size = x.abs().mean(0)
    goal = mlp(x)
    paths = ["mlp.gate_proj", "mlp.up_proj"]
    heard = awq_search.Heard(nn.ModuleDict({"mlp": mlp}), x.device, {"mlp": [((x,), {})]})
    errors = awq_search.module_errors([heard], "mlp", paths, mean_size, grid).tolist()
    best = errors.index(min(errors))
    theirs = Gated(seed).double()
    their_scales, their_error = processor._compute_best_scale(
        x.double(),
        torch.ones(64).double(),
        mean_size.double(),
        theirs,
        [theirs.gate_proj, theirs.up_proj],
        [goal.double()],
    )
    assert errors[best] / goal.numel() == pytest.approx(their_error, rel=0.01)
    ours = awq_search.channel_scales(mean_size, awq_search.EXPONENTS[best])
    torch.testing.assert_close(ours, their_scales.float(), rtol=1e-3, atol=0)


def test_clipping_agrees_with_gptqmodel():
    processor = gptqmodel_processor(32)
    weight = normal(64, 96, seed=4) ** 3
    tokens = normal(700, 96, seed=5) * normal(96, seed=6).exp()
    limits = processor._compute_best_clip(weight, tokens).squeeze(-1)
    grid = QuantizationGrid(4, 32, sym=False, scale_dtype=torch.float32)
    _, share = awq_search.best_clip(weight, tokens, grid)
    ours = share * weight.reshape(64, 3, 32).abs().amax(-1)
    assert torch.isclose(ours, limits, rtol=1e-5).float().mean() > 0.98


# Checkpoints in AutoAWQ's format.


@pytest.mark.parametrize("family", ["llama", "opt"])
def test_a_saved_model_loads_as_the_same_model(family, make_model, tokens, tmp_path):
    model = make_model(family, torch.bfloat16)
    awq.quantize(model, tokens, group_size=32)
    checkpoint.save(model, tmp_path, format="awq")
    back = checkpoint.load(tmp_path)
    assert model_digest(back) == model_digest(model)
    with torch.no_grad():
        assert torch.equal(back(input_ids=tokens).logits, model(input_ids=tokens).logits)


def test_packed_tensors_follow_the_format_by_hand(make_model, tokens, tmp_path):
    from safetensors.torch import load_file

    model = make_model()
    awq.quantize(model, tokens, group_size=32)
    checkpoint.save(model, tmp_path, format="awq")
    state = load_file(tmp_path / "model.safetensors")
    name = "model.layers.1.mlp.down_proj"
    linear = model.get_submodule(name)
    assert state[f"{name}.qweight"].shape == (256, 16)
    assert state[f"{name}.qzeros"].shape == (8, 16)
    assert torch.equal(state[f"{name}.scales"], linear.scales.t())
    for row, column in [(0, 0), (77, 5), (255, 15)]:
        word = state[f"{name}.qweight"][row, column].item() & 0xFFFFFFFF
        eight = linear.codes[8 * column : 8 * column + 8, row].tolist()
        assert [word >> (4 * i) & 15 for i in range(8)] == [eight[i] for i in awq_order()]
    word = state[f"{name}.qzeros"][3, 2].item() & 0xFFFFFFFF
    eight = linear.zeros[16:24, 3].tolist()
    assert [word >> (4 * i) & 15 for i in range(8)] == [eight[i] for i in awq_order()]


def awq_order():
    return [0, 2, 4, 6, 1, 3, 5, 7]


def test_what_the_format_cannot_hold_is_refused(make_model, tokens, tmp_path):
    model = make_model()
    awq.quantize(model, tokens, bits=3, group_size=32)
    with pytest.raises(UsageError, match="no 3-bit codes"):
        checkpoint.save(model, tmp_path, format="awq")
    with pytest.raises(UsageError, match="unknown format 'ggml'"):
        checkpoint.save(model, tmp_path, format="ggml")
    with pytest.raises(UsageError, match="no quantized layer"):
        checkpoint.save(make_model(), tmp_path, format="awq")


def test_gptqmodel_reads_our_checkpoints(make_model, tokens, tmp_path, monkeypatch):
    monkeypatch.setenv("GPTQMODEL_CPU_WORKERS", "2")
    gptqmodel = pytest.importorskip("gptqmodel")
    model = make_model("llama", torch.float16, tie_word_embeddings=False)
    awq.quantize(model, tokens, group_size=32)
    checkpoint.save(model, tmp_path, format="awq", tokenizer=word_tokenizer())
    theirs = gptqmodel.GPTQModel.load(
        str(tmp_path), device="cpu", backend=gptqmodel.BACKEND.AWQ_TORCH
    ).model
    assert len(quantized_linears(model)) == sum(
        type(m).__name__ == "AwqTorchLinear" for m in theirs.modules()
    )
    with torch.no_grad():
        goal = model.float()(input_ids=tokens[:2]).logits
        got = theirs(input_ids=tokens[:2]).logits.float()
    # Their layers compute in half precision: 1 % of the logits' size.
    assert (got - goal).norm() < 0.01 * goal.norm()


def test_layers_are_those_of_the_model(make_model, tokens):
    model = make_model("mistral")
    names = [name for name, _ in architecture_of(model).named_linears(model)]
    result = awq.quantize(model, tokens, group_size=32)
    assert [layer.name for layer in result.layers] == names
    assert all(0 < layer.relative_error < 0.05 for layer in result.layers)
