"""The items of every task, in the schemas of the public sets; plain data without dependencies."""

import hashlib
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Question:
    """A question with a short answer: closed-book (TriviaQA) or about a passage (SQuAD v2).

    ``aliases`` are the accepted answers, the preferred one first; an unanswerable question has
    none. ``context`` is empty for a closed-book question.
    """

    id: str
    question: str
    aliases: tuple[str, ...]
    context: str = ""
    answerable: bool = True

    @property
    def passage(self) -> str:
        """What names the passage, alike for all questions about it; without one, the question."""
        if not self.context:
            return self.id
        return hashlib.sha256(self.context.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Choice:
    """A question with options (ARC); ``answer`` is the index of the right one.

    ``subject`` is what a set of several says of it (MMLU's ``high_school_biology``), or empty.
    """

    id: str
    question: str
    choices: tuple[str, ...]
    answer: int
    subject: str = ""


@dataclass(frozen=True)
class Problem:
    """A word problem (GSM8K): ``steps`` lead to ``answer``, a number written in digits."""

    id: str
    question: str
    steps: tuple[str, ...]
    answer: str


Item = Question | Choice | Problem


def item_dict(item: Item) -> dict[str, Any]:
    """Return an item's fields, as digests are made of them: a ``subject`` only where it has one."""
    fields = asdict(item)
    if not fields.get("subject", True):
        del fields["subject"]
    return fields
