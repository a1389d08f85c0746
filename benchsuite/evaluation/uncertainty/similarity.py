"""How alike are two texts, 0 to 1: by a cross-encoder from the hub, or by their letters.

``lexical`` knows no meaning: it is the cosine of the counts of runs of three characters. It is what
embedded models are scored with, whose answers are one or two words, and what a rehearsal uses.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from math import sqrt
from typing import Any

import numpy as np

Pair = tuple[str, str]
Similarity = Callable[[Sequence[Pair]], np.ndarray]
"""Pairs of texts -> float64 [n], 0 to 1; equal texts give 1."""

RUN = 3


def lexical(pairs: Sequence[Pair]) -> np.ndarray:
    """Return the cosine of the counts of three-character runs, without case and outer blanks.

    Runs begin and end in a blank, so that a text of one letter has one. Two empty texts are equal.
    """
    return np.array([_cosine(_runs(first), _runs(second)) for first, second in pairs])


def cross_encoder(model: Any, tokenizer: Any, *, batch_size: int = 64) -> Similarity:
    """Return the similarity of a cross-encoder with one output, such as STS-B's RoBERTa.

    Its sigmoid is 0 to 1 already. (Dividing by 5, the scale of STS-B's labels, collapses relevance
    weights until the score is the mean negative log-likelihood.)
    """

    def similar(pairs: Sequence[Pair]) -> np.ndarray:
        logits = pair_logits(model, tokenizer, pairs, batch_size)
        return np.asarray(logits[:, 0].double().sigmoid())

    return similar


def pair_logits(model: Any, tokenizer: Any, pairs: Sequence[Pair], batch_size: int) -> Any:
    """Return what a classifier of pairs of texts says of each: a tensor [n, classes] on the CPU."""
    import torch

    found = [torch.empty(0, model.config.num_labels)]
    for start in range(0, len(pairs), batch_size):
        first, second = map(list, zip(*pairs[start : start + batch_size], strict=True))
        batch = tokenizer(first, second, padding=True, truncation=True, return_tensors="pt")
        with torch.no_grad():
            found.append(model(**batch.to(model.device)).logits.cpu())
    return torch.cat(found)


@cache
def _runs(text: str) -> Counter[str]:
    padded = f" {' '.join(text.casefold().split())} "
    return Counter(padded[i : i + RUN] for i in range(max(1, len(padded) - RUN + 1)))


def _cosine(first: Counter[str], second: Counter[str]) -> float:
    if first == second:
        return 1.0
    common = sum(n * second[run] for run, n in first.items())
    norms = [sum(n * n for n in counts.values()) for counts in (first, second)]
    return common / sqrt(norms[0] * norms[1])
