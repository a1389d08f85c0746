"""The models that are known by name: the embedded ones, and hub models with their shapes."""

from typing import Any

from benchsuite.catalog.entries import MODELS, ModelEntry, register


def _tiny(name: str, model_type: str, **shape: Any) -> None:
    register(ModelEntry(name, f"benchsuite/{name}", model_type, shape, "bfloat16", embedded=True))


_TINY = {"vocab_size": 2048, "num_hidden_layers": 4, "max_position_embeddings": 512}
_1M = _TINY | {"hidden_size": 128, "intermediate_size": 384, "num_attention_heads": 4}
_4M = _TINY | {"hidden_size": 256, "intermediate_size": 768, "num_attention_heads": 4}

_tiny("tiny_llama_1m", "llama", **_1M, num_key_value_heads=2, tie_word_embeddings=True)
_tiny("tiny_llama_4m", "llama", **_4M, num_key_value_heads=2, tie_word_embeddings=True)
_tiny("tiny_qwen_1m", "qwen2", **_1M, num_key_value_heads=2, tie_word_embeddings=True)
_tiny("tiny_qwen_4m", "qwen2", **_4M, num_key_value_heads=2, tie_word_embeddings=True)
_tiny("tiny_mistral_1m", "mistral", **_1M, num_key_value_heads=1, tie_word_embeddings=True)
_tiny("tiny_mistral_4m", "mistral", **_4M, num_key_value_heads=1, tie_word_embeddings=True)
_tiny("tiny_opt_4m", "opt", **(_4M | {"intermediate_size": 1024}), tie_word_embeddings=True)

EMBEDDED_MODELS = tuple(MODELS)
"""The names of the models that ship with the project."""

_LLAMA2 = {"vocab_size": 32000, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5}
register(
    ModelEntry(
        "llama2_7b",
        "meta-llama/Llama-2-7b-hf",
        "llama",
        _LLAMA2
        | {
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
        },
        "float16",
        gated=True,
    )
)
register(
    ModelEntry(
        "llama2_13b",
        "meta-llama/Llama-2-13b-hf",
        "llama",
        _LLAMA2
        | {
            "hidden_size": 5120,
            "intermediate_size": 13824,
            "num_hidden_layers": 40,
            "num_attention_heads": 40,
            "num_key_value_heads": 40,
        },
        "float16",
        gated=True,
    )
)
register(
    ModelEntry(
        "opt_6_7b",
        "facebook/opt-6.7b",
        "opt",
        {
            "vocab_size": 50272,
            "hidden_size": 4096,
            "intermediate_size": 16384,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "max_position_embeddings": 2048,
            "tie_word_embeddings": True,
        },
        "float16",
    )
)
register(
    ModelEntry(
        "mistral_7b",
        "mistralai/Mistral-7B-v0.1",
        "mistral",
        {
            "vocab_size": 32000,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 32768,
            "sliding_window": 4096,
            "rms_norm_eps": 1e-5,
        },
        "bfloat16",
    )
)

register(
    ModelEntry(
        "llama3_2_1b_instruct",
        "meta-llama/Llama-3.2-1B-Instruct",
        "llama",
        {
            "vocab_size": 128256,
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 64,
            "max_position_embeddings": 131072,
            "rope_theta": 500000.0,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 32.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": True,
        },
        "bfloat16",
        gated=True,
    )
)

