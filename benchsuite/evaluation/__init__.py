"""Evaluation: what a quantized model still can do, with per-item evidence for paired tests."""

from benchsuite.lazy import attach

__getattr__, __all__ = attach(
    __name__,
    {
        "DOCUMENT_TASKS": "downstream",
        "Downstream": "downstream",
        "LocalTask": "local_tasks",
        "Perplexity": "perplexity",
        "answers": "answers",
        "arc": "arc",
        "checkpoints": "checkpoints",
        "closed_book_choices": "local_tasks",
        "divergence": "divergence",
        "evaluate_hub_tasks": "downstream",
        "evaluate_local_tasks": "downstream",
        "four_choices": "local_tasks",
        "generation": "generation",
        "maths": "maths",
        "numbers": "numbers",
        "passage_pairs": "local_tasks",
        "perplexity": "perplexity",
        "prepare_hub_tasks": "downstream",
        "shown": "shown",
        "speed": "speed",
        "squad": "squad",
        "begun_chunks": "perplexity",
        "tokenize_protocol": "perplexity",
    },
)
