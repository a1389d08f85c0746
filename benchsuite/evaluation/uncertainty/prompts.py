"""The prompts of the uncertainty study, and which questions and worked examples a seed draws.

``published`` is the prompt of the semantic-entropy and G-NLL experiments (Farquhar et al. 2024,
Aichberger et al. 2024): one line of instruction, five worked examples, then the question, with a
``Context:`` line where the question has a passage. ``embedded`` is the one that the embedded models
were trained on, which differs in a blank line after the instruction.
"""

from collections.abc import Sequence

import numpy as np

from benchsuite.embedded import prompts as embedded_prompts
from benchsuite.embedded.prompts import BRIEFLY
from benchsuite.embedded.schema import Item, Problem, Question
from benchsuite.errors import UsageError
from benchsuite.evaluation.chat import Prompt


def prompt(
    question: Question, examples: Sequence[Question] = (), *, form: str = "published"
) -> str:
    """Return what a model is asked, up to ``Answer:``."""
    if form == "embedded":
        return embedded_prompts.prompt(question, examples=examples)
    blocks = "".join(f"{embedded_prompts.block(example)}\n\n" for example in examples)
    return f"{BRIEFLY}\n{blocks}{embedded_prompts.prompt(question).removeprefix(BRIEFLY).strip()}"


def asked(
    question: Question,
    examples: Sequence[Question] = (),
    *,
    form: str = "published",
    chat: bool = False,
) -> Prompt:
    """Return the prompt as plain text, or all of it as one user's turn: so it is published."""
    text = prompt(question, examples, form=form)
    return [{"role": "user", "content": text}] if chat else text


def as_question(item: Item) -> Question:
    """Return a question as it is, and a word problem as a question whose answer is its number.

    Raises ``UsageError`` for a four-choice question.
    """
    if isinstance(item, Question):
        return item
    if isinstance(item, Problem):
        return Question(item.id, item.question, (item.answer,))
    raise UsageError(
        f"{item.id} is a four-choice question, which has no free answer to be unsure of",
        fix="Give a data set of questions or word problems",
    )


def draw(items: Sequence[Item], n: int, seed: int) -> list[Question]:
    """Return ``n`` questions drawn without repetition (all of them where there are fewer)."""
    places = np.random.default_rng([seed, 0]).permutation(len(items))[:n]
    return [as_question(items[place]) for place in places]


def draw_examples(items: Sequence[Item], n: int, seed: int) -> list[Question]:
    """Return ``n`` questions with an answer, drawn as worked examples or for demonstration."""
    answerable = [item for item in map(as_question, items) if item.answerable] if n else []
    places = np.random.default_rng([seed, 1]).permutation(len(answerable))[:n]
    return [answerable[place] for place in places]
