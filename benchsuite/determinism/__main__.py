"""Show stored results beside each other: ``python -m benchsuite.determinism FILE...``.

Reads the files that the study document's script wrote, and this study's own.
"""

import sys
from collections.abc import Sequence

from benchsuite.determinism.analysis import to_markdown
from benchsuite.determinism.document import read
from benchsuite.errors import BenchsuiteError


def main(paths: Sequence[str]) -> int:
    """Print the table; a file that is no result is one paragraph and status 4."""
    try:
        found = [read(path) for path in paths]
    except BenchsuiteError as error:
        print(f"benchsuite.determinism: {error}", file=sys.stderr)
        return 4
    names = [result["variant"] for result in found]
    labels = [
        name if names.count(name) == 1 else f"{name} ({path})"
        for name, path in zip(names, paths, strict=True)
    ]
    print(to_markdown(dict(zip(labels, found, strict=True))), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
