"""Word problems with a number for an answer (OpenMath, GSM8K): how far off the last number is.

The mean distance is what the study document reports; one wild answer of a broken model can rule it,
so the median and the share of answers with a number at all stand beside it.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import nn

from benchsuite.embedded import prompts
from benchsuite.embedded.schema import Problem
from benchsuite.errors import UsageError
from benchsuite.evaluation import forms
from benchsuite.evaluation.fitting import MOST_LEFT_OUT, fit
from benchsuite.evaluation.generation import Progress, generate

STOP = ("\n\n", "Question:")
MAX_NEW_TOKENS = 256
TOLERANCE = 1e-4

# What announces the answer: ours, GSM8K's, LaTeX's.
_MARKER = re.compile(rf"(?i:{re.escape(prompts.ANSWER_IS[:-1])}):?|####|\\boxed\s*\{{")
_NUMBER = re.compile(
    r"(?P<sign>(?<![\w)\]}.%$])[-−+])?(?:[$€£](?P<inner>[-−+])?)?"
    r"(?<![A-Za-z_\d])"  # no digit of x2 or CO2
    r"(?P<number>\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
    r"(?P<exponent>[eE][-+]?\d+)?"
    r"(?:/(?P<denominator>\d+(?:\.\d+)?))?"
)
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]+)\}\s*\{([^{}]+)\}")
_LATEX_SPACE = re.compile(r"\\[,!;]|\{,\}")


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
    batch_size: int = 32,
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
    """Return the scores of given numbers, None for an unreadable answer."""
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


def final_number(text: str) -> float | None:
    """Return the number that a solution ends in, or None.

    After the first "The answer is", ``####`` or ``\\boxed{``: the first number of that line, or the
    first after its last equals sign. Without any of these: the last number of the text. Commas
    between thousands, signs, decimals, exponents, currency before and units behind are read, and
    fractions as one number; percent signs are units. A number too large for a float is none.
    """
    text = _LATEX_SPACE.sub(lambda m: "," if m[0] == "{,}" else "", text)
    text = _FRACTION.sub(r"\1/\2", text)
    marker = _MARKER.search(text)
    if marker is None:
        values = _numbers(text)
        return values[-1] if values else None
    line = text[marker.end() :].lstrip().split("\n", 1)[0]
    values = _numbers(line.rsplit("=", 1)[-1])
    return values[0] if values else None


def _numbers(text: str) -> list[float]:
    return [value for m in _NUMBER.finditer(text) if math.isfinite(value := _value(m))]


def _value(found: re.Match[str]) -> float:
    value = float(found["number"].replace(",", "") + (found["exponent"] or ""))
    divisor = float(found["denominator"] or 1)
    value = value / divisor if divisor else math.nan
    return -value if {found["sign"], found["inner"]} & {"-", "−"} else value


def _gold(item: Problem) -> float:
    try:
        return float(item.answer)
    except ValueError:
        raise UsageError(
            f"the answer {item.answer!r} of problem {item.id} is not a number written in digits",
            fix="Give one as 12, -3.5 or 0.25",
        ) from None
