"""GGUF files: what they hold, and the ordinary checkpoint folder that their weights become.

The weights are dequantized once into a cache, so that all that reads a folder reads a GGUF too.
"""

from benchsuite.lazy import attach

__getattr__, __all__ = attach(
    __name__,
    {
        "GgufFile": "folder",
        "configuration": "folder",
        "dequantized_folder": "folder",
        "describe": "folder",
        "identity": "card",
        "model_folder": "folder",
        "tokenizer_folder": "folder",
    },
)
