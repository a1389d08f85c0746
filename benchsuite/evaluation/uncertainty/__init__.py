"""How sure is a model of its answers, and does that tell right answers from wrong ones?

Answers are asked for once per model and data set (``answers``), graded (``correctness``) and scored
by each measure of uncertainty (``scores`` and the file per family that it names). Nothing here
knows of AUROC: that is ``benchsuite.statistics.ranking``.
"""

from benchsuite.lazy import attach

__getattr__, __all__ = attach(
    __name__,
    {
        "Answer": "answers",
        "Asked": "answers",
        "Grades": "correctness",
        "SCORES": "registry",
        "Score": "registry",
        "Scores": "scores",
        "Tools": "scores",
        "answers": "answers",
        "ask": "answers",
        "correctness": "correctness",
        "grade": "correctness",
        "judge": "judge",
        "prompts": "prompts",
        "protocol": "protocol",
        "register_score": "registry",
        "score": "scores",
        "similarity": "similarity",
    },
)
