"""Names to models, corpora and tasks: plain data that imports neither torch nor transformers.

A real study and an embedded one are the same cell; only the entry here differs.
"""

from benchsuite.catalog import models, sets  # noqa: F401  (importing them registers the entries)
from benchsuite.catalog.entries import (
    CORPORA,
    DTYPE_BYTES,
    MODELS,
    TABLES,
    TASKS,
    CorpusEntry,
    ModelEntry,
    TaskEntry,
    corpus,
    model,
    register,
    task,
)
from benchsuite.catalog.models import EMBEDDED_MODELS
from benchsuite.catalog.sources import Sources, is_gguf

__all__ = [
    "CORPORA",
    "DTYPE_BYTES",
    "EMBEDDED_MODELS",
    "MODELS",
    "TABLES",
    "TASKS",
    "CorpusEntry",
    "ModelEntry",
    "Sources",
    "TaskEntry",
    "corpus",
    "is_gguf",
    "model",
    "register",
    "task",
]
