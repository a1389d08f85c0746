"""Names to models, corpora and tasks: plain data that imports neither torch nor transformers.

A real study and an embedded one are the same cell; only the entry here differs.
"""

# Importing these registers the entries.
from benchsuite.catalog import models, recent_models, sets  # noqa: F401
from benchsuite.catalog.entries import (
    CORPORA,
    DTYPE_BYTES,
    MODELS,
    SHAPE_KEYS,
    TABLES,
    TASKS,
    CorpusEntry,
    ModelEntry,
    Packaged,
    TaskEntry,
    corpus,
    document_name,
    model,
    register,
    task,
    unregister,
)
from benchsuite.catalog.models import EMBEDDED_MODELS
from benchsuite.catalog.recent_models import SMALL_MODELS
from benchsuite.catalog.sources import Sources, is_gguf

__all__ = [
    "CORPORA",
    "DTYPE_BYTES",
    "EMBEDDED_MODELS",
    "MODELS",
    "SHAPE_KEYS",
    "SMALL_MODELS",
    "TABLES",
    "TASKS",
    "CorpusEntry",
    "ModelEntry",
    "Packaged",
    "Sources",
    "TaskEntry",
    "corpus",
    "document_name",
    "is_gguf",
    "model",
    "register",
    "task",
    "unregister",
]
