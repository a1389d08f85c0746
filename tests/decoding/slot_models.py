"""Random tiny models of every type that the decoding core knows, and its attention spelt out."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.models import tiny

SHAPE = tiny.SHAPE | {
    "vocab_size": 256,
    "head_dim": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
FAMILIES = {
    "llama": {},
    "mistral": {"sliding_window": 12},
    "qwen2": {"use_sliding_window": True, "sliding_window": 12, "max_window_layers": 1},
    "qwen3": {},
    "gemma2": {"sliding_window": 12},
    "gemma3_text": {"sliding_window": 12},
    "phi3": {},
    "granite": {"embedding_multiplier": 2.0, "residual_multiplier": 0.5, "logits_scaling": 3.0},
    "smollm3": {},
    "llama with one head a group": {"num_key_value_heads": 4},
}


def build(family, **changes):
    """A random model in float32 whose choices are decided by more than its last bits."""
    config = AutoConfig.for_model(family.split()[0], **(SHAPE | FAMILIES[family] | changes))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(std=parameter.shape[-1] ** -0.5)
    return model.requires_grad_(False)


def attend_plainly(
    query,
    key,
    value,
    keys,
    values,
    places,
    *,
    scaling,
    window=None,
    softcap=None,
    prefix=None,
):
    """The attention of ``slot_kernel.attend``, one row after another."""
    out, none = torch.empty_like(query), keys[0, :, :0]
    before = prefix or (none, none)
    for row, place in enumerate(places.tolist()):
        own = place - before[0].shape[1]
        keys[row, :, own], values[row, :, own] = key[row], value[row]
        seen = slice(max(0, place + 1 - window) if window else 0, place + 1)
        k, v = (
            torch.cat((first, rest[row]), 1)[:, seen].repeat_interleave(
                query.shape[1] // keys.shape[1], 0
            )
            for first, rest in zip(before, (keys, values), strict=True)
        )
        scores = torch.einsum("hd,hld->hl", query[row].float(), k.float()) * scaling
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        out[row] = torch.einsum("hl,hld->hd", scores.softmax(-1), v.float()).to(query.dtype)
    return out
