"""Four-choice questions (ARC): macro-F1 over the letters, and accuracy.

Macro-F1 is the mean of the four letters' F1. A prediction in which no letter can be read counts as
wrong, as a miss of its right letter, and the share of readable ones is reported: dropping them
would reward a broken model.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from benchsuite.embedded import prompts
from benchsuite.embedded.schema import Choice
from benchsuite.errors import UsageError
from benchsuite.evaluation.generation import Progress, generate, log_likelihoods

STOP = ("\n", "Question:")
MAX_NEW_TOKENS = 24
UNPARSED = -1
LETTERS = prompts.LETTERS

_ALONE = re.compile(r"\W*([A-Da-d])\W*")  # B, (b), **B**, B.
_LEADING = re.compile(r"\W*([A-D])\s?[.):\]]")  # B. fig, (B) fig
_TRAILING = re.compile(r"[(\[]([A-D])[)\]]\W*$")  # fig (B)
_NAMED = re.compile(r"(?i:\b(?:answer|option|choice))(?i:\s+is)?\W+([A-D])\b")  # the answer is B


@dataclass(frozen=True)
class ArcScores:
    """Scores in percent over ``n`` questions: ``letter_f1`` of A, B, C, D and the rest.

    By item, in their order: ``predictions`` int64 [n], the option's index or ``UNPARSED``;
    ``correct`` bool [n]; ``texts`` as generated (empty where options were scored).
    """

    macro_f1: float
    accuracy: float
    parse_rate: float
    letter_f1: tuple[float, float, float, float]
    n: int
    predictions: np.ndarray = field(repr=False)
    correct: np.ndarray = field(repr=False)
    texts: tuple[str, ...] = field(default=(), repr=False)


def evaluate(
    model: nn.Module,
    tokenizer: Any,
    items: Sequence[Choice],
    *,
    form: str = "letters",
    examples: Sequence[Choice] = (),
    max_new_tokens: int = MAX_NEW_TOKENS,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> ArcScores:
    """Return the scores on questions with four options each.

    ``form`` is the prompt's: ``letters`` lists the options and generates a letter, ``full`` the
    option and its letter, ``listed`` the option alone; ``text`` shows no options and takes the one
    whose text has the highest log-probability after the question, as lm-eval does (always
    readable). Raises ``UsageError`` for a question with another number of options.
    """
    _check(items, form)
    asked = [prompts.prompt(item, examples=examples, form=form) for item in items]
    if form == "text":
        likely = _most_likely(model, tokenizer, asked, items, batch_size, progress)
        return score(likely, items)
    answers = generate(
        model,
        tokenizer,
        asked,
        max_new_tokens=max_new_tokens,
        stop=STOP,
        batch_size=batch_size,
        progress=progress,
    )
    read = [parse(text, item.choices) for text, item in zip(answers.texts, items, strict=True)]
    return score(read, items, answers.texts)


def score(
    predictions: Sequence[int | None], items: Sequence[Choice], texts: Sequence[str] = ()
) -> ArcScores:
    """Return the scores of given predictions: the options' indices, None for an unreadable one."""
    if not items:
        raise ValueError("there is no question to score")
    _check(items, "letters")
    found = np.array([UNPARSED if p is None else p for p in predictions], np.int64)
    right = np.array([item.answer for item in items], np.int64)
    correct = found == right
    by_letter = [_f1(found == i, right == i) for i in range(len(LETTERS))]
    return ArcScores(
        macro_f1=float(np.mean(by_letter)),
        accuracy=100 * float(correct.mean()),
        parse_rate=100 * float((found != UNPARSED).mean()),
        letter_f1=(by_letter[0], by_letter[1], by_letter[2], by_letter[3]),
        n=len(items),
        predictions=found,
        correct=correct,
        texts=tuple(texts),
    )


def parse(text: str, choices: Sequence[str]) -> int | None:
    """Return the index of the option that an answer names, or None.

    Read in this order: a letter alone; an option's whole text; a letter before a bracket, point or
    colon; one in brackets at the end; one after "answer", "option" or "choice". A bare "A" inside a
    sentence is an article, and read as nothing.
    """
    if found := _ALONE.fullmatch(text):
        return LETTERS.index(found[1].upper())
    same = [i for i, choice in enumerate(choices) if _bare(choice) == _bare(text)]
    if len(same) == 1:
        return same[0]
    found = _LEADING.match(text) or _TRAILING.search(text) or _NAMED.search(text)
    return LETTERS.index(found[1]) if found else None


def with_four_options(items: Sequence[Choice]) -> list[Choice]:
    """Return the questions with exactly four options: ARC has a few with three or five."""
    return [item for item in items if len(item.choices) == len(LETTERS)]


def _most_likely(
    model: nn.Module,
    tokenizer: Any,
    asked: Sequence[str],
    items: Sequence[Choice],
    batch_size: int,
    progress: Progress | None,
) -> list[int]:
    prefixes, options = [], []
    for prompt, item in zip(asked, items, strict=True):
        n = len(tokenizer(prompt)["input_ids"])
        for choice in item.choices:
            # Tokenized together: alone, a word at the beginning of a text may be another token.
            ids = tokenizer(f"{prompt} {choice}")["input_ids"]
            prefixes.append(ids[:n])
            options.append(ids[n:])
    found = log_likelihoods(model, prefixes, options, batch_size=batch_size, progress=progress)
    totals = np.array([values.sum() for values in found]).reshape(len(items), len(LETTERS))
    return totals.argmax(1).tolist()


def _f1(found: np.ndarray, right: np.ndarray) -> float:
    """Return one letter's F1 in percent; 0 where it is neither right nor found anywhere."""
    both = int((found & right).sum())
    total = int(found.sum() + right.sum())
    return 200 * both / total if total else 0.0


def _bare(text: str) -> str:
    return re.sub(r"^\W+|\W+$", "", text).casefold()


def _check(items: Sequence[Choice], form: str) -> None:
    if form not in prompts.FORMS:
        raise UsageError(f"unknown form {form!r}", fix=f"Known: {', '.join(prompts.FORMS)}")
    for item in items:
        if len(item.choices) != len(LETTERS):
            raise UsageError(
                f"question {item.id} has {len(item.choices)} options, not {len(LETTERS)}",
                fix="Keep those with four: arc.with_four_options(items)",
            )
