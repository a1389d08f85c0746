"""The files that a study's own reporter wrote, as the page shows them: tables, figures, links."""

import csv
import json
import re
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchsuite.reporting.results import StudyResults
from benchsuite.reporting.rows import shown as cell_text

MOST_COLUMNS = 30
MOST_BYTES = 1_000_000
"""Of all studies' figures together: what is more stays beside the page, with a link to it."""

WIDE_POINTS, WIDE_SHAPE = 700, 1.8
_SAFE = " !$&'()*+,-./:;=?@_~"


class Room:
    """The bytes that are left in the page for figures."""

    def __init__(self, left: int = MOST_BYTES) -> None:
        self.left = left

    def take(self, size: int) -> bool:
        """Take so many bytes if they are there."""
        fits = size <= self.left
        self.left -= size if fits else 0
        return fits


def view(results: StudyResults, folder: Path | None, room: Room) -> dict[str, Any]:
    """Return what the template shows of the files: ``tables``, ``pictures``, ``files``, ``papers``.

    ``folder`` is the reports folder; without it nothing is read. ``papers`` are the pictures that
    the page shows already, by this or by a figure of its own.
    """
    pictures = [] if folder is None else _pictures(results.files, folder, room)
    shown = {Path(picture["file"]).with_suffix("") for picture in pictures}
    drawn = {path.with_suffix("") for path in results.drawn} | shown
    files = [*results.files, *results.drawn]
    return {
        "tables": [] if folder is None else own_tables(results.files, folder),
        "pictures": pictures,
        "files": [path.as_posix() for path in files if path.with_suffix("") not in drawn],
        "papers": [path.as_posix() for path in files if path.with_suffix("") in drawn],
    }


def own_tables(files: Sequence[Path], folder: Path) -> list[dict[str, Any]]:
    """Return the CSV files that the study's reporter wrote, as heads and rows of text.

    What is the same in every row is said once, under ``common``. A file that is too wide to be
    read as a table is left to the link to it.
    """
    found: list[dict[str, Any]] = []
    for path in files:
        if path.suffix != ".csv":
            continue
        with open(folder / path, encoding="utf-8", newline="") as file:
            head, *body = list(csv.reader(file)) or [[]]
        columns = [(name, [_rounded(row[i]) for row in body]) for i, name in enumerate(head)]
        common = [(n, c[0]) for n, c in columns if len(c) > 1 and len(set(c)) == 1]
        said = {name for name, _ in common}
        own = [(n, c) for n, c in columns if n not in said]
        table = {"head": [n for n, _ in own], "rows": list(zip(*(c for _, c in own), strict=True))}
        if len(own) <= MOST_COLUMNS:
            found.append({"title": path.stem.replace("_", " "), "common": common, **table})
    return found


def _rounded(text: str) -> str:
    if text.isdigit():
        return text
    try:
        return cell_text(json.loads(text) if text.startswith("[") else float(text))
    except ValueError:
        return cell_text(text)


def _pictures(files: Sequence[Path], folder: Path, room: Room) -> list[dict[str, Any]]:
    """Return the SVG files as addresses that hold them, the wide first, as far as there is room.

    As pictures and not as elements of the page: a file's names, styles and scripts stay its own.
    """
    found = []
    for path in files:
        if path.suffix == ".svg":
            text = (folder / path).read_text(encoding="utf-8")
            address = "data:image/svg+xml," + urllib.parse.quote(text, safe=_SAFE)
            if room.take(len(address)):
                title = path.stem.replace("_", " ")
                shown = {"title": title, "file": path.as_posix(), "address": address}
                found.append({**shown, "wide": _is_wide(text)})
    return sorted(found, key=lambda picture: not picture["wide"])


def _is_wide(svg: str) -> bool:
    """Say whether a picture needs the page's whole width to be read."""
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    return size is not None and float(size[1]) > max(WIDE_POINTS, WIDE_SHAPE * float(size[2]))
