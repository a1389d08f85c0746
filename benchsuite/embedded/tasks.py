"""The seven embedded tasks by name: their items, their pinned digests, and endless train streams.

Train and test share no combination of entities and no set of operands (``draws.split_of``).
Closed-book questions are memorised by design: their test asks known facts in a wording that was
held out of training for that fact.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path

from benchsuite.embedded import choices, passages, problems, world
from benchsuite.embedded.draws import Draws
from benchsuite.embedded.schema import Item, Question, item_dict
from benchsuite.errors import BenchsuiteError, unknown_name

SPLITS = ("train", "validation", "test")
SIZES = {"train": 8000, "validation": 500, "test": 1000}
_DIGESTS = Path(__file__).with_name("task_digests.json")

_PROBLEM_KINDS = {
    "word_problems": "equations",
    "word_problems_sentences": "sentences",
    "word_problems_hard": "hard",
    "word_problems_rephrased": "rephrased",
}
NAMES = ("closed_book", "passages", "four_choices", *_PROBLEM_KINDS)


@cache
def items(task: str, split: str) -> tuple[Item, ...]:
    """Return a task's items: ``Question``, ``Choice`` or ``Problem`` by the task's schema.

    ``closed_book`` train holds every fact in its two trained wordings; the other train splits hold
    8,000 items, validation 500 and test 1,000, without repeated items. Raises ``BenchsuiteError``
    where they have not the digest that is pinned.
    """
    _check(task, split)
    found = _closed_book(split) if task == "closed_book" else _first(task, split)
    named = tuple(replace(item, id=f"{task}-{split}-{n:05d}") for n, item in enumerate(found))
    if _items_digest(named) != digest(task, split):
        raise BenchsuiteError(
            f"the embedded task {task}'s {split} split has not its pinned digest",
            where=str(_DIGESTS),
            fix="Restore benchsuite/embedded to one commit",
        )
    return named


def digest(task: str, split: str) -> str:
    """Return the pinned sha256 of a task's items, without generating them."""
    _check(task, split)
    return str(_pinned()[task][split])


def stream(task: str, split: str, seed: int = 0) -> Iterator[Item]:
    """Yield a task's items without end, unnamed; closed-book facts as often as they are spoken of.

    The items of ``items(task, split)`` are the beginning of this stream with seed 0.
    """
    _check(task, split)
    draws = Draws(task, split, seed)
    if task == "closed_book":
        return _popular_questions(draws)
    if task == "passages":
        return passages.stream(split, draws)
    if task == "four_choices":
        return choices.stream(split, draws)
    return problems.stream(_PROBLEM_KINDS[task], split, draws)


def _first(task: str, split: str) -> list[Item]:
    different = dict.fromkeys(islice(stream(task, split), SIZES[split] + SIZES[split] // 4))
    return list(different)[: SIZES[split]]


def _closed_book(split: str) -> list[Item]:
    facts = world.facts()
    if split == "train":
        return [
            fact.question(wording, "")
            for fact in facts
            for wording in range(3)
            if wording != fact.held_out
        ]
    order = Draws("closed_book").shuffled(facts)
    start = 0 if split == "test" else SIZES["test"]
    return [fact.question(fact.held_out, "") for fact in order[start : start + SIZES[split]]]


def _popular_questions(draws: Draws) -> Iterator[Question]:
    while True:
        fact = world.popular_fact(draws)
        yield fact.question((fact.held_out + 1 + draws.below(2)) % 3, "")


def _check(task: str, split: str) -> None:
    if task not in NAMES:
        raise unknown_name("embedded task", task, NAMES)
    if split not in SPLITS:
        raise BenchsuiteError(f"the embedded tasks have no split {split!r}", fix=f"Use {SPLITS}")


def _items_digest(found: tuple[Item, ...]) -> str:
    text = json.dumps([item_dict(item) for item in found], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _pinned() -> dict[str, dict[str, str]]:
    return json.loads(_DIGESTS.read_text())


def pin() -> None:
    """Write ``task_digests.json``: only for a change of the tasks, which changes every model."""
    digests: dict[str, dict[str, str]] = {}
    for task in NAMES:
        digests[task] = {}
        for split in SPLITS:
            found = _closed_book(split) if task == "closed_book" else _first(task, split)
            named = [replace(item, id=f"{task}-{split}-{n:05d}") for n, item in enumerate(found)]
            digests[task][split] = _items_digest(tuple(named))
    _DIGESTS.write_text(json.dumps(digests, indent=1) + "\n")
