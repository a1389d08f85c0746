"""Checkpoints: our own round trip, a real reader of the format, and every way to be broken."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.quantizers import awq, checkpoint, gptq, quarot, rtn, signround, smoothquant
from benchsuite.quantizers.linear import QuantizedLinear, quantized_linears
from benchsuite.quantizers.registry import apply
from tests.quantizers.conftest import assert_same, logits, saved_by_llm_compressor, word_tokenizer


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("llama", {"bits": 4, "group_size": 32}),
        ("llama", {"bits": 3, "group_size": 64, "sym": False}),
        ("qwen2", {"bits": 8, "group_size": -1}),
        ("opt", {"bits": 2, "group_size": 32, "desc_act": True}),
        ("mistral", {"bits": 4, "group_size": 32, "sym": False, "desc_act": True}),
    ],
    ids=str,
)
def test_a_saved_model_loads_as_the_same_model(family, options, make_model, tokens, tmp_path):
    model = make_model(family, torch.bfloat16, tie_word_embeddings=family != "qwen2")
    gptq.quantize(model, tokens, **options)
    checkpoint.save(model, tmp_path, details={"seed": 1})
    assert_same(tmp_path, model, tokens)
    settings = json.loads((tmp_path / "quantize_config.json").read_text())
    assert settings == json.loads((tmp_path / "config.json").read_text())["quantization_config"]
    assert settings["meta"] == {"quantizer": "benchsuite", "seed": 1}
    assert settings["checkpoint_format"] == ("gptq" if options.get("sym", True) else "gptq_v2")


def test_positions_keep_their_frequencies_in_half_precision(make_model, tmp_path):
    """In bfloat16 they would be wrong by up to 1/256: half a turn after some 800 tokens."""
    model = make_model("llama", torch.bfloat16)
    rtn.quantize(model, bits=4, group_size=32)
    checkpoint.save(model, tmp_path)
    frequencies = checkpoint.load(tmp_path).get_submodule("model.rotary_emb").inv_freq
    assert frequencies.dtype == torch.float32
    assert torch.equal(frequencies, model.get_submodule("model.rotary_emb").inv_freq)


def test_packed_tensors_follow_the_format_by_hand(make_model, tmp_path):
    model = make_model()
    rtn.quantize(model, bits=4, group_size=32)
    checkpoint.save(model, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    name = "model.layers.1.mlp.down_proj"
    linear = model.get_submodule(name)
    qweight, qzeros = state[f"{name}.qweight"], state[f"{name}.qzeros"]
    assert qweight.shape == (256 // 8, 128)
    assert qzeros.shape == (8, 128 // 8)
    for row, column in [(0, 0), (5, 77), (31, 127)]:
        word = qweight[row, column].item() & 0xFFFFFFFF
        expected = linear.codes[column, 8 * row : 8 * row + 8].tolist()
        assert [word >> (4 * i) & 15 for i in range(8)] == expected
    assert (qzeros == 0x77777777).all()  # zero points of 8, minus one
    assert torch.equal(state[f"{name}.scales"], linear.scales.t())
    assert torch.equal(state[f"{name}.g_idx"], torch.arange(256, dtype=torch.int32) // 32)


def test_loading_leaves_the_caller_s_config_and_tensors_alone(make_model, tmp_path):
    model = make_model()
    rtn.quantize(model, group_size=32)
    before = model.config.to_dict()
    versions = [p._version for p in model.parameters()]
    checkpoint.save(model, tmp_path)
    assert model.config.to_dict() == before
    assert [p._version for p in model.parameters()] == versions


@pytest.fixture
def saved(make_model, tmp_path):
    model = make_model()
    rtn.quantize(model, group_size=32)
    checkpoint.save(model, tmp_path)
    return tmp_path


def edit(folder, change):
    path = folder / "model.safetensors"
    state = load_file(path)
    change(state)
    save_file(state, path, metadata={"format": "pt"})


BROKEN = {
    "missing model.layers.0.mlp.up_proj.qweight": lambda s: s.pop(
        "model.layers.0.mlp.up_proj.qweight"
    ),
    "missing model.norm.weight": lambda s: s.pop("model.norm.weight"),
    "extra model.layers.9.thing": lambda s: s.update({"model.layers.9.thing": torch.zeros(1)}),
    "scales are not all finite": lambda s: s["model.layers.0.mlp.up_proj.scales"].fill_(
        float("nan")
    ),
    "g_idx names groups outside 0 to 3": lambda s: s["model.layers.0.mlp.up_proj.g_idx"].fill_(9),
    r"scales has shape \[1, 256\], not \[4, 256\]": lambda s: s.update(
        {"model.layers.0.mlp.up_proj.scales": s["model.layers.0.mlp.up_proj.scales"][:1].clone()}
    ),
    r"model.norm.weight has shape \[3\], not \[128\]": lambda s: s.update(
        {"model.norm.weight": torch.zeros(3)}
    ),
    "scales are all 0": lambda s: s["model.layers.0.mlp.up_proj.scales"].fill_(0),
    "model.norm.weight is torch.int32, not floating point": lambda s: s.update(
        {"model.norm.weight": s["model.norm.weight"].int()}
    ),
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_broken_checkpoint_is_one_paragraph(message, saved):
    edit(saved, BROKEN[message])
    with pytest.raises(BenchsuiteError, match=message) as caught:
        checkpoint.load(saved)
    assert str(saved) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("method", "part"), [("fp8_static", "input_scale"), ("nvfp4_w4a4", "input_global_scale")]
)
def test_a_scale_that_is_divided_by_is_above_0(method, part, make_model, tokens, tmp_path):
    """Of 0 every output is NaN; of a negative one nobody's format is."""
    model = make_model("llama")
    apply(method, model, tokens, seed=0, progress=None)
    checkpoint.save(model, tmp_path)
    edit(tmp_path, lambda state: state[f"model.layers.0.mlp.up_proj.{part}"].fill_(0))
    with pytest.raises(BenchsuiteError, match=f"up_proj: {part} is 0, not above 0"):
        checkpoint.load(tmp_path)


