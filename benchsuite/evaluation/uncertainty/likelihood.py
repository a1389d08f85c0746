"""Scores from the answers' own log-probabilities, in nats."""

from collections.abc import Sequence

import numpy as np

from benchsuite.evaluation.uncertainty.answers import Asked
from benchsuite.evaluation.uncertainty.scores import Tools, Undefined


def g_nll(asked: Sequence[Asked], tools: Tools) -> list[float]:
    """G-NLL (Aichberger et al., arXiv 2412.15176): minus the greedy answer's log-probability.

    The sum over its tokens, not divided by their number.
    """
    return [one.greedy.nll for one in asked]


def mean_nll(asked: Sequence[Asked], tools: Tools) -> list[float]:
    """The greedy answer's negative log-likelihood per token."""
    return [one.greedy.nll / len(one.greedy.log_probs) for one in asked]


def mean_token_entropy(asked: Sequence[Asked], tools: Tools) -> list[float]:
    """The mean entropy of the distributions that the greedy answer's tokens were taken from."""
    return [float(one.greedy.entropies.mean()) for one in asked]


def predictive_entropy(asked: Sequence[Asked], tools: Tools) -> list[float | Undefined]:
    """Length-normalised predictive entropy (Malinin and Gales 2021): mean NLL per token of samples.

    A sample without a token has no mean and is left out.
    """
    return [_predictive_entropy(one) for one in asked]


def _predictive_entropy(one: Asked) -> float | Undefined:
    means = [sample.nll / len(sample.log_probs) for sample in one.samples if len(sample.log_probs)]
    return float(np.mean(means)) if means else Undefined("no sampled answer has a token")


def shuffled(asked: Sequence[Asked], tools: Tools) -> list[float]:
    """The negative control: the questions' G-NLL in an order that the seed draws.

    About one question in all keeps its own.
    """
    values = np.array(g_nll(asked, tools))
    return np.random.default_rng([tools.seed, 2]).permutation(values).tolist()
