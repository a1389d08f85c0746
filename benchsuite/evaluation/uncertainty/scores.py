"""One score for every question, and what scores may need beside the answers."""

import importlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import numpy as np

from benchsuite.errors import BenchsuiteError
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
    under every score, so that all scores are compared on the same ones; so is one without a number
    (NaN). Raises ``BenchsuiteError`` where a score has another number of values than there are
    answers, or one that is no finite number.
    """
    answered = [one for one in asked if len(one.greedy.token_ids)]
    chosen = entry(name)
    function = getattr(importlib.import_module(chosen.module), chosen.function)
    given = list(function(answered, tools)) if answered else []
    if len(given) != len(answered):
        raise BenchsuiteError(
            f"the score {name} gave {len(given)} values for {len(answered)} answers",
            fix="Return one value for each answer, in their order, Undefined(reason) where none is",
        )
    found = iter(map(_checked, repeat(name), answered, given))
    values: list[float | Undefined] = [
        next(found) if len(one.greedy.token_ids) else Undefined("the answer has no token")
        for one in asked
    ]
    reasons = Counter(value.reason for value in values if isinstance(value, Undefined))
    numbers = [np.nan if isinstance(value, Undefined) else value for value in values]
    return Scores(np.array(numbers, np.float64), dict(reasons))


def _checked(name: str, one: Asked, value: Any) -> float | Undefined:
    """Return what a score said of a question; what ranks nothing is an error that names both."""
    if isinstance(value, Undefined):
        return value
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.inf
    if math.isinf(number):
        raise BenchsuiteError(
            f"the score {name} of question {one.question.id} is {value!r}, not a finite number",
            fix="Return a number, or Undefined(reason) where there is none",
        )
    return Undefined("the score is not a number") if math.isnan(number) else number
