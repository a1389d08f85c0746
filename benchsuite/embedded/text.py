"""The embedded corpus: the sources and docstrings of two pinned pure-Python packages.

sympy and networkx are dependencies of torch, so their text is present wherever the project is.
Modules, not documents, are split into train, validation and test, and every digest is pinned, so
that two machines that measure a perplexity measured it on the same bytes. Only the files' text is
used, through regular expressions, so the result does not depend on the Python that reads it.
"""

import hashlib
import importlib.util
import json
import re
from functools import cache
from importlib.metadata import version
from pathlib import Path

from benchsuite.errors import BenchsuiteError

PACKAGES = {"sympy": "1.14.0", "networkx": "3.6.1"}
SPLITS = ("train", "validation", "test")

# Written by a machine, not by people: parser tables, lookup tables, constants.
_GENERATED = (
    "/_antlr/",
    "/benchmarks/",
    "/autolev/test-examples/",
    "/resolvent_lookup.py",
    "/polyquinticconst.py",
    "/_listener_autolev_antlr.py",
)
_DIGESTS = Path(__file__).with_name("text_digests.json")
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


def documents(split: str) -> tuple[str, ...]:
    """Return the documents of ``train``, ``validation`` or ``test``: docstrings and source chunks.

    The order is that of the files' names. Raises ``BenchsuiteError`` when the installed packages
    are not the pinned ones.
    """
    if split not in SPLITS:
        raise BenchsuiteError(f"the embedded text has no split {split!r}", fix=f"Use {SPLITS}")
    return _splits()[split]


def digest(split: str) -> str:
    """Return the pinned sha256 of a split's documents, without reading them."""
    return str(_pinned()["splits"][split]["sha256"])


def documents_digest(texts: tuple[str, ...]) -> str:
    """Return the sha256 hex digest of documents: each one's UTF-8 bytes, ended by a zero byte."""
    total = hashlib.sha256()
    for text in texts:
        total.update(text.encode() + b"\0")
    return total.hexdigest()


def split_of(path: str) -> str:
    """Return a module's split by the hash of its path: 94 % train, 2 % validation, 4 % test."""
    bucket = int.from_bytes(hashlib.sha256(path.encode()).digest()[:4], "big") % 100
    return "test" if bucket < 4 else "validation" if bucket < 6 else "train"


@cache
def _splits() -> dict[str, tuple[str, ...]]:
    files = read_files()
    _verify(files)
    result = _cut(files)
    for split, texts in result.items():
        if documents_digest(texts) != digest(split):
            raise BenchsuiteError(
                f"the embedded text's {split} split has not its pinned digest",
                where=str(_DIGESTS),
                fix="Restore benchsuite/embedded/text.py and text_digests.json to one commit",
            )
    return result


def _cut(files: dict[str, str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {split: [] for split in SPLITS}
    seen: set[str] = set()
    for path, source in files.items():
        for text in module_documents(path, source):
            if text not in seen:  # a repeated text must not be in two splits
                seen.add(text)
                found[split_of(path)].append(text)
    return {split: tuple(texts) for split, texts in found.items()}


def read_files() -> dict[str, str]:
    """Return the text of every module, tests and generated files left out, by its path."""
    files: dict[str, str] = {}
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)  # finds the package without importing it
        if spec is None or not spec.submodule_search_locations:
            raise BenchsuiteError(
                f"the package {package} is not installed", fix=f"Run pip install {_pins()}"
            )
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
    return [text for text in docstrings + _chunks(code, size) if len(text) >= _MINIMUM]


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


@cache
def _pinned() -> dict:
    return json.loads(_DIGESTS.read_text())


def _pins() -> str:
    return " ".join(f"{name}=={pin}" for name, pin in PACKAGES.items())


def _file_digest(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def _verify(files: dict[str, str]) -> None:
    pinned = _pinned()["files"]
    wrong = [
        path
        for path in sorted(pinned.keys() | files.keys())
        if path not in files or _file_digest(files[path]) != pinned.get(path)
    ]
    if not wrong:
        return
    installed = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    raise BenchsuiteError(
        f"the embedded text differs from the pinned one in {len(wrong)} of {len(pinned)} files, "
        f"first in {wrong[0]}; installed: {installed}",
        where=str(_DIGESTS),
        fix=f"Run pip install --force-reinstall {_pins()}",
    )


def pin() -> None:
    """Write ``text_digests.json`` from what is installed: only for a change of the pinned text."""
    files = read_files()
    splits = {
        split: {
            "documents": len(texts),
            "bytes": sum(len(text.encode()) for text in texts),
            "sha256": documents_digest(texts),
        }
        for split, texts in _cut(files).items()
    }
    digests = {path: _file_digest(source) for path, source in files.items()}
    content = {"packages": PACKAGES, "splits": splits, "files": digests}
    _DIGESTS.write_text(json.dumps(content, indent=1) + "\n")
