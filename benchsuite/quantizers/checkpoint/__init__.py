"""Quantized models on disk: one file per format, and ``folder``, which saves and loads them all.

``settings`` reads a folder's quantization config; ``fields`` and ``compressed`` are what formats
share in it, ``tensors`` what they share in the weights.
"""

from benchsuite.lazy import attach

__getattr__, __all__ = attach(
    __name__,
    {
        "FORMATS": "settings",
        "apply": "folder",
        "format_for": "folder",
        "load": "folder",
        "packed_outside": "folder",
        "read_settings": "settings",
        "save": "folder",
    },
)
