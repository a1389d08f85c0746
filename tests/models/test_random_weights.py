from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from benchsuite import catalog
from benchsuite.catalog import Sources
from benchsuite.errors import BenchsuiteError, CellCannotRun
from benchsuite.models import load, random_weights
from benchsuite.quantizers import gptq, quarot
from tests.models import tiny

TYPES = ["llama", "qwen2", "mistral", "opt"]


def build(model_type="llama", seed=3, dtype="float32", **changes):
    entry = tiny.entry(model_type=model_type, **changes)
    return random_weights.build(entry, device="cpu", dtype=dtype, seed=seed)


@pytest.mark.parametrize("model_type", TYPES)
def test_structure_and_buffers_are_those_of_from_config(model_type):
    built = build(model_type)
    usual = AutoModelForCausalLM.from_config(built.config)
    assert [(n, p.shape) for n, p in built.named_parameters()] == [
        (n, p.shape) for n, p in usual.named_parameters()
    ]
    assert [type(m) for m in built.modules()] == [type(m) for m in usual.modules()]
    for (name, buffer), (_, expected) in zip(
        built.named_buffers(), usual.named_buffers(), strict=True
    ):
        assert torch.equal(buffer, expected), name
    assert all(p.device.type == "cpu" for p in built.parameters())


@pytest.mark.parametrize("model_type", TYPES)
def test_logits_are_finite_in_float16_and_not_degenerate(model_type):
    logits = build(model_type, dtype="float16")(torch.arange(100)[None]).logits.float()
    assert torch.isfinite(logits).all()
    assert 0.3 < logits.std() < 3


def test_the_seed_decides_and_global_state_is_untouched():
    before = torch.get_rng_state()
    first, again, other = build(seed=1), build(seed=1), build(seed=2)
    assert torch.equal(torch.get_rng_state(), before)
    for (name, a), b, c in zip(
        first.named_parameters(), again.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(a, b), name
        assert torch.equal(a, c) == (a.dim() == 1), name  # norms and biases are constants


def test_tied_embeddings_stay_one_tensor():
    tied = build(tie_word_embeddings=True)
    assert tied.lm_head.weight is tied.model.embed_tokens.weight
    assert build(tie_word_embeddings=False).lm_head.weight is not tied.model.embed_tokens.weight


def test_a_rehearsal_brings_a_tokenizer_whose_ids_all_exist():
    entry = tiny.entry(vocab_size=4000)
    loaded = load(entry, Sources(weights="random", seed=5))
    assert (loaded.weights, loaded.stand_in) == ("random", None)
    assert loaded.digest.endswith(":5")
    ids = loaded.tokenizer("Some text, with 12 digits", return_tensors="pt").input_ids
    assert loaded.model(ids).logits.isfinite().all()
    for known in catalog.MODELS.values():
        if known.shape:
            random_weights.rehearsal_tokenizer(known)


def test_a_model_without_a_shape_says_where_it_would_come_from():
    entry = catalog.ModelEntry("hub_id_only", "owner/name")
    with pytest.raises(CellCannotRun, match="--local hub_id_only=PATH"):
        load(entry, Sources(weights="random"))


def test_a_vocabulary_below_the_tokenizers_cannot_be_rehearsed():
    with pytest.raises(BenchsuiteError, match="vocabulary of 300 ids is smaller"):
        load(tiny.entry(), Sources(weights="random"))


def test_llama_3_2_keeps_its_stretched_positions_and_is_quantized():
    entry = catalog.model("llama3_2_1b_instruct")
    small = {"num_hidden_layers": 2, "hidden_size": 256, "intermediate_size": 512}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 1, "vocab_size": 2048}
    entry = replace(entry, shape={**entry.shape, **small, **heads})
    model = random_weights.build(entry, device="cpu", dtype="float32", seed=1)
    rope = model.config.rope_parameters
    assert (rope["rope_type"], rope["factor"], rope["rope_theta"]) == ("llama3", 32.0, 500000.0)
    # The slowest wave is stretched by the factor, the fastest left alone.
    plain = 500000.0 ** -(torch.arange(0, 64, 2) / 64)
    waves = model.model.rotary_emb.inv_freq
    assert waves[0] == plain[0]
    assert waves[-1] == pytest.approx(plain[-1].item() / 32)
    ids = torch.arange(64).view(2, 32)
    with torch.no_grad():
        goal = model(ids).logits
        architecture = quarot.rotate(model, seed=3)
        off = (model(ids).logits - goal).abs().max()
    assert off < 1e-4 * goal.abs().max()
    assert len(gptq.quantize(model, ids, architecture=architecture).layers) == 14
