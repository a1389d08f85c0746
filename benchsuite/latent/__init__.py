"""Reasoning in latents: KaVa and what it is compared with, trained and decoded on one core."""

from benchsuite.lazy import attach

__getattr__, __all__ = attach(
    __name__,
    {
        "Config": "config",
        "load_config": "config",
        "LatentMethod": "methods.registry",
        "method": "methods.registry",
        "register_latent_method": "methods.registry",
        "evaluate": "decoding",
        "latent_words": "decoding",
        "word_rows": "decoding",
        "train": "training",
    },
)
