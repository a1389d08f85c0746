"""Answers of a model that a test writes itself."""

import numpy as np

from benchsuite.embedded.schema import Question
from benchsuite.evaluation.uncertainty.answers import Answer, Asked


def answer(text="Paris", *log_probs, entropies=()):
    """Return an answer whose tokens are its words, with these log-probabilities and entropies."""
    words = text.split()
    values = np.array(log_probs or [-1.0] * len(words), np.float64)
    assert len(values) == len(words)
    without = tuple(" ".join(words[:t] + words[t + 1 :]) for t in range(len(words)))
    ids = np.arange(len(words), dtype=np.int64)
    return Answer(text, ids, values, tuple(words), without, "stop", np.array(entropies, np.float64))


def asked(greedy, *samples, question="What is the capital of France?", aliases=("Paris",), **facts):
    """Return a question with these answers; an unanswerable one has no aliases."""
    asked_question = Question("q", question, tuple(aliases), answerable=bool(aliases), **facts)
    return Asked(asked_question, greedy, tuple(samples))
