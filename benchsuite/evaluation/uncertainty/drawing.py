"""Which questions of a data set are asked, and which are shown before them as worked examples.

All scores are of the same questions, those that need demonstrations and those that do not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchsuite import catalog
from benchsuite.catalog import Sources
from benchsuite.corpora import load_task, worked_examples
from benchsuite.embedded.schema import Question
from benchsuite.evaluation.uncertainty import prompts, protocol

N_APART = 50
"""Of a set with one split, how many questions are kept as examples and never asked."""


@dataclass(frozen=True)
class Drawn:
    """What a seed draws of a data set.

    ``questions`` are asked, after ``examples`` where there are any; the model answers the
    ``demonstrations`` too, and scores show them with its answers. ``examples_from`` is the split
    of both ("": none are wanted), ``lacking`` what of the published protocol the set cannot give.
    """

    questions: list[Question]
    examples: list[Question]
    demonstrations: list[Question]
    examples_from: str
    lacking: str


def drawn(
    task: str,
    *,
    how: str,
    n: int,
    n_examples: int,
    n_demonstrations: int,
    seed: int,
    sources: Sources = Sources(),
) -> Drawn:
    """Return ``n`` questions of a catalogued task and what is shown, under the protocol ``how``.

    A set without a split for examples gives some of its questions, and does not ask these.
    """
    n_shown = n_examples + n_demonstrations
    asked = load_task(task, catalog.task(task).split, sources)
    others, examples_from = worked_examples(task, asked, n_shown, sources)
    questions, lacking = protocol.questions(task, asked.questions, how)
    if examples_from == asked.split:
        questions, shown = _set_apart(questions, seed)
    else:
        shown = protocol.questions(task, others, how)[0]
    chosen = prompts.draw_examples(shown, n_shown, seed)
    return Drawn(
        prompts.draw(questions, n, seed),
        chosen[:n_examples],
        chosen[n_examples:],
        examples_from,
        lacking,
    )


def _set_apart(questions: Sequence[Question], seed: int) -> tuple[list[Question], list[Question]]:
    """Return the questions and the examples that a seed makes of one split.

    As many examples whichever are wanted, so that all scores are of the same questions.
    """
    order = np.random.default_rng([seed, 2]).permutation(len(questions))
    n = min(N_APART, len(questions) // 5)
    return [questions[i] for i in order[n:]], [questions[i] for i in order[:n]]
