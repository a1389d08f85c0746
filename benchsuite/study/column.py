"""What a column of records or items holds, and in which unit."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One column, or a family of them with a ``*``: its unit (nothing for none), its meaning."""

    name: str
    unit: str
    meaning: str
