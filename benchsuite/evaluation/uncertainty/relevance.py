"""How much each token matters to its answer: R_t = 1 - g(question + answer, the same without t).

After tokenSAR (Duan et al., arXiv 2307.01379). ``g`` is a similarity of ``similarity.py``.
"""

from collections.abc import Hashable, Sequence

import numpy as np

from benchsuite.embedded.schema import Question
from benchsuite.evaluation.uncertainty.answers import Answer
from benchsuite.evaluation.uncertainty.similarity import Similarity


class Relevance:
    """Relevances under one similarity, each computed once.

    Kept by question *and* answer: the same answer to another question has other relevances.
    """

    def __init__(self, similarity: Similarity) -> None:
        self.similarity = similarity
        self._known: dict[Hashable, np.ndarray] = {}

    def of(self, pairs: Sequence[tuple[Question, Answer]]) -> list[np.ndarray]:
        """Return R float64 [tokens of the answer] for every question and answer."""
        missing = {_key(*pair): pair for pair in pairs if _key(*pair) not in self._known}
        texts = [
            (f"{question.question} {answer.text.strip()}", f"{question.question} {left.strip()}")
            for question, answer in missing.values()
            for left in answer.without
        ]
        values = np.clip(1 - self.similarity(texts), 0, None)
        ends = np.cumsum([len(answer.without) for _, answer in missing.values()], dtype=int)
        for key, own in zip(missing, np.split(values, ends[:-1]), strict=False):
            self._known[key] = own
        return [self._known[_key(*pair)] for pair in pairs]


def weighted_nll(log_probs: np.ndarray, relevance: np.ndarray) -> float:
    """Return sum R_t (-log p_t) / sum R_t in nats, both of an answer's tokens [n].

    Where no token matters it is G-NLL's plain sum.
    """
    total = float(relevance.sum())
    if total == 0:
        return -float(log_probs.sum())
    return float(relevance @ -log_probs) / total


def _key(question: Question, answer: Answer) -> Hashable:
    return (question.question, answer.text, tuple(answer.token_ids.tolist()))
