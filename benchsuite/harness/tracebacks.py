"""Pytest's account of an error, safe to print: what a terminal would obey is spelled out."""

from typing import Any

from benchsuite.printable import printable


def spell_out(longrepr: Any) -> None:
    """Spell out control characters in the lines of a traceback and in its one-line summary."""
    for traceback, crash, _ in getattr(longrepr, "chain", ()):
        if crash is not None:
            crash.message = printable(crash.message)
        for entry in traceback.reprentries:
            if hasattr(entry, "lines"):
                entry.lines = [printable(line) for line in entry.lines]
    summary = getattr(longrepr, "reprcrash", None)
    if summary is not None:
        summary.message = printable(summary.message)
