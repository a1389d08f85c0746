"""The embedded corpus: docstrings and sources of two Python packages, one data file a split.

The text was cut once from sympy 1.14.0 and networkx 3.6.1 (``make_text``). It is part of
benchsuite, so it is the same on every machine, whatever is installed there. Modules, not documents,
were split into train, validation and test. A file holds each document's UTF-8 bytes, ended by a
zero byte, and its sha256 is pinned: two machines that measure a perplexity measured it on the same
bytes.
"""

import hashlib
import json
import lzma
from functools import cache
from pathlib import Path

from benchsuite.errors import BenchsuiteError

SPLITS = ("train", "validation", "test")
FOLDER = Path(__file__).with_name("documents")
DIGESTS = Path(__file__).with_name("text_digests.json")


@cache
def documents(split: str) -> tuple[str, ...]:
    """Return the documents of ``train``, ``validation`` or ``test``: docstrings and source chunks.

    The order is that of the modules' names. Raises ``BenchsuiteError`` for another split, and for
    a file that is missing or damaged.
    """
    if split not in SPLITS:
        raise BenchsuiteError(f"the embedded text has no split {split!r}", fix=f"Use {SPLITS}")
    file = FOLDER / f"{split}.txt.xz"
    try:
        content = lzma.decompress(file.read_bytes())
    except (OSError, lzma.LZMAError) as error:
        raise _damaged(file, str(error)) from error
    if hashlib.sha256(content).hexdigest() != digest(split):
        raise _damaged(file, f"its sha256 is not the one in {DIGESTS.name}")
    return tuple(document.decode() for document in content.split(b"\0")[:-1])


def digest(split: str) -> str:
    """Return the pinned sha256 of a split's documents, without reading them."""
    return str(_pinned()["splits"][split]["sha256"])


@cache
def _pinned() -> dict:
    return json.loads(DIGESTS.read_text())


def _damaged(file: Path, why: str) -> BenchsuiteError:
    return BenchsuiteError(
        f"the embedded text {file.name} cannot be read: {why}",
        where=str(file.parent),
        fix="Install benchsuite again, or restore the file",
    )
