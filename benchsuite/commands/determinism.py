"""Show stored results beside each other: ``benchsuite determinism FILE...``.

Reads the files that the study document's script wrote, and this study's own.
"""

from collections.abc import Sequence

from benchsuite.determinism.document import read
from benchsuite.studies.determinism.report import to_markdown


def determinism(paths: Sequence[str]) -> int:
    """Show determinism results beside each other: determinism FILE..."""
    found = [read(path) for path in paths]
    names = [result["variant"] for result in found]
    labels = [
        name if names.count(name) == 1 else f"{name} ({path})"
        for name, path in zip(names, paths, strict=True)
    ]
    print(to_markdown(dict(zip(labels, found, strict=True))), end="")
    return 0
