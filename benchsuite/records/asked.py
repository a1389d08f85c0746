"""What the items of many records were: questions with their right answers, text by chunk.

::

    reports/store/asked/<digest>.json    one question set, or one evaluated text

A record keeps names and answers alone. What they name is kept once, under the digest of what every
such record says of it, so that no record points to it and older ones are as good without it.
"""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchsuite.records.files import write_whole
from benchsuite.records.fingerprint import digest

Key = Mapping[str, Any]


def set_key(told: Mapping[str, Any]) -> Key:
    """Return the key of a question set: ``told`` is what a record says of it."""
    return {"question_set": dict(told)}


def text_key(chunks: Any) -> Key:
    """Return the key of an evaluated text: ``chunks`` are the names of its chunks."""
    return {"chunks": list(map(str, chunks))}


def is_kept(root: Path, key: Key) -> bool:
    """Say whether something is kept under a key."""
    return _path(root, key).is_file()


def keep(root: Path, key: Key, value: Any) -> None:
    """Keep a json-able value under a key; a store that takes nothing more goes without it."""
    if is_kept(root, key):
        return
    with contextlib.suppress(OSError):
        _path(root, key).parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"of": key, "value": value}, ensure_ascii=False)
        write_whole(_path(root, key), text.encode(errors="replace"), durable=False)


def kept(root: Path, key: Key) -> Any:
    """Return what is kept under a key, or None: of a damaged file too."""
    try:
        found = json.loads(_path(root, key).read_bytes())
        return found["value"] if digest(found["of"]) == digest(key) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _path(root: Path, key: Key) -> Path:
    return root / "asked" / f"{digest(key)}.json"
