"""One score for every question, and what scores may need beside the answers."""

import importlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchsuite.evaluation.uncertainty.answers import Asked
from benchsuite.evaluation.uncertainty.registry import entry
from benchsuite.evaluation.uncertainty.relevance import Relevance
from benchsuite.evaluation.uncertainty.similarity import lexical


@dataclass(frozen=True)
class Undefined:
    """Why a score has no value for a question."""

    reason: str


BEYOND = Undefined("its prompt exceeds the model's context")


@dataclass(frozen=True)
class Scores:
    """``values`` float64 [n], higher is less sure, NaN where undefined; ``reasons`` counts why."""

    values: np.ndarray
    reasons: dict[str, int]

    @property
    def defined(self) -> np.ndarray:
        """Which questions have a value, bool [n]."""
        return ~np.isnan(self.values)


@dataclass
class Tools:
    """What scores may need beside the answers.

    ``relevance`` holds a similarity too; ``entailment`` is that of ``semantic.nli``. ``network``
    and ``tokenizer`` are the model that answered, ``demonstrations`` train questions that it
    answered as well.
    """

    seed: int = 0
    relevance: Relevance = field(default_factory=lambda: Relevance(lexical))
    entailment: Any = None
    network: Any = None
    tokenizer: Any = None
    demonstrations: Sequence[Asked] = ()
    batch_size: int | None = None


def score(name: str, asked: Sequence[Asked], tools: Tools) -> Scores:
    """Return a registered score of every question.

    A greedy answer without a token leaves nothing to be unsure of: such questions are undefined
    under every score, so that all scores are compared on the same ones.
    """
    answered = [one for one in asked if len(one.greedy.token_ids)]
    chosen = entry(name)
    function = getattr(importlib.import_module(chosen.module), chosen.function)
    found = iter(function(answered, tools) if answered else ())
    values: list[float | Undefined] = [
        next(found) if len(one.greedy.token_ids) else Undefined("the answer has no token")
        for one in asked
    ]
    reasons = Counter(value.reason for value in values if isinstance(value, Undefined))
    numbers = [np.nan if isinstance(value, Undefined) else value for value in values]
    return Scores(np.array(numbers, np.float64), dict(reasons))
