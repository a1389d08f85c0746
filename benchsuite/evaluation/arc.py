"""Four-choice questions (ARC, MMLU, HellaSwag): macro-F1 over the letters, and accuracy.

Macro-F1 is the mean of the four letters' F1. A prediction in which no letter can be read counts as
wrong, as a miss of its right letter, and the share of readable ones is reported: dropping them
would reward a broken model. ``forms`` says how they are asked; where the options' texts are scored,
the accuracies are lm-eval's ``acc`` and ``acc_norm``.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import nn

from benchsuite.embedded import prompts
from benchsuite.embedded.schema import Choice
from benchsuite.errors import UsageError
from benchsuite.evaluation import forms
from benchsuite.evaluation.chat import continued
from benchsuite.evaluation.fitting import MOST_LEFT_OUT, fit, fitting
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

    By item, in their order: ``ids``; ``subjects``, empty texts where a set has none;
    ``predictions`` int64 [n], the option's index or ``UNPARSED``; ``correct`` bool [n]; ``texts``
    as generated (empty where options were scored). ``left_out``
    says of each question that was not asked why, by its id.

    Where options were scored, ``log_likelihoods`` float64 [n, 4] in nats, and of their texts
    ``accuracy_norm``: that of the option of the highest log-likelihood per character (lm-eval's
    ``acc_norm``, which counts characters and not bytes), with its ``predictions_norm`` int64 [n].
    """

    macro_f1: float
    accuracy: float
    parse_rate: float
    letter_f1: tuple[float, float, float, float]
    n: int
    predictions: np.ndarray = field(repr=False)
    correct: np.ndarray = field(repr=False)
    texts: tuple[str, ...] = field(default=(), repr=False)
    ids: tuple[str, ...] = field(default=(), repr=False)
    subjects: tuple[str, ...] = field(default=(), repr=False)
    left_out: Mapping[str, str] = field(default_factory=dict, repr=False)
    log_likelihoods: np.ndarray | None = field(default=None, repr=False)
    accuracy_norm: float | None = None
    predictions_norm: np.ndarray | None = field(default=None, repr=False)

    def by_subject(self) -> dict[str, dict[str, float]]:
        """Return each subject's ``accuracy`` in percent and its ``n`` questions, MMLU's 57 say."""
        names = np.array(self.subjects)
        return {
            str(name): {
                "accuracy": 100 * float(self.correct[names == name].mean()),
                "n": int((names == name).sum()),
            }
            for name in sorted(set(self.subjects) - {""})
        }


def evaluate(
    model: nn.Module,
    tokenizer: Any,
    items: Sequence[Choice],
    *,
    form: str = "letters",
    examples: Sequence[Choice] = (),
    chat: bool = False,
    max_new_tokens: int = MAX_NEW_TOKENS,
    most_left_out: float = MOST_LEFT_OUT,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> ArcScores:
    """Return the scores on questions with four options each.

    ``form`` is one of ``forms.CHOICES``, ``chat`` asks in the tokenizer's chat template. Questions
    that exceed the model's context are left out. Raises ``UsageError`` where they are more than
    ``most_left_out`` percent, and for a question with another number of options.
    """
    _check(items, form)
    if form in forms.SCORED:
        return _scored(
            model, tokenizer, items, examples, form, chat, most_left_out, batch_size, progress
        )
    asked = [forms.asked(item, examples=examples, form=form, chat=chat) for item in items]
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
    pairs = zip(answers.texts, fit_in.items, strict=True)
    read = [parse(text, item.choices) for text, item in pairs]
    return replace(score(read, fit_in.items, answers.texts), left_out=fit_in.left_out)


def score(
    predictions: Sequence[int | None], items: Sequence[Choice], texts: Sequence[str] = ()
) -> ArcScores:
    """Return the scores of given predictions: the options' indices, None for an unreadable one.

    Raises ``ValueError`` without an item.
    """
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
        ids=tuple(item.id for item in items),
        subjects=tuple(item.subject for item in items),
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


def _scored(
    model: nn.Module,
    tokenizer: Any,
    items: Sequence[Choice],
    examples: Sequence[Choice],
    form: str,
    chat: bool,
    most_left_out: float,
    batch_size: int | None,
    progress: Progress | None,
) -> ArcScores:
    """Return the scores of the options of highest log-likelihood."""
    texts = [
        (
            forms.asked(item, examples=examples, form=form, chat=chat),
            forms.scored_texts(item, form, chat=chat),
        )
        for item in items
    ]
    asked = continued(tokenizer, texts)
    lengths = [len(first) + max(map(len, options)) for first, options in asked]
    names = [item.id for item in items]
    kept, out = fitting(model, lengths, 0, names, most_left_out=most_left_out)
    found = log_likelihoods(
        model,
        [asked[i][0] for i in kept for _ in LETTERS],
        [option for i in kept for option in asked[i][1]],
        batch_size=batch_size,
        progress=progress,
    )
    totals = np.array([values.sum() for values in found]).reshape(len(kept), len(LETTERS))
    fit_in = [items[i] for i in kept]
    scores = replace(score(totals.argmax(1).tolist(), fit_in), left_out=out, log_likelihoods=totals)
    if form == "options":
        return scores
    per_character = totals / np.array([[*map(len, item.choices)] for item in fit_in])
    best = per_character.argmax(1)
    right = best == np.array([item.answer for item in fit_in])
    return replace(scores, accuracy_norm=100 * float(right.mean()), predictions_norm=best)


def _f1(found: np.ndarray, right: np.ndarray) -> float:
    """Return one letter's F1 in percent; 0 where it is neither right nor found anywhere."""
    both = int((found & right).sum())
    total = int(found.sum() + right.sum())
    return 200 * both / total if total else 0.0


def _bare(text: str) -> str:
    return re.sub(r"^\W+|\W+$", "", text).casefold()


def _check(items: Sequence[Choice], form: str) -> None:
    if form not in forms.CHOICES:
        raise UsageError(f"unknown form {form!r}", fix=f"Known: {', '.join(forms.CHOICES)}")
    for item in items:
        if len(item.choices) != len(LETTERS):
            raise UsageError(
                f"question {item.id} has {len(item.choices)} options, not {len(LETTERS)}",
                fix="Keep those with four: arc.with_four_options(items)",
            )
