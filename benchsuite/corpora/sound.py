"""What every set's items must be, whatever file they come from."""

import re
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Any

from benchsuite.embedded.schema import Choice, Item, Question


def answerable(item: Item) -> Item:
    """Return an item that can be answered right and missed; ``ValueError`` in words for another."""
    if isinstance(item, Choice) and len(item.choices) < 2:
        raise ValueError(f"it has {len(item.choices)} options, and a question needs two")
    if isinstance(item, Choice):
        said = {"question": item.question}
        said |= {f"option {i}": text for i, text in enumerate(item.choices, start=1)}
        for part, text in said.items():
            if not text.strip():  # of which nothing can be scored
                raise ValueError(f"its {part} is empty")
    if (
        isinstance(item, Question)
        and item.answerable
        and not any(alias.strip() for alias in item.aliases)
    ):
        raise ValueError("it has no answer, and does not say that it cannot be answered")
    return item


def each_once(items: Iterable[Item]) -> tuple[Item, ...]:
    """Return the items without those that repeat another: TriviaQA has a question once for each
    kind of evidence.

    Results are paired by ids, so two items that differ have two: else a ``ValueError`` in words.
    """
    by_id: dict[str, Item] = {}
    for item in items:
        if by_id.setdefault(item.id, item) != item:
            raise ValueError(f"two of its items have the id {item.id!r} and are not alike")
    return tuple(by_id.values())


# Commas between thousands (between hundreds above them, as in India); ``2,5`` may be 2.5.
_IN_GROUPS = re.compile(r"[-+$ ]*\d{1,3}(?:,\d{2,3})*,\d{3}(?:\.\d*)?")


def in_digits(value: Any) -> str | None:
    """Return a number as digits, ``1,450.50`` as ``1450.5``; None for anything else."""
    said = str(value).strip()
    if "," in said and not _IN_GROUPS.fullmatch(said):
        return None
    try:
        number = Decimal(said.replace(",", "").replace("$", ""))
    except InvalidOperation:
        return None
    if not number.is_finite():
        return None
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
