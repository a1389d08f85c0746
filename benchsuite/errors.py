"""The errors that a user can meet: one paragraph that says what, where and what to do."""

import difflib
import re
from collections.abc import Iterable

from benchsuite.printable import printable


class BenchsuiteError(Exception):
    """An error with a cause, a place and a fix, printed as one paragraph without a traceback."""

    def __init__(self, what: str, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        place = f" ({where})" if where else ""
        advice = f" {_sentence(fix, what)}" if fix else ""
        super().__init__(printable(f"{what}{place}.{advice}"))


_COMMANDS = ("benchsuite", "pip", "pytest", "python")


def _sentence(fix: str, what: str) -> str:
    """Begin a sentence with a capital letter, unless its first word is a name.

    A name is a command, a word with anything but letters in it, or one that ``what`` quotes, or
    has before an equals sign.
    """
    first = fix.partition(" ")[0].rstrip(".,:;")
    named = re.search(rf"['\"`]{re.escape(first)}['\"`]|\b{re.escape(first)}=", what)
    if named or first in _COMMANDS or not first.isalpha():
        return fix
    return fix[:1].upper() + fix[1:]


class UsageError(BenchsuiteError):
    """A wrong name, option or file given by the user."""


class CellCannotRun(BenchsuiteError):
    """This machine lacks something that the cell needs: the cell is skipped with the reason."""


class CorruptRecord(BenchsuiteError):
    """A stored file that is truncated or was edited by hand."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Return the error for a name that is not registered, with the nearest valid one."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UsageError(f"unknown {kind}: {name!r}", fix=f"{hint}Known: {', '.join(names)}")


def out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that a device's or the machine's memory is used up.

    PyTorch has a class of its own for its CUDA allocator; its CPU allocator and the CUDA driver say
    it in the text of another.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    said = str(error)
    return isinstance(error, RuntimeError) and (
        "CUDA error: out of memory" in said or "can't allocate memory" in said
    )
