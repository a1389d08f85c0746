"""A pytest-style benchmark suite for the compression of language models."""

from benchsuite.lazy import attach

__version__ = "0.1.0"

__getattr__, __all__ = attach(__name__, {"load_records": "reporting"})
