"""Text as it may be shown: what a terminal or a browser would obey is spelled out instead."""

import re
from collections.abc import Sequence

# C0 and C1 controls but for tab and newline, DEL, the marks that turn the writing direction
# around, line separators, and halves of surrogate pairs, which no encoding can write.
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""Return text with control characters spelled out: an escape sequence begins with ``\x1b``."""
    return _OBEYED.sub(lambda found: _spelled(found[0]), text)


def count(n: int, noun: str, plural: str = "") -> str:
    """Return a number of things, ``1 cell`` or ``2 cells``; ``plural`` where it is no ``s``."""
    return f"{n} {noun if n == 1 else plural or noun + 's'}"


def some(names: Sequence[object], limit: int = 6) -> str:
    """Return the first of many names as a text that says how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(map(str, names[:limit])) + more


def in_file_name(text: str) -> str:
    """Return text as a part of a file's name: ``_`` for all but letters, digits, dots, dashes."""
    return "".join(c if c.isalnum() or c in ".-" else "_" for c in text)


def without_surrogates(text: str) -> str:
    """Return text with U+FFFD for each half of a surrogate pair: what UTF-8 can hold."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _spelled(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
