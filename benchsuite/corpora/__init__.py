"""Texts and tasks from the embedded text, the hub or a local directory, one schema each."""

from benchsuite.lazy import attach

__getattr__, __all__ = attach(
    __name__,
    {
        "TextCorpus": "text",
        "load_text": "text",
        "text_digest": "text",
        "TaskSet": "tasks",
        "load_task": "tasks",
        "task_digest": "tasks",
        "worked_examples": "tasks",
    },
)
