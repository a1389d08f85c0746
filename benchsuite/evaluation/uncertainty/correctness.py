"""Which answers are right, and which are none: SQuAD v2's official rules over all aliases.

An answer *abstains* if nothing is left of it after the official normalisation, or if what is left
is ``no answer`` or ``unanswerable`` (``squad.REFUSALS``). The right answer to an unanswerable
question is to abstain; to abstain from an answerable one is wrong.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchsuite.evaluation import squad
from benchsuite.evaluation.uncertainty.answers import Asked

THRESHOLD = 50.0
"""F1 in percent from which an answer counts as right: the published protocol's."""

Judge = Callable[[Sequence[Asked]], np.ndarray]


@dataclass(frozen=True)
class Grades:
    """By question [n]: ``f1`` float64 in percent; ``exact``, ``correct``, ``abstained`` bool.

    ``correct`` is by the rule that was asked for. ``answerable`` bool says which questions have an
    answer.
    """

    f1: np.ndarray
    exact: np.ndarray
    correct: np.ndarray
    abstained: np.ndarray
    answerable: np.ndarray

    def parts(self) -> dict[str, np.ndarray]:
        """Return the questions together and apart: name -> bool [n]."""
        together = np.ones(len(self.correct), bool)
        return {"all": together, "answerable": self.answerable, "unanswerable": ~self.answerable}


def grade(
    asked: Sequence[Asked],
    *,
    rule: str = "f1",
    judge: Judge | None = None,
    protocol: str = "document",
) -> Grades:
    """Return the grades of the greedy answers.

    ``rule`` is ``f1`` (at least ``THRESHOLD``), ``exact``, or ``judge``: then ``judge`` decides
    about the answerable questions, and abstaining about the others. Under the protocol
    ``published`` no answer to an unanswerable question is right, whatever the rule. Raises
    ``ValueError`` for the rule ``judge`` without one.
    """
    given = [squad.prediction(one.greedy.text) for one in asked]
    pairs = [(text, one.question.aliases) for text, one in zip(given, asked, strict=True)]
    f1 = np.array([100 * squad.f1(*pair) for pair in pairs])
    exact = np.array([squad.exact(*pair) for pair in pairs])
    abstained = np.array([squad.normalise(text) == "" for text in given])
    answerable = np.array([one.question.answerable for one in asked])
    if rule == "judge":
        if judge is None:
            raise ValueError("the rule 'judge' needs a judge")
        correct = np.where(answerable, judge(asked) & ~abstained, abstained)
    else:
        correct = exact if rule == "exact" else f1 >= THRESHOLD
    if protocol == "published":
        f1, exact, correct = f1 * answerable, exact & answerable, correct & answerable
    return Grades(f1, exact, correct, abstained, answerable)
