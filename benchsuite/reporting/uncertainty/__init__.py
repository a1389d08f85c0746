"""The uncertainty study's own files: results, five questions, advanced analysis, figures."""

from benchsuite.lazy import attach

__getattr__, __all__ = attach(
    __name__,
    {"Run": "runs", "answer_questions": "questions", "runs_of": "runs", "write": "files"},
)
