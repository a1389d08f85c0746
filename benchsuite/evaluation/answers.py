"""A model's answers to three sets of questions, and how many of them compression changed.

A *flip* is a question that the original answers rightly and the compressed model wrongly, or the
other way round (Dutta et al. 2024, arXiv 2407.09141): accuracies can agree while many answers
changed. A SQuAD answer is right where it matches exactly, a number within the maths tolerance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from benchsuite.embedded.schema import Choice, Problem, Question
from benchsuite.evaluation import arc, maths, squad
from benchsuite.evaluation.divergence import flips
from benchsuite.evaluation.fitting import MOST_LEFT_OUT
from benchsuite.evaluation.generation import Progress
from benchsuite.statistics import mcnemar, proportion_interval


@dataclass(frozen=True)
class QuestionSet:
    """Questions of one schema, the worked examples shown before each, and how they are asked.

    ``form`` is that of four-choice questions; ``chat`` asks in the tokenizer's chat template;
    ``most_left_out`` is the percent of questions that may exceed the model's context.
    """

    items: Sequence[Any]
    examples: Sequence[Any] = ()
    form: str = "letters"
    max_new_tokens: int = maths.MAX_NEW_TOKENS
    chat: bool = False
    most_left_out: float = MOST_LEFT_OUT


@dataclass(frozen=True)
class Answers:
    """Scores of four-choice questions, questions about passages, and word problems.

    Nothing is read out of a SQuAD answer, which is compared as it is: it has no parse rate.
    """

    arc: arc.ArcScores
    squad: squad.SquadScores
    maths: maths.MathsScores

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the questions asked, set after set."""
        return (*self.arc.ids, *self.squad.ids, *self.maths.ids)

    @property
    def correct(self) -> np.ndarray:
        """Whether each answer is right, bool [questions], set after set."""
        return np.concatenate([self.arc.correct, self.squad.item_exact, self.maths.correct])

    @property
    def sets(self) -> np.ndarray:
        """The set of each question, str [questions]: ``arc``, ``squad`` or ``maths``."""
        return np.repeat(["arc", "squad", "maths"], [self.arc.n, self.squad.n, self.maths.n])

    def values(self) -> dict[str, Any]:
        """Return the scores by a record's keys; shares and F1 are in percent."""
        return {
            "arc_macro_f1": self.arc.macro_f1,
            "arc_accuracy": self.arc.accuracy,
            "arc_accuracy_norm": self.arc.accuracy_norm,
            "arc_by_subject": self.arc.by_subject(),
            "arc_parse_rate": self.arc.parse_rate if self.arc.log_likelihoods is None else None,
            "squad_f1": self.squad.f1,
            "squad_exact": self.squad.exact,
            "maths_mean_difference": self.maths.mean_difference,
            "maths_median_difference": self.maths.median_difference,
            "maths_accuracy": self.maths.accuracy,
            "maths_parse_rate": self.maths.parse_rate,
            "n_questions_asked": {
                n: int((self.sets == n).sum()) for n in ("arc", "squad", "maths")
            },
            "questions_left_out": {
                "arc": dict(self.arc.left_out),
                "squad": dict(self.squad.left_out),
                "maths": dict(self.maths.left_out),
            },
        }

    def rows(self) -> dict[str, Any]:
        """Return one row per question: id, set, passage, the answer as text, right or wrong."""
        options = [str(choice) for choice in self.arc.predictions]
        numbers = [str(number) for number in self.maths.predictions]
        return {
            "question": list(self.ids),
            "question_set": self.sets,
            "passage": [*self.arc.ids, *self.squad.passages, *self.maths.ids],
            "answer": [*options, *self.squad.predictions, *numbers],
            "correct": self.correct,
        }


def ask(
    model: nn.Module,
    tokenizer: Any,
    choices: QuestionSet,
    passages: QuestionSet,
    problems: QuestionSet,
    *,
    progress: Progress | None = None,
) -> Answers:
    """Return the model's greedy answers to ``Choice``, ``Question`` and ``Problem`` items."""
    first: Sequence[Choice] = choices.items
    second: Sequence[Question] = passages.items
    third: Sequence[Problem] = problems.items

    def common(asked: QuestionSet) -> dict[str, Any]:
        return {
            "examples": asked.examples,
            "chat": asked.chat,
            "most_left_out": asked.most_left_out,
            "progress": progress,
        }

    return Answers(
        arc.evaluate(model, tokenizer, first, form=choices.form, **common(choices)),
        squad.evaluate(model, tokenizer, second, **common(passages)),
        maths.evaluate(
            model,
            tokenizer,
            third,
            max_new_tokens=problems.max_new_tokens,
            **common(problems),
        ),
    )


def changed(answers: Answers, original: np.ndarray) -> dict[str, Any]:
    """Compare with the original's right answers, bool [questions], question by question.

    Returns shares in percent, by a record's keys: ``flipped`` and its 95 % interval over questions
    (Wilson's), the same by set, and ``accuracy_change`` (the difference of the shares of right
    answers, paired) with its interval (Tango's). Both have a width where nothing changed.
    """
    flipped = flips(original, answers.correct).flipped
    change = mcnemar(answers.correct, original)
    names = ("arc", "squad", "maths")
    return {
        "flipped": 100 * float(flipped.mean()),
        "flipped_ci95": _percent(*proportion_interval(int(flipped.sum()), len(flipped))),
        "flipped_by_set": {n: 100 * float(flipped[answers.sets == n].mean()) for n in names},
        "accuracy_change": 100 * float(answers.correct.mean() - original.mean()),
        "accuracy_change_ci95": _percent(change.ci_low, change.ci_high),
    }


def _percent(low: float | None, high: float | None) -> list[float] | None:
    return None if low is None or high is None else [100 * low, 100 * high]
