"""What a comparison has measured so far, for a run that breaks off: the room above keeps it."""

from collections.abc import Callable
from typing import Protocol, TypeVar

Part = TypeVar("Part")


class Keep(Protocol):
    """Returns a part of a comparison that was kept, or makes it and keeps it.

    ``sides`` are the places of the models that it is of, 0 for the base, ``name`` tells the parts
    of one model apart, ``kind`` is its type.
    """

    def __call__(
        self, sides: tuple[int, ...], name: str, kind: object, make: Callable[[], Part]
    ) -> Part:
        """Return the part."""


def unkept(sides: tuple[int, ...], name: str, kind: object, make: Callable[[], Part]) -> Part:
    """Make a part, and keep nothing."""
    return make()
