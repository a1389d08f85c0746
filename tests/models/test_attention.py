"""Gemma 2's attention keeps its soft cap, which PyTorch's own attention does not have."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from benchsuite.models import attention, loading
from benchsuite.quantizers import cache, checkpoint, rtn
from tests.models import tiny

CAPS = {"attn_logit_softcapping": 2.0, "head_dim": 16, "sliding_window": 24}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Gemma 2 whose scores go far beyond its cap."""
    return tiny.checkpoint(tmp_path_factory.mktemp("gemma2"), model_type="gemma2", **CAPS)


@pytest.fixture
def ids():
    return torch.randint(2, 258, (2, 40), generator=torch.Generator().manual_seed(0))


def reference(folder, **inputs):
    """transformers' own attention, spelt out."""
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    return logits(model.eval(), **inputs)


def logits(model, **inputs):
    with torch.no_grad():
        return model(**inputs).logits


@pytest.mark.parametrize("score_bytes", [2**28, 4 * 2 * 4 * 40 * 7])
def test_a_loaded_model_is_the_capped_one(folder, ids, monkeypatch, score_bytes):
    monkeypatch.setattr(attention, "_SCORE_BYTES", score_bytes)  # seven queries at a time
    model = loading.load_folder(folder, "here", "cpu", "float32")
    expected = reference(folder, input_ids=ids)
    torch.testing.assert_close(logits(model, input_ids=ids), expected, rtol=1e-4, atol=1e-4)
    model.set_attn_implementation("sdpa")
    assert (logits(model, input_ids=ids) - expected).abs().max() > 0.1


def test_padded_prompts_and_a_growing_cache_are_capped_too(folder, ids):
    model = loading.load_folder(folder, "here", "cpu", "float32")
    mask = torch.ones_like(ids)
    mask[0, :9] = 0
    places = (mask.cumsum(1) - 1).clamp(min=0)
    expected = reference(folder, input_ids=ids, attention_mask=mask, position_ids=places)
    given = {"input_ids": ids, "attention_mask": mask, "position_ids": places}
    begun = {name: x[:, :30] for name, x in given.items()}
    with torch.no_grad():
        past = model(**begun, use_cache=True).past_key_values
        for at in range(30, 40):
            step = {"input_ids": ids[:, at : at + 1], "position_ids": places[:, at : at + 1]}
            made = model(**step, attention_mask=mask[:, : at + 1], past_key_values=past).logits
            torch.testing.assert_close(made[:, 0], expected[:, at], rtol=1e-4, atol=1e-4)


def test_a_saved_checkpoint_and_a_rounded_cache_keep_it(folder, ids, tmp_path):
    model = loading.load_folder(folder, "here", "cpu", "float32")
    rtn.quantize(model, bits=8, group_size=32)
    made = logits(model, input_ids=ids)
    checkpoint.save(model, tmp_path)
    assert torch.equal(logits(checkpoint.load(tmp_path), input_ids=ids), made)
    model = loading.load_folder(folder, "here", "cpu", "float32")
    expected = logits(model, input_ids=ids)
    cache.quantize(model, numbers="int8")
    assert 0 < (logits(model, input_ids=ids) - expected).norm() / expected.norm() < 0.05