def test_truncated_missing_and_foreign_files_are_named(saved):
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BenchsuiteError, match=r"model\.safetensors: the header is longer"):
        checkpoint.load(saved)
    path.unlink()
    with pytest.raises(BenchsuiteError, match="the folder holds no weights"):
        checkpoint.load(saved)
    config = json.loads((saved / "config.json").read_text())
    config["quantization_config"]["quant_method"] = "fp8"
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(BenchsuiteError, match="method 'fp8' cannot be read: an unknown method"):
        checkpoint.load(saved)
    (saved / "config.json").write_text("{")
    with pytest.raises(BenchsuiteError, match=r"cannot read config\.json: it is not JSON"):
        checkpoint.load(saved)


def test_models_that_the_format_cannot_hold_are_refused(make_model, tmp_path):
    with pytest.raises(UsageError, match="no quantized layer"):
        checkpoint.save(make_model(), tmp_path)
    model = make_model()
    rtn.quantize(model, bits=5, group_size=32)
    with pytest.raises(UsageError, match="no 5-bit codes"):
        checkpoint.save(model, tmp_path, format="gptq")
    mixed = make_model()
    rtn.quantize(mixed, bits=4, group_size=32)
    layer = mixed.model.layers[0].mlp.up_proj
    mixed.model.layers[0].mlp.up_proj = QuantizedLinear(
        layer.codes, layer.scales, layer.zeros - 1, bits=4, group_size=32
    )
    with pytest.raises(
        UsageError,
        match=r"2 different grids, as in model\.layers\.0\..*, .*\.mlp\.up_proj",
    ):
        checkpoint.save(mixed, tmp_path, format="gptq")


