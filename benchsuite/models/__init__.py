"""Models: where their weights are, how they are loaded, and the pool that cells lease them from."""

from benchsuite.lazy import attach

__getattr__, __all__ = attach(
    __name__,
    {
        "Lease": "pool",
        "LoadedModel": "loading",
        "ModelPool": "pool",
        "PeakMemory": "memory",
        "architecture": "architecture",
        "architecture_of": "architecture",
        "default_budget": "memory",
        "folder_digest": "folder",
        "hub_digest": "source",
        "load_classifier": "classifier",
        "load_similarity_model": "classifier",
        "load": "loading",
        "load_tokenizer": "loading",
        "model_folder": "gguf.folder",
        "tokenizer_folder": "gguf.folder",
        "replicas_kept": "replicas",
        "requirements": "source",
        "stand_in_reason": "stand_in",
        "weights_digest": "source",
    },
)
