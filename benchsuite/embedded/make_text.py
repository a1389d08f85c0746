"""Make the embedded text again from its two packages: ``python -m benchsuite.embedded.make_text``.

For a change of the text, which makes new models necessary. It needs the two releases of
``PACKAGES``. Only the files' text is used, through regular expressions, so the result does not
depend on the Python that reads it. Their licences are in ``documents/LICENSES.txt``.
"""

import hashlib
import importlib.util
import json
import lzma
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchsuite.embedded import text
from benchsuite.errors import BenchsuiteError

PACKAGES = {"sympy": "1.14.0", "networkx": "3.6.1"}

# Written by a machine, not by people: parser tables, lookup tables, constants.
_GENERATED = (
    "/_antlr/",
    "/benchmarks/",
    "/autolev/test-examples/",
    "/resolvent_lookup.py",
    "/polyquinticconst.py",
    "/_listener_autolev_antlr.py",
)
_MINIMUM = 200  # characters; a shorter docstring stays in its source

# Comments and strings, in reading order, so that a quote inside one never opens another.
_LEXEMES = re.compile(
    r"""\#[^\n]*
      | (?P<lead>^[ ]*)?[rRuUbBfF]{0,2}(?P<quote>\"\"\"|''')(?P<body>(?:\\.|[^\\])*?)(?P=quote)
      | "(?:\\.|[^"\\\n])*"
      | '(?:\\.|[^'\\\n])*'
    """,
    re.M | re.S | re.X,
)
_BOUNDARY = re.compile(r"^(?:    )?(?:@|def |class |async def )", re.M)


def make() -> dict[str, tuple[str, ...]]:
    """Return each split's documents, cut from the installed packages.

    Raises ``BenchsuiteError`` where they are not the releases of ``PACKAGES``.
    """
    for package, pinned in PACKAGES.items():
        if _version(package) != pinned:
            raise BenchsuiteError(
                f"the text is that of {package} {pinned}, and {_version(package)} is installed",
                fix="Run pip install " + " ".join(f"{p}=={v}" for p, v in PACKAGES.items()),
            )
    found: dict[str, list[str]] = {split: [] for split in text.SPLITS}
    seen: set[str] = set()
    for path, source in read_files().items():
        for document in module_documents(path, source):
            if document not in seen:  # a repeated text must not be in two splits
                seen.add(document)
                found[split_of(path)].append(document)
    return {split: tuple(documents) for split, documents in found.items()}


def write(found: dict[str, tuple[str, ...]], folder: Path, digests: Path) -> None:
    """Write ``{split}.txt.xz`` of each split into ``folder``, and their sha256 to ``digests``."""
    splits = {}
    for split, documents in found.items():
        content = b"".join(document.encode() + b"\0" for document in documents)
        (folder / f"{split}.txt.xz").write_bytes(
            lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)
        )
        splits[split] = {
            "documents": len(documents),
            "bytes": len(content) - len(documents),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    digests.write_text(json.dumps({"packages": PACKAGES, "splits": splits}, indent=1) + "\n")


def split_of(path: str) -> str:
    """Return a module's split by the hash of its path: 94 % train, 2 % validation, 4 % test."""
    bucket = int.from_bytes(hashlib.sha256(path.encode()).digest()[:4], "big") % 100
    return "test" if bucket < 4 else "validation" if bucket < 6 else "train"


def read_files() -> dict[str, str]:
    """Return the text of every module, tests and generated files left out, by its path."""
    files: dict[str, str] = {}
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)  # finds the package without importing it
        assert spec is not None
        assert spec.submodule_search_locations is not None
        root = Path(spec.submodule_search_locations[0])
        for file in root.rglob("*.py"):
            path = f"{package}/{file.relative_to(root).as_posix()}"
            if "/tests/" not in path and not any(part in path for part in _GENERATED):
                files[path] = file.read_bytes().decode("utf-8").replace("\r\n", "\n")
    return dict(sorted(files.items()))


def module_documents(path: str, source: str) -> list[str]:
    """Cut one module into its long docstrings and its remaining source, in reading order."""
    docstrings: list[str] = []
    kept: list[str] = []
    at = 0
    for match in _LEXEMES.finditer(source):
        body = match["body"]
        if match["lead"] is None or body is None or len(body) < _MINIMUM:
            continue
        docstrings.append(_dedent(body))
        kept.append(source[at : match.start()])
        at = match.end()
    kept.append(source[at:])
    code = re.sub(r"[ \t]+$", "", "".join(kept), flags=re.M)
    code = re.sub(r"\n{3,}", "\n\n", code).strip("\n")
    # Sizes differ from module to module, so that documents differ in length.
    size = 1000 + 400 * (hashlib.sha256(path.encode()).digest()[4] % 10)
    return [part for part in docstrings + _chunks(code, size) if len(part) >= _MINIMUM]


def _dedent(body: str) -> str:
    lines = body.strip("\n").split("\n")
    indents = [len(x) - len(x.lstrip(" ")) for x in lines[1:] if x.strip()]
    margin = min(indents, default=0)
    rest = [line[margin:].rstrip() for line in lines[1:]]
    return "\n".join([lines[0].strip(), *rest]).strip("\n")


def _chunks(code: str, size: int) -> list[str]:
    """Cut source before definitions into chunks of about ``size`` characters."""
    cuts = [m.start() for m in _BOUNDARY.finditer(code)] + [len(code)]
    chunks: list[str] = []
    start = previous = 0
    for cut in cuts:
        if cut - start > size and previous > start:
            chunks.append(code[start:previous])
            start = previous
        while cut - start > 3 * size:  # a table or one very long function
            end = code.find("\n", start + 2 * size) + 1
            if not start < end < cut:
                break
            chunks.append(code[start:end])
            start = end
        previous = cut
    chunks.append(code[start:])
    return [chunk.strip("\n") for chunk in chunks]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "no release"


if __name__ == "__main__":
    write(make(), text.FOLDER, text.DIGESTS)
