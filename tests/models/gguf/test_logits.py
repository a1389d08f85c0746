"""A model written as a GGUF file and read again computes what it computed."""

import pytest
import torch

pytest.importorskip("gguf")

from transformers import AutoModelForCausalLM

from benchsuite.models.gguf import dequantized_folder
from tests.models.gguf import files

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def logits(model):
    """Of 24 tokens: more than a sliding window has."""
    ids = torch.randint(0, 250, (2, 24), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model(ids).logits


def read_again(path, cache):
    return AutoModelForCausalLM.from_pretrained(
        dequantized_folder(path, cache), dtype=torch.float32
    ).eval()


def assert_same(built, path, cache):
    read = read_again(path, cache)
    assert read.config.model_type == built.config.model_type
    torch.testing.assert_close(logits(read), logits(built), rtol=1e-4, atol=1e-4)
    return read


@pytest.mark.parametrize("model_type", files.ARCHITECTURES)
def test_every_architecture_computes_what_the_original_did(model_type, tmp_path):
    built = files.model(model_type)
    read = assert_same(built, files.write(tmp_path / "a.gguf", built), tmp_path / "cache")
    assert read.config.tie_word_embeddings == built.config.tie_word_embeddings


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_every_type_of_matrix_computes_what_its_values_do(kind, tmp_path):
    built = files.model("llama")
    plain = logits(built)
    path = files.write(tmp_path / "a.gguf", built, kind)  # rounds the model's own weights
    assert not torch.equal(logits(built), plain)
    assert_same(built, path, tmp_path / "cache")


def test_half_precision_stays_half_precision_in_the_folder(tmp_path):
    for kind, dtype in (("F16", torch.float16), ("BF16", torch.bfloat16), ("Q8_0", torch.float32)):
        path = files.write(tmp_path / f"{kind}.gguf", files.model("llama"), kind)
        read = AutoModelForCausalLM.from_pretrained(dequantized_folder(path, tmp_path / "cache"))
        assert read.dtype == dtype


def test_tied_embeddings_are_the_head(tmp_path):
    built = files.model("qwen2", tie_word_embeddings=True)
    read = assert_same(built, files.write(tmp_path / "a.gguf", built), tmp_path / "cache")
    assert read.lm_head.weight is read.model.embed_tokens.weight


def test_heads_wider_than_their_share_of_the_model_are_read(tmp_path):
    built = files.model("qwen3", head_dim=48)
    assert_same(built, files.write(tmp_path / "a.gguf", built), tmp_path / "cache")


@pytest.mark.parametrize(
    ("model_type", "rope"),
    [
        ("llama", {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}),
        (
            "qwen2",
            {
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "original_max_position_embeddings": 128,
            },
        ),
        ("llama", LLAMA3),
        ("llama", LLAMA3 | {"low_freq_factor": 2.0, "original_max_position_embeddings": 64}),
        (
            "phi3",
            {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "short_factor": [1.0, 1.1, 1.2, 1.3, 1.5, 2.0, 3.0, 4.0],
                "long_factor": [1.5, 2.0, 3.0, 4.0, 6.0, 9.0, 15.0, 30.0],
                "original_max_position_embeddings": 16,
            },
        ),
    ],
    ids=["linear", "yarn", "llama3", "llama3 of other settings", "longrope"],
)
def test_scaled_rope_computes_what_the_original_did(model_type, rope, tmp_path):
    built = files.model(model_type, rope_parameters=rope, sliding_window=None)
    plain = files.model(model_type, sliding_window=None)
    assert not torch.allclose(logits(built), logits(plain), atol=1e-2)
    assert_same(built, files.write(tmp_path / "a.gguf", built), tmp_path / "cache")


def test_yarn_without_its_original_length_means_the_file_s_context(tmp_path):
    """As in llama.cpp: the trained context is the original one where nothing else is said."""
    rope = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0}
    built = files.model("qwen2", rope_parameters=rope | {"original_max_position_embeddings": 512})
    keys = {"qwen2.rope.scaling.original_context_length": None, "qwen2.context_length": 512}
    assert_same(built, files.write(tmp_path / "a.gguf", built, keys=keys), tmp_path / "cache")


def test_llama3_s_published_settings_are_named_in_the_folder(tmp_path):
    built = files.model("llama", rope_parameters=dict(LLAMA3), head_dim=64)
    read = read_again(files.write(tmp_path / "a.gguf", built), tmp_path / "cache")
    assert read.config.rope_parameters == LLAMA3


def test_rope_on_a_part_of_each_head_is_read(tmp_path):
    rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
    built = files.model("phi3", rope_parameters=rope)
    path = files.write(tmp_path / "a.gguf", built, keys={"phi3.rope.dimension_count": 8})
    assert_same(built, path, tmp_path / "cache")


def test_gemma_s_long_context_scales_only_the_layers_that_see_everything(tmp_path):
    local = {"rope_type": "default", "rope_theta": 10000.0}
    scaled = {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 8.0}
    rope = {"full_attention": scaled, "sliding_attention": local}
    built = files.model("gemma3_text", rope_parameters=rope)
    assert_same(built, files.write(tmp_path / "a.gguf", built), tmp_path / "cache")


def test_gemma_s_caps_bound_attention_and_logits(tmp_path):
    built = files.model("gemma2", attn_logit_softcapping=2.0, final_logit_softcapping=3.0)
    read = assert_same(built, files.write(tmp_path / "a.gguf", built), tmp_path / "cache")
    assert logits(read).abs().max() < 3.0
