"""Scores that weigh tokens, and answers, by how much they matter."""

from collections.abc import Sequence

import numpy as np

from benchsuite.evaluation.uncertainty.answers import Asked
from benchsuite.evaluation.uncertainty.relevance import weighted_nll
from benchsuite.evaluation.uncertainty.scores import Tools, Undefined

TEMPERATURE = 0.001
"""SAR's t: how much the probability of a similar answer counts."""


def rw_gnll(asked: Sequence[Asked], tools: Tools) -> list[float]:
    """RW-G-NLL: the greedy answer's NLL, weighted by the relevance of each token.

    A weighted mean, so of the scale of ``mean_nll``; tokenSAR on the greedy answer.
    """
    relevance = tools.relevance.of([(one.question, one.greedy) for one in asked])
    return [
        weighted_nll(one.greedy.log_probs, own) for one, own in zip(asked, relevance, strict=True)
    ]


def sar(asked: Sequence[Asked], tools: Tools) -> list[float | Undefined]:
    """SAR (arXiv 2307.01379): sampled answers by tokenSAR, raised by the answers that are alike.

    p_i = exp(-tokenSAR_i), and the mean over i of -log(p_i + sum_{j != i} g(i, j) p_j / t).
    A sample without a token is left out.
    """
    kept = [[s for s in one.samples if len(s.log_probs)] for one in asked]
    pairs = [(one.question, s) for one, own in zip(asked, kept, strict=True) for s in own]
    relevance = iter(tools.relevance.of(pairs))
    texts = [
        (f"{one.question.question} {a.text.strip()}", f"{one.question.question} {b.text.strip()}")
        for one, own in zip(asked, kept, strict=True)
        for i, a in enumerate(own)
        for b in own[i + 1 :]
    ]
    similar = iter(tools.relevance.similarity(texts))
    values: list[float | Undefined] = []
    for own in kept:
        p = np.exp([-weighted_nll(s.log_probs, next(relevance)) for s in own])
        alike = np.zeros((len(own), len(own)))
        for i, j in zip(*np.triu_indices(len(own), 1), strict=True):
            alike[i, j] = alike[j, i] = next(similar)
        values.append(_shifted(p, alike))
    return values


def _shifted(p: np.ndarray, alike: np.ndarray) -> float | Undefined:
    """Return the mean sentence-level score of answers with p [n] and similarities [n, n]."""
    if not len(p):
        return Undefined("no sampled answer has a token")
    return float(np.mean(-np.log(p + alike @ p / TEMPERATURE)))
