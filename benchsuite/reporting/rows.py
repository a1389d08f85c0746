"""Plain rows of values as CSV and Markdown."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

Row = dict[str, Any]


def rows_as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows with unrounded numbers, a column for each key of any; nothing for no rows."""
    out = io.StringIO()
    if rows:
        names = dict.fromkeys(name for row in rows for name in row)
        writer = csv.DictWriter(out, list(names), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return out.getvalue()


def rows_as_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows of equal keys as a table with four significant digits."""
    if not rows:
        return "No records.\n"
    lines = [f"| {' | '.join(rows[0])} |", "|" + "---|" * len(rows[0])]
    lines += [f"| {' | '.join(map(shown, row.values()))} |" for row in rows]
    return "\n".join(lines) + "\n"


def shown(value: Any) -> str:
    """Return a value as a reader wants it: four significant digits, a dash for nothing."""
    if value is None or value == "":
        return "–"
    if isinstance(value, list):
        return "[" + ", ".join(map(shown, value)) + "]"
    if isinstance(value, float):
        return f"{value:.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"
    return str(value)
