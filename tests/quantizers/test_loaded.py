"""Models at the precisions that their users load them in."""

import importlib

import pytest
import torch

from benchsuite.errors import CellCannotRun
from benchsuite.quantizers import loaded
from benchsuite.quantizers.linear import QuantizedLinear
from tests.models import tiny

IDS = torch.arange(3, 19)[None]


def built():
    return tiny.model("qwen2", vocab_size=258, intermediate_size=128)


def logits(model):
    with torch.no_grad():
        return model(IDS).logits.float()


@pytest.mark.parametrize(("precision", "error"), [("8bit", 0.1), ("4bit", 0.5)])
def test_bitsandbytes_layers_compute_nearly_the_same_and_leave_the_shared_weights_alone(
    precision, error
):
    library = pytest.importorskip("bitsandbytes", reason="the extra bitsandbytes is not installed")
    model = built()
    kept = {name: (p, p.clone()) for name, p in model.named_parameters()}
    before = logits(model)
    loaded.reduce(model, precision, own=False)

    difference = (logits(model) - before).norm() / before.norm()
    assert 0 < difference < error
    for shared, copy in kept.values():
        assert torch.equal(shared, copy)
    kind = {"8bit": library.nn.Linear8bitLt, "4bit": library.nn.Linear4bit}[precision]
    assert isinstance(model.model.layers[1].mlp.down_proj, kind)
    assert type(model.lm_head) is torch.nn.Linear


def test_embedded_models_are_rounded_by_our_own_quantizer():
    model = tiny.model("llama", vocab_size=258, hidden_size=128, intermediate_size=128)
    before = logits(model)
    loaded.reduce(model, "8bit", own=True)
    assert isinstance(model.model.layers[0].self_attn.q_proj, QuantizedLinear)
    assert 0 < (logits(model) - before).norm() / before.norm() < 0.1


def test_gptq_reads_calibration_text_and_is_nearer_on_it_than_rounding():
    batch = torch.randint(5, 258, (8, 32), generator=torch.Generator().manual_seed(0))

    def made(precision):
        model = tiny.model("llama", vocab_size=258, hidden_size=128, intermediate_size=128)
        with torch.no_grad():
            before = model(batch).logits
            changed = loaded.reduce(model, precision, own=True, calibration=lambda: batch)
            return float((changed(batch).logits - before).norm())

    assert 0 < made("gptq_w4") < made("4bit")
    assert loaded.description("gptq_w4", own=True) == "benchsuite GPTQ W4 g128"
    with pytest.raises(ValueError, match="calibration text"):
        loaded.reduce(built(), "gptq_w4", own=True)


def test_full_precision_is_the_model_itself():
    model = built()
    before = logits(model)
    assert torch.equal(logits(loaded.reduce(model, "fp16", own=False)), before)


def test_without_the_library_the_cell_is_skipped_with_the_command(monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(CellCannotRun, match=r"benchsuite\[bitsandbytes\]"):
        loaded.reduce(built(), "8bit", own=False)


def test_the_record_can_say_how_a_model_was_made():
    assert loaded.description("fp16", own=False) == "none"
    assert loaded.description("8bit", own=False) == "bitsandbytes LLM.int8()"
    assert loaded.description("4bit", own=False) == "bitsandbytes NF4"
    assert loaded.description("8bit", own=True) == "benchsuite RTN W8 g128"
