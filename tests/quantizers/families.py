"""Random models of the families that are read beside Llama, Mistral, Qwen and OPT."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM

SHAPE = {
    "vocab_size": 256,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = {"mixtral": {"num_local_experts": 4}}
EXPERTS["qwen3_moe"] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
FAMILIES = {
    "gemma2": {},
    "gemma3_text": {"sliding_window": 16},
    "phi3": {},
    "phi3 with as many values as heads": {"num_key_value_heads": 4},
    "granite": {"embedding_multiplier": 2.0, "residual_multiplier": 0.5, "logits_scaling": 3.0},
    "smollm3": {},
    **EXPERTS,
}


def build(family, **changes):
    """A random model whose norms are not all alike; equal calls return equal models."""
    shape = SHAPE | FAMILIES.get(family, {}) | changes
    config = AutoConfig.for_model(family.split()[0], **shape)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "norm" in name:
                    parameter.add_(0.3 * torch.randn_like(parameter))
                elif parameter.dim() > 1:
                    parameter.normal_(std=parameter.shape[-1] ** -0.5)
    return model.requires_grad_(False)
