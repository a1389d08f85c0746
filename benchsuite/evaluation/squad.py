"""SQuAD v2's official scores: F1 over words and exact match, unanswerable questions included.

After the official script (Rajpurkar et al. 2018, arXiv 1806.03822): answers are compared without
case, punctuation, articles and extra white space; the best of the accepted answers counts; the
right answer to an unanswerable question is none. TriviaQA is scored by the same rule.
"""

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import nn

from benchsuite.embedded import prompts
from benchsuite.embedded.schema import Question
from benchsuite.evaluation import forms
from benchsuite.evaluation.fitting import MOST_LEFT_OUT, fit
from benchsuite.evaluation.generation import Generation, Progress, generate

STOP = ("\n", "Question:", "Context:")
MAX_NEW_TOKENS = 50
# What a model writes for "there is none"; the official empty answer.
REFUSALS = frozenset({prompts.NO_ANSWER, "unanswerable"})

_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class SquadScores:
    """Scores in percent over ``n`` questions, and over the answerable and unanswerable ones apart.

    A part without questions has None. By item, in their order: ``item_f1`` float64 [n] in percent,
    ``item_exact`` bool [n], ``answerable`` bool [n], ``predictions`` (empty for no answer),
    ``ids``, ``passages`` (their names), and ``generation`` where the answers were generated here.
    ``left_out`` says of each question that was not asked why, by its id.
    """

    f1: float
    exact: float
    answerable_f1: float | None
    answerable_exact: float | None
    unanswerable_f1: float | None
    n: int
    n_answerable: int
    item_f1: np.ndarray = field(repr=False)
    item_exact: np.ndarray = field(repr=False)
    answerable: np.ndarray = field(repr=False)
    predictions: tuple[str, ...] = field(repr=False)
    generation: Generation | None = field(default=None, repr=False)
    ids: tuple[str, ...] = field(default=(), repr=False)
    passages: tuple[str, ...] = field(default=(), repr=False)
    left_out: Mapping[str, str] = field(default_factory=dict, repr=False)


def evaluate(
    model: nn.Module,
    tokenizer: Any,
    items: Sequence[Question],
    *,
    examples: Sequence[Question] = (),
    chat: bool = False,
    max_new_tokens: int = MAX_NEW_TOKENS,
    most_left_out: float = MOST_LEFT_OUT,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> SquadScores:
    """Return the scores of greedy answers, after ``examples`` as worked examples.

    ``chat`` asks in the tokenizer's chat template. Questions that exceed the model's context are
    left out; ``UsageError`` where they are more than ``most_left_out`` percent.
    """
    asked = [forms.asked(item, examples=examples, chat=chat) for item in items]
    fit_in = fit(model, tokenizer, items, asked, max_new_tokens, most_left_out=most_left_out)
    answers = generate(
        model,
        tokenizer,
        fit_in.ids,
        max_new_tokens=max_new_tokens,
        stop=STOP,
        batch_size=batch_size,
        progress=progress,
    )
    scores = score([prediction(text) for text in answers.texts], fit_in.items, answers)
    return replace(scores, left_out=fit_in.left_out)


def score(
    predictions: Sequence[str],
    items: Sequence[Question],
    generated: Generation | None = None,
) -> SquadScores:
    """Return the scores of given predictions; an empty one says that there is no answer.

    Raises ``ValueError`` without an item.
    """
    if not items:
        raise ValueError("there is no question to score")
    pairs = list(zip(predictions, items, strict=True))
    f1_values = np.array([100 * f1(text, item.aliases) for text, item in pairs])
    exact_values = np.array([exact(text, item.aliases) for text, item in pairs])
    answerable = np.array([item.answerable for item in items])
    return SquadScores(
        f1=float(f1_values.mean()),
        exact=100 * float(exact_values.mean()),
        answerable_f1=_mean(f1_values[answerable]),
        answerable_exact=_mean(100.0 * exact_values[answerable]),
        unanswerable_f1=_mean(f1_values[~answerable]),
        n=len(items),
        n_answerable=int(answerable.sum()),
        item_f1=f1_values,
        item_exact=exact_values,
        answerable=answerable,
        predictions=tuple(predictions),
        generation=generated,
        ids=tuple(item.id for item in items),
        passages=tuple(item.passage for item in items),
    )


def prediction(text: str) -> str:
    """Return a generated text as an answer: without outer blanks, empty where it refuses."""
    return "" if normalise(text) in REFUSALS else text.strip()


def normalise(text: str) -> str:
    """Return the text in lower case, without ASCII punctuation, articles and extra white space."""
    bare = text.lower().translate(_NO_PUNCTUATION)
    return " ".join(_ARTICLE.sub(" ", bare).split())


def exact(predicted: str, accepted: Sequence[str]) -> bool:
    """Tell whether the answer equals one of the accepted ones, normalised."""
    return normalise(predicted) in _golds(accepted)


def f1(predicted: str, accepted: Sequence[str]) -> float:
    """Return the best F1, 0 to 1, between the answer's words and those of an accepted answer."""
    words = normalise(predicted).split()
    return max(_overlap(words, gold.split()) for gold in _golds(accepted))


def _golds(accepted: Sequence[str]) -> list[str]:
    """Return the accepted answers normalised: those of which something is left, or no answer."""
    return [gold for gold in map(normalise, accepted) if gold] or [""]


def _overlap(words: list[str], gold: list[str]) -> float:
    if not words or not gold:
        return float(words == gold)
    common = (Counter(words) & Counter(gold)).total()
    return 2 * common / (len(words) + len(gold))


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None
