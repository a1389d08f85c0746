"""Numbers that no grid can hold: every own method refuses them by the layer's name."""

import pytest
import torch

from benchsuite.errors import BenchsuiteError
from benchsuite.quantizers.registry import OWN, REFERENCE, apply

METHODS = sorted(name for name in OWN if not name.endswith(("_w8", "_w5", "_w3", "_w2")))
CALIBRATED = [name for name in METHODS if OWN[name].calibrated]
LAYER = r"model\.layers\.1\."


def quantized(name, model, tokens):
    options = {"group_size": 32, "iterations": 2, "steps": 2, "alpha": 0.5}
    return apply(name, model, tokens, seed=0, progress=None, **options)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", METHODS)
def test_a_weight_that_is_no_number_is_refused_naming_the_layer(make_model, tokens, name, bad):
    assert name != REFERENCE
    model = make_model()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 4] = bad
    with pytest.raises(BenchsuiteError, match=LAYER):
        quantized(name, model, tokens)


@pytest.mark.parametrize("name", CALIBRATED)
def test_infinite_activations_are_refused_naming_the_layer(make_model, tokens, name):
    model = make_model()
    norm = model.model.layers[1].input_layernorm
    norm.weight = torch.nn.Parameter(torch.full_like(norm.weight, float("inf")))
    with pytest.raises(BenchsuiteError, match=LAYER):
        quantized(name, model, tokens)


@pytest.mark.parametrize("name", ["rtn_w4", "gptq_w4", "hqq_w4", "adaround_w4", "awq_w4"])
def test_a_weight_too_large_for_half_precision_scales_is_refused(make_model, tokens, name):
    model = make_model(dtype=torch.bfloat16)
    with torch.no_grad():
        model.model.layers[1].self_attn.o_proj.weight[3, 4] = 3e6
    with pytest.raises(BenchsuiteError, match=LAYER + "self_attn.o_proj"):
        quantized(name, model, tokens)
