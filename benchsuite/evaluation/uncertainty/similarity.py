"""How alike are two texts, 0 to 1: by a cross-encoder, a sentence encoder, or by their letters.

``lexical`` knows no meaning: it is the cosine of the counts of runs of three characters. It is what
embedded models are scored with, whose answers are one or two words, and what a rehearsal uses.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from math import sqrt
from typing import Any

import numpy as np

from benchsuite.errors import UsageError
from benchsuite.printable import count

Pair = tuple[str, str]
Similarity = Callable[[Sequence[Pair]], np.ndarray]
"""Pairs of texts -> float64 [n], 0 to 1; equal texts give 1."""

RUN = 3
MOST_TOKENS = 256
"""Tokens of a text that a sentence encoder reads: MiniLM's own limit."""


def lexical(pairs: Sequence[Pair]) -> np.ndarray:
    """Return by pair, float64 [n], the cosine of the counts of three-character runs.

    Case and outer blanks do not count.

    Runs begin and end in a blank, so that a text of one letter has one. Two empty texts are equal.
    """
    return np.array([_cosine(_runs(first), _runs(second)) for first, second in pairs])


def cross_encoder(model: Any, tokenizer: Any, *, batch_size: int = 64) -> Similarity:
    """Return the similarity of a cross-encoder with one output, such as STS-B's RoBERTa.

    Its sigmoid is 0 to 1 already. (Dividing by 5, the scale of STS-B's labels, collapses relevance
    weights until the score is the mean negative log-likelihood.) Raises ``UsageError`` for a
    classifier with several outputs: the first of an NLI model is often contradiction.
    """
    if model.config.num_labels != 1:
        raise UsageError(
            f"similarity_model tells {count(model.config.num_labels, 'class', 'classes')} apart, "
            "and how alike two texts are is one number",
            fix="Give a cross-encoder with one output (stsb_roberta_large) or a sentence encoder "
            "(minilm_l6_v2); a model for entailment is given with nli_model",
        )

    def similar(pairs: Sequence[Pair]) -> np.ndarray:
        logits = pair_logits(model, tokenizer, pairs, batch_size)
        return np.asarray(logits[:, 0].double().sigmoid())

    return similar


def sentence_encoder(model: Any, tokenizer: Any, *, batch_size: int = 256) -> Similarity:
    """Return the similarity of an encoder of texts, such as MiniLM: the cosine, 0 where negative.

    A text's vector is the mean of its tokens' last hidden states, of ``MOST_TOKENS`` at most, as
    sentence-transformers makes it. Each text is read once.
    """
    known: dict[str, np.ndarray] = {}

    def similar(pairs: Sequence[Pair]) -> np.ndarray:
        new = [
            text for text in dict.fromkeys(t for pair in pairs for t in pair) if text not in known
        ]
        for start in range(0, len(new), batch_size):
            part = new[start : start + batch_size]
            known.update(zip(part, _vectors(model, tokenizer, part), strict=True))
        cosines = [1.0 if a == b else float(known[a] @ known[b]) for a, b in pairs]
        return np.clip(np.array(cosines, np.float64), 0, 1)

    return similar


def _vectors(model: Any, tokenizer: Any, texts: list[str]) -> np.ndarray:
    """Return the texts' vectors of length 1, float64 [n, width]."""
    import torch

    batch = tokenizer(
        texts, padding=True, truncation=True, max_length=MOST_TOKENS, return_tensors="pt"
    ).to(model.device)
    with torch.no_grad():
        states = model(**batch).last_hidden_state  # [n, tokens, width]
    mask = batch["attention_mask"][..., None]
    means = (states * mask).sum(1) / mask.sum(1)
    return np.asarray(torch.nn.functional.normalize(means.double(), dim=-1).cpu())


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
