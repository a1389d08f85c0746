"""What a checkpoint's format holds of a model: digests, act order, widths, generation settings."""

import json

import pytest
import torch
from transformers import GenerationConfig

from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.evaluation.generation import _end_ids
from benchsuite.quantizers import checkpoint, gptq, rtn
from benchsuite.quantizers.linear import QuantizedLinear, model_digest
from tests.quantizers.conftest import assert_same


def test_equal_layers_have_equal_digests_in_whatever_form():
    codes = torch.randint(0, 16, (64, 128), dtype=torch.uint8)
    scales, middle = torch.rand(64, 4).half(), torch.full((64, 4), 8)
    plain = torch.arange(128) // 32
    form = {"bits": 4, "group_size": 32}
    goal = QuantizedLinear(codes, scales, None, **form).digest
    assert QuantizedLinear(codes, scales, middle, **form).digest == goal
    assert QuantizedLinear(codes, scales, None, g_idx=plain, **form).digest == goal
    assert QuantizedLinear(codes, scales, None, g_idx=plain.flip(0), **form).digest != goal
    middle[0, 0] = 7
    assert QuantizedLinear(codes, scales, middle, **form).digest != goal


@pytest.mark.parametrize("group_size", [-1, 128, 32])
def test_act_order_is_the_same_model_before_and_after(group_size, make_model, tokens, tmp_path):
    model = make_model()
    done = gptq.quantize(model, tokens, bits=4, group_size=group_size, desc_act=True)
    checkpoint.save(model, tmp_path)
    assert model_digest(checkpoint.load(tmp_path)) == done.weights_sha256


def test_a_symmetric_model_keeps_its_digest_in_autoawq_s_format(make_model, tmp_path):
    model = make_model()
    done = rtn.quantize(model, bits=4, group_size=32)
    checkpoint.save(model, tmp_path, format="awq")
    assert model_digest(checkpoint.load(tmp_path)) == done.weights_sha256


def test_a_narrower_last_group_is_not_written_as_awq(make_model, tokens, tmp_path):
    model = make_model("llama", hidden_size=160, intermediate_size=96, head_dim=32)
    rtn.quantize(model, bits=4, group_size=64, sym=False)
    with pytest.raises(UsageError) as caught:
        checkpoint.save(model, tmp_path / "awq", format="awq")
    told = "no narrower last group (160 inputs are no multiple of the group size 64), as in model."
    assert told in str(caught.value)
    assert not (tmp_path / "awq").exists()
    checkpoint.save(model, tmp_path / "own")
    assert checkpoint.read_settings(tmp_path / "own")["checkpoint_format"] == "gptq_v2"
    assert_same(tmp_path / "own", model, tokens)


UNHOLDABLE = {
    "no 5-bit codes": {"bits": 5},
    "no 48 inputs and 32 outputs": {"shape": (32, 48)},
    "no scales beyond float16": {"scale": 1e-9},
    "no fractional zero points": {"free": True},
}


@pytest.mark.parametrize("told", UNHOLDABLE)
def test_what_a_format_does_not_hold_is_refused_by_layer_before_anything_is_written(
    told, make_model, tmp_path
):
    model = make_model("llama", hidden_size=UNHOLDABLE[told].get("shape", (0, 128))[1], head_dim=32)
    name = "model.layers.0.self_attn.q_proj"
    n_out, n_in = UNHOLDABLE[told].get("shape", model.get_submodule(name).weight.shape)
    model.model.layers[0].self_attn.q_proj = QuantizedLinear(
        torch.zeros(n_out, n_in, dtype=torch.uint8),
        torch.full((n_out, 1), UNHOLDABLE[told].get("scale", 1.0)),
        torch.full((n_out, 1), 1.5) if UNHOLDABLE[told].get("free") else None,
        bits=UNHOLDABLE[told].get("bits", 4),
        group_size=-1,
        free_zeros=UNHOLDABLE[told].get("free", False),
    )
    with pytest.raises(UsageError, match=f"{told}.* as in {name}"):
        checkpoint.save(model, tmp_path / "saved", format="gptq")
    assert not (tmp_path / "saved").exists()


def test_generation_settings_are_saved_as_they_are_and_read_back(make_model, tmp_path):
    model = make_model()
    rtn.quantize(model, bits=4, group_size=32)
    model.generation_config = GenerationConfig(
        temperature=0.6, do_sample=False, eos_token_id=[2, 5], repetition_penalty=1.1
    )
    checkpoint.save(model, tmp_path)
    back = checkpoint.load(tmp_path)
    written = json.loads((tmp_path / "generation_config.json").read_text())
    assert written["temperature"] == 0.6
    assert written["do_sample"] is False
    assert back.generation_config.repetition_penalty == 1.1
    tokenizer = type("Tokenizer", (), {"eos_token_id": 2})
    assert _end_ids(back, tokenizer) == {2, 5}
    (tmp_path / "generation_config.json").write_text("{")
    with pytest.raises(BenchsuiteError, match=r"cannot read generation_config\.json"):
        checkpoint.load(tmp_path)
