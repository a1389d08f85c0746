"""A pytest-style benchmark suite for the compression of language models."""

from typing import TYPE_CHECKING

from benchsuite.lazy import attach

if TYPE_CHECKING:  # what is exported lazily below, for those who check a script's types
    from benchsuite.records.environment import __version__ as __version__
    from benchsuite.reporting.load import load_items as load_items
    from benchsuite.reporting.load import load_records as load_records

__getattr__, __all__ = attach(
    __name__,
    {
        "__version__": "records.environment",
        "load_items": "reporting.load",
        "load_records": "reporting.load",
    },
)
