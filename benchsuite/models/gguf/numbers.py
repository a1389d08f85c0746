"""The vocabulary of a GGUF whose model has a tokenizer that llama.cpp has no name for: numbers.

Whoever reads such a file is asked by token ids, or finds the tokenizer's own files beside it.
"""

from collections.abc import Sequence

_MERGED = ["a", "b", "ab"]
MERGES = ["a b"]
"""The one merge that llama.cpp wants."""


def numbers(size: int) -> list[str]:
    """Return ``size`` names for tokens that have none."""
    tokens = [f"t{number}" for number in range(size)]
    if len(tokens) > len(_MERGED):
        tokens[: len(_MERGED)] = _MERGED
    return tokens


def are_numbers(tokens: Sequence[str] | None) -> bool:
    """Say whether a file's tokens are those that ``numbers`` gives."""
    return tokens is not None and list(tokens) == numbers(len(tokens))
