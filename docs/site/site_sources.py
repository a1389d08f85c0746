"""Pages made of what is no page: source files, folders of them, and the notebook."""

import json
import posixpath
import subprocess
from pathlib import Path

from site_links import ROOT, place

_LANGUAGES = {".py": "python", ".yml": "yaml", ".yaml": "yaml", ".toml": "toml", ".cff": "yaml"}
# Found by name alone: a search for a word is for the pages that explain it.
_UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n\n"


def source_pages(path: str) -> dict[str, str]:
    """Return the pages of a source file or folder, by their places on the site."""
    if not (ROOT / path).is_dir():
        return {place(path): _shown(path)}
    inside = tracked(path)
    here = posixpath.dirname(place(path))
    lines = [f"- [{name}]({posixpath.relpath(place(name), here)})" for name in inside]
    pages = {place(path): f"{_UNSEARCHED}# {path}/\n\n" + "\n".join(lines) + "\n"}
    return pages | {place(name): _shown(name) for name in inside}


def tracked(folder: str) -> list[str]:
    """Return the files of a folder of the checkout that git knows, in order."""
    words = ["git", "ls-files", "-z", "--", folder]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted(name for name in listed.split("\0") if name)


def notebook(path: Path) -> str:
    """Return a notebook's cells as one page: its text, and its code in blocks."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts = []
    for cell in cells:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    return "\n\n".join(parts) + "\n"


def _shown(path: str) -> str:
    text = (ROOT / path).read_text(encoding="utf-8")
    fence = "`" * 6  # longer than any in a source file
    language = _LANGUAGES.get(Path(path).suffix, "text")
    return f"{_UNSEARCHED}# {path}\n\n{fence}{language}\n{text.rstrip()}\n{fence}\n"
