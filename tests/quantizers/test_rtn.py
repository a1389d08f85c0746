"""Round to nearest on a whole model."""

import pytest
import torch

from benchsuite.errors import UsageError
from benchsuite.models.architecture import architecture_of
from benchsuite.quantizers import rtn
from benchsuite.quantizers.linear import quantized_linears, stored_bytes


def test_every_weight_is_within_half_a_step(make_model):
    model, original = make_model(), make_model()
    result = rtn.quantize(model, bits=4, group_size=32, sym=False)
    weights = dict(architecture_of(original).named_linears(original))
    for name, linear in quantized_linears(model).items():
        step = linear.scales.float().repeat_interleave(32, 1)
        # Half a step, half a step more where the zero point was rounded too, and float16 scales.
        off = (linear.dequantize() - weights[name].weight).abs()
        assert (off <= 1.02 * step).all()
        assert (off > 0.52 * step).float().mean() < 0.05
    assert [layer.name for layer in result.layers] == list(weights)
    assert all(layer.error is None for layer in result.layers)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_sizes_are_those_of_the_state(bits, make_model):
    model = make_model(dtype=torch.bfloat16, tie_word_embeddings=True)
    before = stored_bytes(model)
    n_weights = sum(m.weight.numel() for _, m in architecture_of(model).named_linears(model))
    result = rtn.quantize(model, bits=bits, group_size=64)
    assert result.size_before_bytes == before
    saved = before - result.size_after_bytes
    assert saved == n_weights * 2 - n_weights * bits // 8 - n_weights // 64 * 2
    assert result.compression_ratio == before / result.size_after_bytes


def test_tied_weights_count_once(make_model):
    tied = stored_bytes(make_model(tie_word_embeddings=True))
    untied = stored_bytes(make_model(tie_word_embeddings=False))
    assert untied - tied == 256 * 128 * 4


def test_more_bits_are_nearer(make_model, tokens):
    with torch.no_grad():
        goal = make_model()(input_ids=tokens).logits
        off = []
        for bits in (2, 3, 4, 8):
            model = make_model()
            rtn.quantize(model, bits=bits)
            off.append((model(input_ids=tokens).logits - goal).norm().item())
    assert off == sorted(off, reverse=True)


def test_equal_models_give_equal_digests(make_model):
    digests = {rtn.quantize(make_model(), bits=b).weights_sha256 for b in (3, 3, 4)}
    assert len(digests) == 2


def test_a_model_is_quantized_once(make_model):
    model = make_model()
    rtn.quantize(model)
    with pytest.raises(UsageError, match="freshly leased"):
        rtn.quantize(model)
