"""One generation pass: a greedy answer and sampled ones to every question, kept for all scores.

Everything about tokens comes from the generated ids. No answer is ever tokenized again, so no token
can be lost or shifted against its log-probability.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from benchsuite.embedded.schema import Question
from benchsuite.evaluation.fitting import MOST_LEFT_OUT, fit
from benchsuite.evaluation.generation import Generation, Progress, generate, sample
from benchsuite.evaluation.squad import STOP
from benchsuite.evaluation.uncertainty import prompts

FILE = "answers.parquet"
LEFT_OUT = "left_out.json"


@dataclass(frozen=True)
class Answer:
    """One answer: its text, and its tokens' ids int64 [T] and log-probabilities float64 [T] (nats).

    ``pieces`` is the text that each token adds, for reading; ``without`` is the answer with each
    token left out in turn. ``ended_by`` is ``stop``, ``end`` or ``limit``. A greedy answer
    has the ``entropies`` float64 [T] (nats) of the distributions that its tokens were taken from.
    An empty answer has no token.
    """

    text: str
    token_ids: np.ndarray
    log_probs: np.ndarray
    pieces: tuple[str, ...]
    without: tuple[str, ...]
    ended_by: str
    entropies: np.ndarray = field(default_factory=lambda: np.empty(0))

    @property
    def nll(self) -> float:
        """The answer's negative log-likelihood in nats: minus the sum over its tokens."""
        return -float(self.log_probs.sum())


@dataclass(frozen=True)
class Asked:
    """A question with the model's greedy answer and its sampled ones."""

    question: Question
    greedy: Answer
    samples: tuple[Answer, ...]


@dataclass(frozen=True)
class Pass:
    """The questions that were asked, and why each other one was left out, by its id."""

    asked: list[Asked]
    left_out: dict[str, str]


def ask(
    model: nn.Module,
    tokenizer: Any,
    questions: Sequence[Question],
    *,
    examples: Sequence[Question] = (),
    form: str = "published",
    chat: bool = False,
    n_samples: int = 10,
    temperature: float = 1.0,
    seed: int = 0,
    max_new_tokens: int = 50,
    most_left_out: float = MOST_LEFT_OUT,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Pass:
    """Return every question's greedy answer and ``n_samples`` drawn ones, after worked examples.

    Answers end before a new line, ``Question:`` or ``Context:``, and so do their log-probabilities.
    ``chat`` asks in the tokenizer's chat template. Questions that exceed the model's context are
    left out; ``UsageError`` where they are more than ``most_left_out`` percent.
    """
    texts = [prompts.asked(question, examples, form=form, chat=chat) for question in questions]
    fit_in = fit(model, tokenizer, questions, texts, max_new_tokens, most_left_out=most_left_out)
    common: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "stop": STOP,
        "batch_size": batch_size,
        "progress": progress,
    }
    greedy = answers_of(tokenizer, generate(model, tokenizer, fit_in.ids, entropies=True, **common))
    drawn = sample(
        model,
        tokenizer,
        fit_in.ids,
        n_samples=n_samples,
        seed=seed,
        temperature=temperature,
        **common,
    )
    samples = (tuple(answers_of(tokenizer, found)) for found in drawn)
    rows = zip(fit_in.items, greedy, samples, strict=True)
    return Pass([Asked(*row) for row in rows], fit_in.left_out)


def answers_of(tokenizer: Any, found: Generation) -> list[Answer]:
    """Return generated answers with the texts that their tokens make."""
    return [
        Answer(text, ids, log_probs, *_texts(tokenizer, text, ids.tolist()), ended_by, entropies)
        for text, ids, log_probs, ended_by, entropies in zip(*vars(found).values(), strict=True)
    ]


def _texts(tokenizer: Any, text: str, ids: list[int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what each token adds to the text, and the text without it."""

    def decode(part: list[int]) -> str:
        return tokenizer.decode(part, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    begun = [decode(ids[:t]) for t in range(len(ids) + 1)]
    # The last token may hold the stop as well: what the answer was cut of is no part of it.
    cut = begun[-1][len(text) :]
    pieces = [after[len(before) :] for before, after in pairwise(begun)]
    without = [decode(ids[:t] + ids[t + 1 :]) for t in range(len(ids))]
    if cut:
        pieces[-1] = pieces[-1].removesuffix(cut)
        without = [left.removesuffix(cut) for left in without[:-1]] + without[-1:]
    return tuple(pieces), tuple(without)


# --- the artefact that all scores share


def save(folder: Path, made: Pass) -> None:
    """Write questions and answers into ``folder``, one row per answer (the greedy one is -1)."""
    import pyarrow
    import pyarrow.parquet

    rows = []
    for place, one in enumerate(made.asked):
        facts = {f"question_{f.name}": getattr(one.question, f.name) for f in fields(Question)}
        for draw, answer in enumerate((one.greedy, *one.samples), start=-1):
            own = {f.name: getattr(answer, f.name) for f in fields(Answer)}
            rows.append({"place": place, "draw": draw, **facts, **own})
    kinds = {
        "token_ids": pyarrow.list_(pyarrow.int64()),
        **dict.fromkeys(("log_probs", "entropies"), pyarrow.list_(pyarrow.float64())),
        **dict.fromkeys(("pieces", "without", "question_aliases"), pyarrow.list_(pyarrow.string())),
    }
    columns = {
        name: pyarrow.array([row[name] for row in rows], kinds.get(name))
        for name in (rows[0] if rows else ())
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / FILE)
    (folder / LEFT_OUT).write_text(json.dumps(made.left_out), encoding="utf-8")


def load(folder: Path) -> Pass:
    """Return what ``save`` wrote."""
    import pyarrow.parquet

    found: dict[int, tuple[Question, list[Answer]]] = {}
    for row in pyarrow.parquet.read_table(folder / FILE).to_pylist():
        values = {f.name: row[f"question_{f.name}"] for f in fields(Question)}
        question = Question(**values | {"aliases": tuple(values["aliases"])})
        answers = found.setdefault(row["place"], (question, []))[1]
        answers.append(
            Answer(
                row["text"],
                np.array(row["token_ids"], np.int64),
                np.array(row["log_probs"], np.float64),
                tuple(row["pieces"]),
                tuple(row["without"]),
                row["ended_by"],
                np.array(row["entropies"], np.float64),
            )
        )
    asked = [
        Asked(question, answers[0], tuple(answers[1:]))
        for _, (question, answers) in sorted(found.items())
    ]
    return Pass(asked, json.loads((folder / LEFT_OUT).read_text(encoding="utf-8")))
