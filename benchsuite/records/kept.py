"""What was worked out of a source file, kept in the user's cache for all projects and sessions.

One small file for each content, named by its digest, so that writers never meet and nothing grows
old: another version of Python or of the code that reads sources has a folder of its own. A file
that is damaged, or cannot be written, is as if it were not there.
"""

import contextlib
import functools
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from benchsuite.models.cache import user_cache
from benchsuite.records.files import write_whole

_READERS = ("syntax.py", "fingerprint.py", "kept.py")


def find(content: bytes) -> Any:
    """Return what ``keep`` was given for this content, read back from JSON, or None."""
    try:
        stated, _, body = _place(content).read_bytes().partition(b"\n")
    # RuntimeError: there is no home.
    except (OSError, RuntimeError):
        return None
    if hashlib.sha256(body).hexdigest().encode() != stated:
        return None
    return json.loads(body)


def keep(content: bytes, value: Any) -> None:
    """Keep a JSON value for this content, if there is a place that can be written."""
    body = json.dumps(value).encode()
    with contextlib.suppress(OSError, RuntimeError):
        place = _place(content)
        place.parent.mkdir(parents=True, exist_ok=True)
        # A power cut may leave a file without its content: its digest tells.
        write_whole(place, hashlib.sha256(body).hexdigest().encode() + b"\n" + body, durable=False)


def _place(content: bytes) -> Path:
    return user_cache() / "sources" / _version() / hashlib.sha256(content).hexdigest()


@functools.cache
def _version() -> str:
    """Name what the values depend on besides the content: Python's parser and our reading."""
    whole = hashlib.sha256(sys.version.encode())
    for name in _READERS:
        whole.update(Path(__file__).with_name(name).read_bytes())
    return f"{sys.implementation.cache_tag}-{whole.hexdigest()[:16]}"
