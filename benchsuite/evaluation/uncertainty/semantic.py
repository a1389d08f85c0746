"""Semantic entropy (Kuhn et al. 2023, Farquhar et al. 2024): over meanings, not wordings."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from scipy.special import logsumexp

from benchsuite.errors import UsageError
from benchsuite.evaluation import squad
from benchsuite.evaluation.uncertainty.answers import Answer, Asked
from benchsuite.evaluation.uncertainty.scores import Tools, Undefined
from benchsuite.evaluation.uncertainty.similarity import Pair, pair_logits

Entailment = Callable[[Sequence[Pair]], np.ndarray]
"""Pairs (premise, hypothesis) -> bool [n]: does the first entail the second?"""


def string_entropy(asked: Sequence[Asked], tools: Tools) -> list[float | Undefined]:
    """Entropy of how often each answer was drawn; SQuAD's normalisation says which are the same.

    Equal strings, not equal meanings. In nats, 0 to log(samples). An empty answer is an answer of
    its own.
    """
    values: list[float | Undefined] = []
    for one in asked:
        texts = [squad.normalise(squad.prediction(sample.text)) for sample in one.samples]
        shares = np.array([texts.count(text) for text in dict.fromkeys(texts)]) / len(texts)
        values.append(discrete(shares) if len(texts) else Undefined("no answer was sampled"))
    return values


def semantic_discrete(asked: Sequence[Asked], tools: Tools) -> list[float | Undefined]:
    """Entropy of the sizes of the clusters of ``semantic_nli`` (Farquhar et al. 2024, Nature).

    It needs no likelihoods: -sum (n_c / n) log (n_c / n) in nats, 0 to log(samples).
    """
    return [
        found if isinstance(found, Undefined) else discrete(np.bincount(found[1]) / len(found[0]))
        for found in _clustered(asked, tools)
    ]


def semantic_nli(asked: Sequence[Asked], tools: Tools) -> list[float | Undefined]:
    """Entropy over clusters of sampled answers that entail each other, given the question.

    A cluster's mass is the logsumexp of its members' mean token log-probabilities, normalised over
    the clusters. A sample without a token is left out.
    """
    return [
        found
        if isinstance(found, Undefined)
        else entropy(found[1], np.array([sample.log_probs.mean() for sample in found[0]]))
        for found in _clustered(asked, tools)
    ]


def semantic_sets(asked: Sequence[Asked], tools: Tools) -> list[float | Undefined]:
    """The number of the clusters of ``semantic_nli``, 1 to samples (Kuhn et al. 2023)."""
    return [
        found if isinstance(found, Undefined) else float(found[1].max() + 1)
        for found in _clustered(asked, tools)
    ]


def _clustered(
    asked: Sequence[Asked], tools: Tools
) -> Iterator[tuple[list[Answer], np.ndarray] | Undefined]:
    """Yield each question's sampled answers that have a token, and their clusters int [n]."""
    for one in asked:
        kept = [sample for sample in one.samples if len(sample.log_probs)]
        texts = [f"{one.question.question} {sample.text.strip()}" for sample in kept]
        if kept:
            yield kept, clusters(texts, tools.entailment)
        else:
            yield Undefined("no sampled answer has a token")


def clusters(texts: Sequence[str], entails: Entailment) -> np.ndarray:
    """Return each text's cluster, int [n]: it joins the first whose founder it is equivalent to."""
    pairs = [(a, b) for a in texts for b in texts if a != b]
    known = dict(zip(pairs, entails(pairs), strict=True)) if pairs else {}
    founders: list[str] = []
    found = []
    for text in texts:
        same = (
            i
            for i, other in enumerate(founders)
            if text == other or (known[text, other] and known[other, text])
        )
        place = next(same, len(founders))
        if place == len(founders):
            founders.append(text)
        found.append(place)
    return np.array(found)


def discrete(shares: np.ndarray) -> float:
    """Return -sum p log p in nats of shares [n] above 0 that sum to 1.

    Equal shares in another order give equal bits: a sum's last bits would part equal scores.
    """
    ordered = np.sort(shares)
    return abs(float(ordered @ np.log(ordered)))


def entropy(cluster: np.ndarray, log_likelihoods: np.ndarray) -> float:
    """Return -sum p log p in nats over clusters [n] of members with these log-likelihoods [n]."""
    mass = np.array([logsumexp(log_likelihoods[cluster == c]) for c in np.unique(cluster)])
    log_p = mass - logsumexp(mass)
    return abs(float(np.exp(log_p) @ log_p))


def nli(model: Any, tokenizer: Any, *, batch_size: int = 64) -> Entailment:
    """Return the entailment of a hub model for natural-language inference.

    Its configuration says which label is entailment. Raises ``UsageError`` where none is.
    """
    labels = {str(name).lower(): int(i) for i, name in model.config.id2label.items()}
    if "entailment" not in labels:
        raise UsageError(
            f"nli_model has no class called entailment, but {', '.join(map(repr, labels))}",
            fix="Give a model for natural-language inference, such as roberta_large_mnli",
        )
    wanted = labels["entailment"]

    def entails(pairs: Sequence[Pair]) -> np.ndarray:
        logits = pair_logits(model, tokenizer, pairs, batch_size)
        return np.asarray(logits.argmax(-1) == wanted)

    return entails