@pytest.mark.parametrize(
    ("method", "options"),
    [
        (gptq, {"bits": 4, "group_size": 32}),
        (gptq, {"bits": 4, "group_size": 32, "sym": False, "desc_act": True}),
        (gptq, {"bits": 3, "group_size": 32}),
        (signround, {"bits": 4, "group_size": 32, "steps": 2}),  # scales of either sign
    ],
    ids=str,
)
@pytest.mark.stress
def test_gptqmodel_reads_our_checkpoints(
    method, options, make_model, tokens, tmp_path, monkeypatch
):
    monkeypatch.setenv("GPTQMODEL_CPU_WORKERS", "2")
    gptqmodel = pytest.importorskip("gptqmodel")
    model = make_model("llama", torch.float16, tie_word_embeddings=False)
    method.quantize(model, tokens, **options)
    checkpoint.save(model, tmp_path, tokenizer=word_tokenizer())
    theirs = gptqmodel.GPTQModel.load(
        str(tmp_path), device="cpu", backend=gptqmodel.BACKEND.GPTQ_TORCH
    ).model
    with torch.no_grad():
        ours_32 = model.float()(input_ids=tokens[:2]).logits
        got = theirs(input_ids=tokens[:2]).logits.float()
    # Their layers compute in half precision: 1 % of the logits' size.
    assert (got - ours_32).norm() < 0.01 * ours_32.norm()


@pytest.mark.parametrize("family", ["llama", "qwen2", "opt"])
def test_a_w8a8_model_loads_as_the_same_model(family, make_model, tokens, tmp_path):
    model = make_model(family, torch.bfloat16)
    smoothquant.quantize(model, tokens)
    checkpoint.save(model, tmp_path)
    assert_same(tmp_path, model, tokens)


def test_transformers_reads_our_w8a8_checkpoint(make_model, tokens, tmp_path):
    pytest.importorskip("compressed_tensors")
    from transformers import AutoModelForCausalLM

    model = make_model()
    smoothquant.quantize(model, tokens)
    checkpoint.save(model, tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    got, goal = logits(theirs, tokens[:2]), logits(model, tokens[:2])
    # Theirs covers a token with max / 127.5, ours with max / 127.
    assert (got - goal).norm() < 0.02 * goal.norm()
    for name, linear in quantized_linears(model).items():
        weight = theirs.get_submodule(name).weight
        torch.testing.assert_close(weight, linear.dequantize(), rtol=1e-3, atol=0)


def test_llm_compressor_s_w8a8_checkpoint_is_read(tokens, tmp_path, monkeypatch):
    goal = saved_by_llm_compressor("W8A8", tokens[:2], tmp_path, monkeypatch)
    got = logits(checkpoint.load(tmp_path), tokens[:2])
    assert (got - goal).norm() < 0.02 * goal.norm()


W8A8_FAULTS = {
    "strategy of its weights is 'tensor'": ("weights", "strategy", "tensor"),
    "num_bits of its weights is 4": ("weights", "num_bits", 4),
    "its activation scales are fixed": ("input_activations", "dynamic", False),
}


@pytest.mark.parametrize("message", W8A8_FAULTS)
def test_other_kinds_of_compressed_tensors_are_refused(message, make_model, tokens, tmp_path):
    model = make_model()
    smoothquant.quantize(model, tokens)
    checkpoint.save(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    part, key, value = W8A8_FAULTS[message]
    config["quantization_config"]["config_groups"]["group_0"][part][key] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(BenchsuiteError, match=message):
        checkpoint.load(tmp_path)


def test_each_method_has_the_format_that_engines_expect_of_it(make_model, tokens):
    found = {}
    for name, method, options in [
        ("rtn", rtn, {"group_size": 32}),
        ("awq", awq, {"group_size": 32}),
        ("smoothquant", smoothquant, {}),
    ]:
        model = make_model()
        method.quantize(model, *([] if method is rtn else [tokens]), **options)
        found[name] = checkpoint.format_for(quantized_linears(model))
    assert found == {"rtn": "gptq", "awq": "awq", "smoothquant": "compressed-tensors"}


def test_a_rotated_model_is_not_saved_without_its_rotations(make_model, tokens, tmp_path):
    model = make_model()
    quarot.quantize(model, tokens)
    with pytest.raises(UsageError, match="rounds or transforms what its layers read"):
        checkpoint.save(model, tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_w8a8_does_not_pass_for_weights_only(make_model, tokens, tmp_path):
    model = make_model()
    smoothquant.quantize(model, tokens)
    with pytest.raises(UsageError, match="hold weights only"):
        checkpoint.save(model, tmp_path, format="gptq")
