"""A pytest-style benchmark suite for the compression of language models."""

from benchsuite.lazy import attach

__getattr__, __all__ = attach(
    __name__, {"__version__": "records.environment", "load_records": "reporting"}
)
