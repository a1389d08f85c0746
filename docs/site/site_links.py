"""Where a file of the checkout stands on the site, and links between files made links of the site.

The pages in ``docs/`` are written for whoever reads the checkout: their links name files, some of
them outside ``docs/``. Each such file gets a page, so that no link leads off the site.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROJECT = {
    "README.md": "index.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "reports/README.md": "project/reports_folder.md",
}
"""Pages that lie outside ``docs/``, and their place on the site."""

_LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")
_FENCE = re.compile(r"(^```.*?^```$)", flags=re.M | re.S)


def place(path: str) -> str:
    """Return where a file or folder of the checkout stands on the site."""
    if path in PROJECT:
        return PROJECT[path]
    if path.startswith("docs/"):
        inside = path.removeprefix("docs/")
        return inside.removesuffix(".ipynb") + "_notebook.md" if path.endswith(".ipynb") else inside
    return f"source/{path}/index.md" if (ROOT / path).is_dir() else f"source/{path}.md"


def linked(text: str, source: str) -> Iterator[str]:
    """Yield the files and folders of the checkout that a page, itself one, links to."""
    for part in _prose(text):
        for found in _LINK.finditer(part):
            path = _path(found[0], source)
            if path and (ROOT / path).exists():
                yield path


def for_the_site(text: str, source: str) -> str:
    """Return a page's text with its links to files made links between pages of the site."""
    here = posixpath.dirname(place(source))

    def replaced(found: re.Match[str]) -> str:
        path = _path(found[0], source)
        if not path or not (ROOT / path).exists():
            return found[0]  # the builder names what leads nowhere
        anchor = found[0].partition("#")[2]
        return posixpath.relpath(place(path), here or ".") + (f"#{anchor}" if anchor else "")

    parts = _FENCE.split(text)
    return "".join(p if p.startswith("```") else _LINK.sub(replaced, p) for p in parts)


def _prose(text: str) -> list[str]:
    return [part for part in _FENCE.split(text) if not part.startswith("```")]


def _path(target: str, source: str) -> str:
    """Return the file of the checkout that a link means; nothing for one to elsewhere."""
    path = target.partition("#")[0]
    if not path or re.match(r"[a-z]+:", target):
        return ""
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
