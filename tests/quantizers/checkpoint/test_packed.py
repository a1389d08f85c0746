"""compressed-tensors' packed weights, and layers of several widths in one checkpoint."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from benchsuite.engines import serving
from benchsuite.errors import BenchsuiteError
from benchsuite.quantizers import checkpoint, gptq, rtn
from benchsuite.quantizers.checkpoint import packed
from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.layers import replace
from benchsuite.quantizers.linear import (
    QuantizedLinear,
    model_digest,
    quantized_linear,
    quantized_linears,
)
from tests.quantizers.conftest import logits, saved_by_llm_compressor, word_tokenizer

PACKED = packed.FORMAT


def config_of(folder):
    return json.loads((folder / "config.json").read_text())["quantization_config"]


def round_mixed(model, bits, group_size=32):
    """Round the k-th linear of every block to ``bits[k]``."""
    for block in model.model.layers:
        paths = [name for name, module in block.named_modules() if isinstance(module, nn.Linear)]
        for path, width in zip(paths, bits, strict=False):
            grid, linear = QuantizationGrid(width, group_size), block.get_submodule(path)
            replace(block, path, quantized_linear(linear, grid, *grid.round_weight(linear.weight)))
    return model


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("columns", [64, 72, 20])
def test_codes_lie_as_compressed_tensors_packs_them(bits, columns):
    theirs = pytest.importorskip("compressed_tensors.compressors.pack_quantized")
    generator = torch.Generator().manual_seed(bits)
    codes, zeros = (
        torch.randint(0, 2**bits, shape, generator=generator, dtype=torch.uint8)
        for shape in ((24, columns), (24, 2))
    )
    width = columns // 2
    scales = torch.rand(24, 2, generator=generator)
    linear = QuantizedLinear(codes, scales, zeros, bits=bits, group_size=width)
    parts = packed.parts(linear)
    signed, signed_zeros = ((x.int() - 2 ** (bits - 1)).to(torch.int8) for x in (codes, zeros))
    assert torch.equal(parts["weight_packed"], theirs.pack_to_int32(signed, bits))
    assert torch.equal(
        parts["weight_zero_point"], theirs.pack_to_int32(signed_zeros, bits, packed_dim=0)
    )
    found = {part: parts.get(part) for part in (*parts, "bias")}
    kind = {"bits": bits, "group_size": width, "sym": False}
    fault, back = packed.layer(nn.Linear(columns, 24), found, kind)
    assert not fault
    assert back.digest == linear.digest


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("llama", {"bits": 4, "group_size": 32}),
        ("qwen2", {"bits": 3, "group_size": -1, "sym": False}),
        ("opt", {"bits": 6, "group_size": 64}),
    ],
    ids=str,
)
def test_a_saved_model_loads_as_the_same_model(family, options, make_model, tokens, tmp_path):
    model = make_model(family, torch.bfloat16)
    rtn.quantize(model, **options)
    checkpoint.save(model, tmp_path, format=PACKED)
    back = checkpoint.load(tmp_path)
    assert model_digest(back) == model_digest(model)
    assert torch.equal(logits(back, tokens[:2]), logits(model, tokens[:2]))


@pytest.mark.parametrize("format", ["gptq", PACKED])
def test_layers_of_several_widths_come_back_bit_by_bit(format, make_model, tokens, tmp_path):
    widths = (4, 2, 4, 8, 3, 3, 4) if format == "gptq" else (4, 2, 4, 8, 3, 6, 5)
    model = round_mixed(make_model(dtype=torch.bfloat16), widths)
    assert checkpoint.format_for(quantized_linears(model)) == format
    checkpoint.save(model, tmp_path)
    back = checkpoint.load(tmp_path)
    assert [m.bits for m in quantized_linears(back).values()] == 2 * list(widths)
    assert model_digest(back) == model_digest(model)
    assert torch.equal(logits(back, tokens[:2]), logits(model, tokens[:2]))
    told = "AutoGPTQ" if format == "gptq" else "packed compressed-tensors"
    assert f"vLLM reads {told} checkpoints of 4 and 8 bits, not of 2, 3, 4" in serving.unreadable(
        checkpoint.read_settings(tmp_path)
    )


@pytest.mark.parametrize(
    ("widths", "rules"),
    [
        ((8, 8, 8, 4, 4, 4, 4), [r"self_attn\.(q_proj|k_proj|v_proj|qkv_proj)$"]),
        ((4, 4, 8, 4, 8, 4, 4), [r"self_attn\.(v_proj)$", r"mlp\.(gate_proj)$"]),
    ],
)
def test_a_rule_names_what_an_engine_makes_of_linears_that_are_alike(
    widths, rules, make_model, tmp_path
):
    model = round_mixed(make_model(), widths)
    checkpoint.save(model, tmp_path)
    dynamic = config_of(tmp_path)["dynamic"]
    wide = {"bits": 8, "group_size": 32}
    assert dynamic == {rf"+:^model\.layers\.{i}\.{rule}": wide for i in range(2) for rule in rules}
    assert config_of(tmp_path)["bits"] == 4
    assert not serving.unreadable(checkpoint.read_settings(tmp_path))


@pytest.mark.parametrize("widths", [(4, 4, 8, 4, 4, 4, 4), (4, 4, 4, 4, 8, 4, 4)])
def test_vllm_is_not_given_linears_of_several_widths_that_it_runs_as_one(
    widths, make_model, tmp_path
):
    group = "qkv" if widths[2] == 8 else "gate_up"
    told = serving.write(round_mixed(make_model(), widths), tmp_path)
    assert told.startswith(f"vLLM runs the linears {group} of a block as one")
    alike = round_mixed(make_model(), (8, 8, 8, 4, 8, 8, 4))
    assert not serving.write(alike, tmp_path / "alike")


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_transformers_with_compressed_tensors_has_the_same_weights(
    dtype, make_model, tokens, tmp_path
):
    pytest.importorskip("compressed_tensors")
    from transformers import AutoModelForCausalLM

    model = round_mixed(make_model(dtype=dtype), (4, 2, 4, 8, 3, 6, 5))
    checkpoint.save(model, tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype)
    got = logits(theirs, tokens[:2])  # unpacks what was still packed
    for name, linear in quantized_linears(model).items():
        # Products of a code and a half-precision scale: rounded once there, once here.
        assert torch.equal(theirs.get_submodule(name).weight.float(), linear.dequantize().float())
    assert torch.equal(got, logits(model, tokens[:2]))


@pytest.mark.stress
def test_gptqmodel_reads_layers_of_several_widths(make_model, tokens, tmp_path, monkeypatch):
    monkeypatch.setenv("GPTQMODEL_CPU_WORKERS", "2")
    gptqmodel = pytest.importorskip("gptqmodel")

    model = round_mixed(
        make_model(dtype=torch.float16, tie_word_embeddings=False), (4, 2, 4, 8, 3, 3, 4)
    )
    checkpoint.save(model, tmp_path, format="gptq", tokenizer=word_tokenizer())
    theirs = gptqmodel.GPTQModel.load(
        str(tmp_path), device="cpu", backend=gptqmodel.BACKEND.GPTQ_TORCH, dtype=torch.float16
    ).model
    for name, linear in quantized_linears(model).items():
        other = theirs.get_submodule(name)
        assert other.bits == linear.bits
        assert torch.equal(other.dequantize_weight().t(), linear.dequantize())
    with torch.no_grad():
        ours_32 = model.float()(input_ids=tokens[:2]).logits
        got = theirs(input_ids=tokens[:2]).logits.float()
    assert (got - ours_32).norm() < 0.01 * ours_32.norm()


@pytest.mark.stress
def test_llm_compressor_s_packed_checkpoint_is_read(tokens, tmp_path, monkeypatch):
    goal = saved_by_llm_compressor("W4A16_ASYM", tokens[:2], tmp_path, monkeypatch)
    back = checkpoint.load(tmp_path)
    assert {m.bits for m in quantized_linears(back).values()} == {4}
    got = logits(back, tokens[:2])
    assert (got - goal).norm() < 0.01 * goal.norm()


FAULTS = {
    "num_bits of its weights is 9": {"num_bits": 9},
    "strategy of its weights is 'tensor'": {"strategy": "tensor"},
    "actorder of its weights is 'group'": {"actorder": "group"},
    "type of its weights is 'float'": {"type": "float"},
    "group_size is 0": {"group_size": 0},
}


@pytest.mark.parametrize("message", FAULTS)
def test_what_cannot_be_followed_is_named(message, make_model, tmp_path):
    model = make_model()
    rtn.quantize(model, group_size=32)
    checkpoint.save(model, tmp_path, format=PACKED)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"]["config_groups"]["group_0"]["weights"] |= FAULTS[message]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(BenchsuiteError, match=message):
        checkpoint.load(tmp_path)


def test_a_layer_that_no_group_names_keeps_its_weight(make_model, tokens, tmp_path):
    model = round_mixed(make_model(), (4, 4, 4, 4))  # the MLPs stay
    checkpoint.save(model, tmp_path, format=PACKED)
    back = checkpoint.load(tmp_path)
    assert len(quantized_linears(back)) == 8
    assert torch.equal(logits(back, tokens[:2]), logits(model, tokens[:2]))


def test_a_wrong_shape_is_named(make_model, tmp_path):
    model = make_model()
    rtn.quantize(model, group_size=32)
    checkpoint.save(model, tmp_path, format=PACKED)
    path, name = tmp_path / "model.safetensors", "model.layers.0.mlp.up_proj.weight_shape"
    state = load_file(path)
    save_file(state | {name: torch.tensor([1, 2])}, path, metadata={"format": "pt"})
    with pytest.raises(BenchsuiteError, match=r"weight_shape says \[1, 2\], not \[256, 128\]"):
        checkpoint.load(tmp_path)


def test_act_order_and_narrower_groups_stay_with_autogptq(make_model, tokens, tmp_path):
    for options in ({"desc_act": True, "group_size": 32}, {"group_size": 48}):
        model = make_model()
        gptq.quantize(model, tokens, **options)
        assert checkpoint.format_for(quantized_linears(model)) == "gptq"
        with pytest.raises(BenchsuiteError, match=r"no (act order|narrower last group)"):
            checkpoint.save(model, tmp_path, format=PACKED)
