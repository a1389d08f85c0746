"""Choice tasks that need no network, of the same kinds as the source document's public ones.

| here                  | kind                                   | public counterpart |
|-----------------------|----------------------------------------|--------------------|
| `four_choices`        | four-choice questions, options as text | arc_easy           |
| `closed_book_choices` | facts from memory, four candidates     | mmlu               |
| `passage_pairs`       | two candidates from one passage        | winogrande         |

They keep their own names: no number of theirs is ever printed as the public task's.
"""

import random
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchsuite.embedded import prompts
from benchsuite.embedded.schema import Choice, Question


@dataclass(frozen=True)
class ChoiceDoc:
    """One item: ``choices`` are scored as continuations of ``query``, leading blanks included."""

    id: str
    query: str
    choices: tuple[str, ...]
    answer: int


@dataclass(frozen=True)
class LocalTask:
    """A named task of choice items."""

    name: str
    docs: tuple[ChoiceDoc, ...]


def four_choices(items: Sequence[Choice]) -> LocalTask:
    """Return the task of choice items; the options' texts are scored, as lm-eval does for ARC."""
    docs = [
        ChoiceDoc(
            item.id,
            prompts.prompt(item, form="text"),
            tuple(f" {choice}" for choice in item.choices),
            item.answer,
        )
        for item in items
    ]
    return LocalTask("four_choices", tuple(docs))


def closed_book_choices(items: Sequence[Question]) -> LocalTask:
    """Return four-choice items from closed-book questions.

    The three wrong candidates are answers to questions of the same wording with other names, so
    that the kind of answer does not give the right one away.
    """
    answerable = [item for item in items if item.aliases]
    by_wording = _answers_by(_wording, answerable)
    draw = random.Random(0)
    docs = []
    for item in answerable:
        wrong = _others(by_wording[_wording(item.question)], item.aliases)
        if len(wrong) < 3:
            wrong = _others(by_wording[""], item.aliases)
        if len(wrong) >= 3:
            docs.append(_doc(item, draw.sample(wrong, 3), draw))
    return LocalTask("closed_book_choices", tuple(docs))


def passage_pairs(items: Sequence[Question]) -> LocalTask:
    """Return two-choice items from answerable questions about a passage.

    The wrong candidate stands in the same passage and answers a question that begins alike, where
    there is one: reading decides, not knowing. Items without a candidate are left out.
    """
    answerable = [item for item in items if item.aliases]
    alike = _answers_by(_first_word, answerable)
    draw = random.Random(0)
    docs = []
    for item in answerable:
        for pool in (alike[_first_word(item.question)], alike[""]):
            present = [a for a in _others(pool, item.aliases) if _occurs(a, item.context)]
            if present:
                docs.append(_doc(item, [draw.choice(present)], draw))
                break
    return LocalTask("passage_pairs", tuple(docs))


def _doc(item: Question, wrong: list[str], draw: random.Random) -> ChoiceDoc:
    place = draw.randrange(len(wrong) + 1)
    options = [*wrong[:place], item.aliases[0], *wrong[place:]]
    choices = tuple(f" {option}" for option in options)
    return ChoiceDoc(item.id, prompts.prompt(item), choices, place)


def _answers_by(
    kind: Callable[[str], str], items: Sequence[Question]
) -> dict[str, dict[str, None]]:
    """Return the preferred answers, each once, by the kind of question; all of them under ""."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for item in items:
        for key in (kind(item.question), ""):
            found[key][item.aliases[0]] = None
    return found


def _first_word(question: str) -> str:
    return question.split()[0]


def _others(pool: dict[str, None], accepted: Sequence[str]) -> list[str]:
    return [answer for answer in pool if answer not in accepted]


def _wording(question: str) -> str:
    """Return a question with capitalised words and numbers masked: its wording, no names."""
    return re.sub(r"\b(?:[A-Z]\w*|\d+)(?: (?:[A-Z]\w*|\d+))*", "*", question)


def _occurs(answer: str, context: str) -> bool:
    return re.search(rf"\b{re.escape(answer)}\b", context) is not None
