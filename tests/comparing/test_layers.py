"""Each layer of a candidate alone: plain, ours, and packed by other libraries."""

import copy

import pytest
import torch

from benchsuite.comparing.layers import layers, weight_of
from benchsuite.comparing.measure import read
from benchsuite.comparing.subject import open_subject
from benchsuite.errors import UsageError
from benchsuite.quantizers import awq, rtn
from tests.models import tiny

IDS = torch.randint(300, (256,), generator=torch.Generator().manual_seed(0))


def test_a_layer_alone_costs_what_the_model_with_it_alone_costs():
    base, candidate, one = tiny.model(), tiny.model(), tiny.model()
    rtn.quantize(candidate, bits=3, group_size=32)
    name = "model.layers.1.mlp.down_proj"
    one.get_submodule("model.layers.1.mlp").down_proj = candidate.get_submodule(name)
    before = copy.deepcopy(base.state_dict())
    found = {layer.name: layer for layer in layers(base, candidate, IDS.view(-1, 64))}
    assert len(found) == 2 * 7
    alone = read(base, one, IDS, seq_len=64, floor=False).tokens.kl.mean()
    assert found[name].kl == pytest.approx(alone, rel=1e-6)
    weight = base.get_submodule(name).weight.detach()
    off = candidate.get_submodule(name).dequantize() - weight
    assert found[name].error == pytest.approx(float(off.norm() / weight.norm()), rel=1e-5)
    assert all(torch.equal(before[key], tensor) for key, tensor in base.state_dict().items())


def test_a_method_that_moves_scales_is_refused():
    base, candidate = tiny.model(), tiny.model()
    with torch.no_grad():
        for model in (base, candidate):  # some channels are larger, so that AWQ moves them
            model.model.layers[0].input_layernorm.weight.data[:8] = 30
    awq.quantize(candidate, IDS.view(4, 64), bits=3, group_size=32)
    with pytest.raises(UsageError, match="a layer of the candidate alone has no meaning"):
        layers(base, candidate, IDS.view(-1, 64))


def packings():
    from transformers import BitsAndBytesConfig, TorchAoConfig

    def nf4():
        pytest.importorskip("bitsandbytes")
        return BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        )

    def int8():
        pytest.importorskip("torchao")
        from torchao.quantization import Int8WeightOnlyConfig

        return TorchAoConfig(Int8WeightOnlyConfig())

    return {"bitsandbytes": (nf4, 0.06, 0.13), "torchao": (int8, 0.003, 0.01)}


@pytest.mark.parametrize("library", ["bitsandbytes", "torchao"])
def test_what_another_library_packs_tells_its_weight(library, tmp_path):
    from transformers import AutoModelForCausalLM

    made, low, high = packings()[library]
    options = {"hidden_size": 128, "intermediate_size": 256, "dtype": torch.bfloat16}
    plain = tiny.checkpoint(tmp_path / "plain", **options)
    packed = AutoModelForCausalLM.from_pretrained(
        plain, quantization_config=made(), device_map={"": "cpu"}, trust_remote_code=False
    )
    packed.save_pretrained(tmp_path / "packed")
    tiny.tokenizer().save_pretrained(tmp_path / "packed")
    base, subject = tiny.model(**options), open_subject(str(tmp_path / "packed"))
    assert subject.read_by == f"transformers with {library}"
    assert subject.memory_bytes < 0.8 * 2 * sum(p.numel() for p in base.parameters())
    layer, original = (m.model.layers[0].mlp.up_proj for m in (subject.model, base))
    off = weight_of(layer) - original.weight.float()
    assert low < off.norm() / original.weight.float().norm() < high
    found = layers(base, subject.model, IDS.view(-1, 64))
    assert all(low < each.error < high for each in found)
