"""``benchsuite determinism``: stored results beside each other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchsuite.commands.parser import Parser
from benchsuite.determinism import document
from benchsuite.errors import CorruptRecord
from benchsuite.records.reading import read_file
from benchsuite.studies.determinism.report import to_markdown


def determinism(arguments: Sequence[str]) -> int:
    """Show determinism results beside each other, a row each.

    Reads the files that the INT4 guide's script wrote, and this study's own.
    """
    parser = Parser(determinism)
    parser.add_argument("files", nargs="+", metavar="FILE", help="a result, as JSON")
    paths = parser.parse_args(arguments).files
    found = [read(Path(path)) for path in paths]
    names = [result["variant"] for result in found]
    labels = [
        name if names.count(name) == 1 else f"{name} ({path})"
        for name, path in zip(names, paths, strict=True)
    ]
    print(to_markdown(dict(zip(labels, found, strict=True))), end="")
    return 0


def read(path: Path) -> dict[str, Any]:
    """Return the result that a file holds: a record's of this study, or the INT4 guide's own."""
    try:
        record = read_file(path)
    except (OSError, CorruptRecord):
        return document.read(path)
    failed = {} if record.failure is None else {"error": record.failure.message, "success": False}
    return document.checked({**record.values, **failed}, path)
