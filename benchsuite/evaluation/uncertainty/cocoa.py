"""CoCoA (Vashurin et al. 2025, arXiv 2502.04964): confidence times consistency.

How unsure the model is of its greedy answer, multiplied by how unlike that answer the sampled ones
are on average. The first factor is the answer's negative log-likelihood (``msp``), that per token
(``ppl``), or the mean entropy of its tokens' distributions (``mte``). A sample without a token is
left out.
"""

from collections.abc import Sequence

import numpy as np

from benchsuite.evaluation.uncertainty import likelihood
from benchsuite.evaluation.uncertainty.answers import Asked
from benchsuite.evaluation.uncertainty.scores import Tools, Undefined


def cocoa_msp(asked: Sequence[Asked], tools: Tools) -> list[float | Undefined]:
    """CoCoA with the greedy answer's negative log-likelihood."""
    return _times_unlike(asked, tools, likelihood.g_nll(asked, tools))


def cocoa_ppl(asked: Sequence[Asked], tools: Tools) -> list[float | Undefined]:
    """CoCoA with the greedy answer's negative log-likelihood per token."""
    return _times_unlike(asked, tools, likelihood.mean_nll(asked, tools))


def cocoa_mte(asked: Sequence[Asked], tools: Tools) -> list[float | Undefined]:
    """CoCoA with the mean entropy of the greedy answer's tokens."""
    return _times_unlike(asked, tools, likelihood.mean_token_entropy(asked, tools))


def _times_unlike(
    asked: Sequence[Asked], tools: Tools, unsure: Sequence[float]
) -> list[float | Undefined]:
    values: list[float | Undefined] = []
    for one, factor in zip(asked, unsure, strict=True):
        greedy = one.greedy.text.strip()
        texts = [sample.text.strip() for sample in one.samples if len(sample.log_probs)]
        if not texts:
            values.append(Undefined("no sampled answer has a token"))
            continue
        pairs = [(greedy, text) for text in texts]
        there = tools.relevance.similarity([*pairs, *(pair[::-1] for pair in pairs)])
        values.append(factor * float(1 - np.clip(there, 0, 1).mean()))
    return values
