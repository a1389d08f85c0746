"""The architecture map against models built from each family's own configuration."""

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from benchsuite.errors import UsageError
from benchsuite.models.architecture import ARCHITECTURES, architecture_of
from benchsuite.models.experts import calibrating

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "intermediate_size": 48,
    "ffn_dim": 48,
}
QWEN3_MOE = {"num_key_value_heads": 2, "head_dim": 8, "num_experts": 3, "num_experts_per_tok": 2}
QWEN3_MOE["moe_intermediate_size"] = 16
FAMILIES = {
    "llama": ("llama", {"num_key_value_heads": 2}),
    "mistral": ("mistral", {"num_key_value_heads": 2}),
    "qwen2": ("qwen2", {"num_key_value_heads": 2}),
    "qwen3": ("qwen3", {"num_key_value_heads": 2, "head_dim": 16}),
    "granite": ("granite", {"num_key_value_heads": 2}),
    "smollm3": ("smollm3", {"num_key_value_heads": 2, "pad_token_id": 0}),
    "phi3": ("phi3", {"num_key_value_heads": 4, "pad_token_id": 0}),
    "gemma2": ("gemma2", {"num_key_value_heads": 2, "head_dim": 8}),
    "gemma3_text": ("gemma3_text", {"num_key_value_heads": 2, "head_dim": 8}),
    "mixtral": ("mixtral", {"num_key_value_heads": 2, "num_local_experts": 3}),
    "qwen3_moe": ("qwen3_moe", QWEN3_MOE),
    "opt": ("opt", {"word_embed_proj_dim": 32}),
    "opt_post_norm": ("opt", {"word_embed_proj_dim": 16, "do_layer_norm_before": False}),
}


def build(family: str) -> nn.Module:
    model_type, extra = FAMILIES[family]
    return AutoModelForCausalLM.from_config(
        AutoConfig.for_model(model_type, **SHAPE, **extra)
    ).eval()


def recorded_inputs_and_outputs(model, paths):
    seen = {}

    def hook_for(path):
        def hook(module, args, output):
            seen.setdefault(path, (args[0] if args else None, output))

        return hook

    handles = [model.get_submodule(p).register_forward_hook(hook_for(p)) for p in paths]
    with torch.no_grad(), calibrating(model):
        model(input_ids=torch.arange(12)[None])
    for handle in handles:
        handle.remove()
    return seen


def test_every_entry_is_tested():
    # Gemma 3 with an image encoder nests its shape: see the quantizers' test of it.
    assert set(ARCHITECTURES) == {*FAMILIES, "gemma3"}


@pytest.mark.parametrize("family", FAMILIES)
def test_groups_cover_each_linear_of_a_block_once(family):
    model = build(family)
    architecture = architecture_of(model)
    block = architecture.block_list(model)[0]
    in_block = {name for name, m in block.named_modules() if isinstance(m, nn.Linear)}
    assert sorted(architecture.linears) == sorted(in_block)


@pytest.mark.parametrize("family", FAMILIES)
def test_linears_of_a_group_read_the_same_tensor_in_the_listed_order(family):
    model = build(family)
    architecture = architecture_of(model)
    prefix = architecture.block_name(0) + "."
    seen = recorded_inputs_and_outputs(model, [prefix + path for path in architecture.linears])
    first_of_each = [prefix + group.linears[0] for group in architecture.groups]
    assert [path for path in seen if path in first_of_each] == first_of_each
    if "experts" not in str(first_of_each):  # which run one after the other, each to its end
        assert list(seen) == [prefix + path for path in architecture.linears]
    for group in architecture.groups:
        first, *others = (seen[prefix + path][0] for path in group.linears)
        assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_source_norm_writes_exactly_the_group_s_input(family):
    model = build(family)
    architecture = architecture_of(model)
    prefix = architecture.block_name(1) + "."
    groups = [g for g in architecture.groups if g.source and "norm" in g.source]
    paths = [prefix + p for g in groups for p in (g.source, g.linears[0])]
    seen = recorded_inputs_and_outputs(model, paths)
    for group in groups:
        written, read = seen[prefix + group.source][1], seen[prefix + group.linears[0]][0]
        assert torch.equal(written.reshape(read.shape), read)  # a router flattens its tokens
    assert len(groups) == (0 if family == "opt_post_norm" else 2)


@torch.no_grad()
def multiply_output(source, group, factor):
    """Multiply what a group's source writes for it: the last part of its rows, or a norm's gain."""
    for parameter in source.parameters():
        start = len(parameter) - len(parameter) // group.source_parts
        part, offset = parameter[start:], group.source_offset
        part.copy_((part + offset) * factor - offset)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "opt_post_norm"])
def test_scaling_a_source_s_output_channel_scales_the_group_s_input_channel(family):
    model = build(family)
    architecture = architecture_of(model)
    block = architecture.block_list(model)[0]
    prefix = architecture.block_name(0) + "."
    for group in architecture.groups:
        if group.name == "o" and family != "opt":
            continue  # heads of grouped-query attention share a value channel
        before = recorded_inputs_and_outputs(model, [prefix + group.linears[0]])
        source = block.get_submodule(group.source)
        multiply_output(source, group, 2)
        after = recorded_inputs_and_outputs(model, [prefix + group.linears[0]])
        old, new = before[prefix + group.linears[0]][0], after[prefix + group.linears[0]][0]
        torch.testing.assert_close(new, 2 * old, rtol=1e-5, atol=1e-6)
        multiply_output(source, group, 0.5)


@pytest.mark.parametrize("family", FAMILIES)
def test_embeddings_norm_and_head_are_there(family):
    model = build(family)
    architecture = architecture_of(model)
    embeddings = architecture.present(model, architecture.embeddings)
    assert architecture.embeddings[0] in embeddings
    assert isinstance(model.get_submodule(architecture.head), nn.Linear)
    assert len(architecture.present(model, (architecture.final_norm,))) == (
        0 if family == "opt_post_norm" else 1
    )
    positions = {"opt": 2, "opt_post_norm": 3}.get(family, 1)
    assert len(embeddings) == positions
    assert bool(architecture.present(model, architecture.after_blocks)) == (
        family == "opt_post_norm"
    )


def test_an_unknown_family_is_a_usage_error_that_names_the_known_ones():
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model("gpt2", n_layer=1, n_embd=8, n_head=2, vocab_size=16)
    )
    with pytest.raises(UsageError, match=r"unknown architecture: 'gpt2'.*llama"):
        architecture_of(model)
