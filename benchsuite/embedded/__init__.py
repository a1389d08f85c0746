"""What runs without network or GPU: a pinned text, generated tasks and small trained models."""

from benchsuite.lazy import attach

__getattr__, __all__ = attach(
    __name__,
    {
        "text": "text",
        "tasks": "tasks",
        "prompts": "prompts",
        "models": "models",
        "schema": "schema",
        "Question": "schema",
        "Choice": "schema",
        "Problem": "schema",
    },
)
