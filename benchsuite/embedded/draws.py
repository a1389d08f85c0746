"""Random choices that are the same on every Python: only ``Random.random`` is promised to be."""

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Draws:
    """A stream of choices seeded by any printable parts; uses no global state."""

    def __init__(self, *parts: object) -> None:
        self._next = random.Random(_hash(parts)).random

    def fraction(self) -> float:
        """Return a float in [0, 1)."""
        return self._next()

    def below(self, n: int) -> int:
        """Return an integer in [0, n)."""
        return int(self._next() * n)

    def between(self, low: int, high: int) -> int:
        """Return an integer in [low, high], both ends included."""
        return low + int(self._next() * (high - low + 1))

    def pick(self, options: Sequence[T]) -> T:
        """Return one of the options."""
        return options[int(self._next() * len(options))]

    def sample(self, options: Sequence[T], n: int) -> list[T]:
        """Return ``n`` different positions' options in random order."""
        rest, most = list(options), len(options)
        return [rest.pop(int(self._next() * left)) for left in range(most, most - n, -1)]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """Return all the options in random order."""
        return self.sample(options, len(options))


def split_of(combination: Sequence[object]) -> str:
    """Return the split that owns a combination of entities or operands, whatever their order.

    A generator keeps only what its split owns, so train and test cannot share a combination:
    88 % of them belong to train, 4 % to validation, 8 % to test.
    """
    bucket = _hash(sorted(map(str, combination))) % 100
    return "test" if bucket < 8 else "validation" if bucket < 12 else "train"


def _hash(parts: Sequence[object]) -> int:
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
