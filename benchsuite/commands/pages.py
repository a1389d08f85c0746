"""The file that ``--page`` names."""

from pathlib import Path

from benchsuite.errors import UsageError


def refuse_all_but_pages(page: Path) -> None:
    """Raise unless a page may be written there: a mistyped name must cost nobody a file."""
    if page.is_dir():
        raise UsageError(f"{page} is a folder", fix="name a file: --page live.html")
    if not page.exists():
        return
    with open(page, "rb") as file:
        begins = file.read(200).lstrip().lower()
    if begins and not begins.startswith(b"<!doctype html"):
        raise UsageError(f"{page} is there, and is no page", fix="name another file")
