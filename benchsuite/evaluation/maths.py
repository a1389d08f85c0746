"""Word problems with a number for an answer (OpenMath, GSM8K): how far off the last number is.

The mean distance is what the source document reports. One wild answer of a broken model can rule
it, so the median and the share of answers with a number at all stand beside it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import nn

from benchsuite.embedded.schema import Problem
from benchsuite.errors import UsageError
from benchsuite.evaluation import forms
from benchsuite.evaluation.fitting import MOST_LEFT_OUT, fit
from benchsuite.evaluation.generation import Progress, generate
from benchsuite.evaluation.numbers import final_number

STOP = ("\n\n", "Question:")
MAX_NEW_TOKENS = 256
TOLERANCE = 1e-4


@dataclass(frozen=True)
class MathsScores:
    """Distances over the readable answers of ``n`` problems; None where none is readable.

    ``accuracy`` (within ``TOLERANCE``; an unreadable answer is wrong) and ``parse_rate`` are in
    percent of all problems. By item, in their order: ``predictions`` and ``differences`` float64
    [n], NaN where unreadable; ``correct`` bool [n]; ``texts`` as generated; ``ids``. ``left_out``
    says of each problem that was not asked why, by its id.
    """

    mean_difference: float | None
    median_difference: float | None
    accuracy: float
    parse_rate: float
    n: int
    predictions: np.ndarray = field(repr=False)
    differences: np.ndarray = field(repr=False)
    correct: np.ndarray = field(repr=False)
    texts: tuple[str, ...] = field(default=(), repr=False)
    ids: tuple[str, ...] = field(default=(), repr=False)
    left_out: Mapping[str, str] = field(default_factory=dict, repr=False)


def evaluate(
    model: nn.Module,
    tokenizer: Any,
    items: Sequence[Problem],
    *,
    examples: Sequence[Problem] = (),
    chat: bool = False,
    max_new_tokens: int = MAX_NEW_TOKENS,
    most_left_out: float = MOST_LEFT_OUT,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> MathsScores:
    """Return the scores of greedy solutions, after ``examples`` as worked examples.

    ``chat`` asks in the tokenizer's chat template, where a solution may have paragraphs and ends
    with its turn. Problems that exceed the model's context are left out; ``UsageError`` where they
    are more than ``most_left_out`` percent.
    """
    asked = [forms.asked(item, examples=examples, chat=chat) for item in items]
    fit_in = fit(model, tokenizer, items, asked, max_new_tokens, most_left_out=most_left_out)
    answers = generate(
        model,
        tokenizer,
        fit_in.ids,
        max_new_tokens=max_new_tokens,
        stop=() if chat else STOP,
        batch_size=batch_size,
        progress=progress,
    )
    read = [final_number(text) for text in answers.texts]
    return replace(score(read, fit_in.items, answers.texts), left_out=fit_in.left_out)


def score(
    predictions: Sequence[float | None], items: Sequence[Problem], texts: Sequence[str] = ()
) -> MathsScores:
    """Return the scores of given numbers, None for an unreadable answer.

    Raises ``ValueError`` without an item.
    """
    if not items:
        raise ValueError("there is no problem to score")
    found = np.array([math.nan if p is None else p for p in predictions], np.float64)
    differences = np.abs(found - np.array([_gold(item) for item in items]))
    readable = differences[~np.isnan(differences)]
    correct = np.nan_to_num(differences, nan=math.inf) <= TOLERANCE
    return MathsScores(
        mean_difference=float(readable.mean()) if len(readable) else None,
        median_difference=float(np.median(readable)) if len(readable) else None,
        accuracy=100 * float(correct.mean()),
        parse_rate=100 * len(readable) / len(items),
        n=len(items),
        predictions=found,
        differences=differences,
        correct=correct,
        texts=tuple(texts),
        ids=tuple(item.id for item in items),
    )


def _gold(item: Problem) -> float:
    try:
        return float(item.answer)
    except ValueError:
        raise UsageError(
            f"the answer {item.answer!r} of problem {item.id} is not a number written in digits",
            fix="Give one as 12, -3.5 or 0.25",
        ) from None