# The uncertainty study's families: a smaller and a larger model each, and the 70B-class extensions.
_LLAMA3 = {"vocab_size": 128256, "num_key_value_heads": 8, "rms_norm_eps": 1e-5}
register(
    ModelEntry(
        "llama3_2_1b",
        "meta-llama/Llama-3.2-1B",
        "llama",
        MODELS["llama3_2_1b_instruct"].shape,
        "bfloat16",
        gated=True,
    )
)
register(
    ModelEntry(
        "llama3_8b",
        "meta-llama/Meta-Llama-3-8B",
        "llama",
        _LLAMA3
        | {
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "max_position_embeddings": 8192,
        },
        "bfloat16",
        gated=True,
    )
)
register(
    ModelEntry(
        "llama3_1_70b_instruct",
        "meta-llama/Llama-3.1-70B-Instruct",
        "llama",
        _LLAMA3
        | {
            "hidden_size": 8192,
            "intermediate_size": 28672,
            "num_hidden_layers": 80,
            "num_attention_heads": 64,
            "max_position_embeddings": 131072,
        },
        "bfloat16",
        gated=True,
    )
)
_QWEN2_5 = {"max_position_embeddings": 131072, "rms_norm_eps": 1e-6}
register(
    ModelEntry(
        "qwen2_5_1_5b",
        "Qwen/Qwen2.5-1.5B",
        "qwen2",
        _QWEN2_5
        | {
            "vocab_size": 151936,
            "hidden_size": 1536,
            "intermediate_size": 8960,
            "num_hidden_layers": 28,
            "num_attention_heads": 12,
            "num_key_value_heads": 2,
            "tie_word_embeddings": True,
        },
        "bfloat16",
    )
)
register(
    ModelEntry(
        "qwen2_5_7b",
        "Qwen/Qwen2.5-7B",
        "qwen2",
        _QWEN2_5
        | {
            "vocab_size": 152064,
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
        },
        "bfloat16",
    )
)
register(
    ModelEntry(
        "qwen2_5_72b",
        "Qwen/Qwen2.5-72B",
        "qwen2",
        _QWEN2_5
        | {
            "vocab_size": 152064,
            "hidden_size": 8192,
            "intermediate_size": 29568,
            "num_hidden_layers": 80,
            "num_attention_heads": 64,
            "num_key_value_heads": 8,
        },
        "bfloat16",
    )
)
_MISTRAL_V0_3 = {
    **MODELS["mistral_7b"].shape,
    "vocab_size": 32768,
    "sliding_window": None,
}
for _name, _hub_id in (
    ("mistral_v0_3_base", "mistralai/Mistral-7B-v0.3"),
    ("mistral_v0_3_instruct", "mistralai/Mistral-7B-Instruct-v0.3"),
):
    register(ModelEntry(_name, _hub_id, "mistral", _MISTRAL_V0_3, "bfloat16"))
register(
    ModelEntry(
        "mixtral_8x7b_instruct",
        "mistralai/Mixtral-8x7B-Instruct-v0.1",
        "mixtral",
        {
            **MODELS["mistral_7b"].shape,
            "sliding_window": None,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
        },
        "bfloat16",
    )
)
register(
    ModelEntry(
        "qwen3_8b",
        "Qwen/Qwen3-8B",
        "qwen3",
        {
            "vocab_size": 151936,
            "hidden_size": 4096,
            "intermediate_size": 12288,
            "num_hidden_layers": 36,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "max_position_embeddings": 40960,
            "rms_norm_eps": 1e-6,
        },
        "bfloat16",
    )
)

# Judges of texts: how alike two are (STS-B), and whether one entails the other (MNLI).
_ROBERTA_LARGE = {
    "vocab_size": 50265,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "max_position_embeddings": 514,
}
for _name, _hub_id in (
    ("stsb_roberta_large", "cross-encoder/stsb-roberta-large"),
    ("roberta_large_mnli", "FacebookAI/roberta-large-mnli"),
):
    register(ModelEntry(_name, _hub_id, "roberta", _ROBERTA_LARGE, "float32"))

# Latent reasoning's other students.
register(
    ModelEntry(
        "llama3_2_3b",
        "meta-llama/Llama-3.2-3B",
        "llama",
        dict(MODELS["llama3_2_1b"].shape)
        | {
            "hidden_size": 3072,
            "num_hidden_layers": 28,
            "num_attention_heads": 24,
            "head_dim": 128,
        },
        "bfloat16",
        gated=True,
    )
)
register(
    ModelEntry(
        "qwen2_5_0_5b",
        "Qwen/Qwen2.5-0.5B",
        "qwen2",
        _QWEN2_5
        | {
            "vocab_size": 151936,
            "hidden_size": 896,
            "intermediate_size": 4864,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "max_position_embeddings": 32768,
            "tie_word_embeddings": True,
        },
        "bfloat16",
    )
)

# COLA-Zero's scorer: the small model whose perplexity is one of its features.
register(
    ModelEntry(
        "gpt2",
        "openai-community/gpt2",
        "gpt2",
        {
            "vocab_size": 50257,
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "max_position_embeddings": 1024,
            "tie_word_embeddings": True,
        },
        "float32",
    )
)
