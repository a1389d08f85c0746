from benchsuite import catalog
from benchsuite.models import stand_in_reason
from benchsuite.models.stand_in import config_arguments

# What the hub's config.json of these two models holds, as far as it tells the shape.
LLAMA2_7B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
}
OPT_6_7B = {
    "model_type": "opt",
    "hidden_size": 4096,
    "ffn_dim": 16384,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 50272,
    "word_embed_proj_dim": 4096,
}


def test_real_configurations_are_not_stand_ins():
    """Absent key-value heads mean as many as heads; the context length differs among mirrors."""
    assert stand_in_reason(catalog.model("llama2_7b"), LLAMA2_7B) is None
    assert stand_in_reason(catalog.model("opt_6_7b"), OPT_6_7B) is None


def test_another_shape_is_named_with_both_values():
    small = LLAMA2_7B | {"hidden_size": 64, "num_hidden_layers": 2}
    reason = stand_in_reason(catalog.model("llama2_7b"), small)
    assert "hidden_size is 64, not 4096" in reason
    assert "num_hidden_layers is 2, not 32" in reason


def test_opt_inner_size_is_named_as_in_its_config():
    reason = stand_in_reason(catalog.model("opt_6_7b"), OPT_6_7B | {"ffn_dim": 512})
    assert "ffn_dim is 512, not 16384" in reason


def test_another_architecture_is_a_stand_in():
    reason = stand_in_reason(catalog.model("llama2_7b"), LLAMA2_7B | {"model_type": "mistral"})
    assert reason == "its model_type is 'mistral', not 'llama'"


def test_a_quantized_checkpoint_is_a_stand_in():
    config = LLAMA2_7B | {"quantization_config": {"quant_method": "gptq"}}
    assert stand_in_reason(catalog.model("llama2_7b"), config) == "it is already quantized (gptq)"


def test_config_arguments_use_the_architecture_names():
    assert config_arguments(catalog.model("opt_6_7b"))["ffn_dim"] == 16384
    assert "intermediate_size" not in config_arguments(catalog.model("opt_6_7b"))
    assert config_arguments(catalog.model("llama2_7b"))["intermediate_size"] == 11008
