"""What lies behind a digest: kept beside the records, to name what made one stale.

::

    reports/store/digested/<digest>.json    the value that was digested

Many records share one file: the code of a study's cells, for one. Without it a record is as good as
with it, and what changed is then named by the digest alone.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchsuite.printable import some
from benchsuite.records import fingerprint
from benchsuite.records.files import write_whole

MOST_NAMED = 3


def keep(root: Path, parts: Mapping[str, tuple[str, Any]]) -> None:
    """Keep each part, ``name -> (digest, value)``, under its digest."""
    folder = root / "digested"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        for value_digest, value in parts.values():
            path = folder / f"{value_digest}.json"
            if _kept(path) is None:
                text = json.dumps(value, indent=1, sort_keys=True, default=str)
                write_whole(path, text.encode(), durable=False)


def differences(root: Path, name: str, digest: str, value: Any) -> str:
    """Return what changed from a kept part to ``value``: ``code (benchsuite.quantizers.gptq)``."""
    if not digest.isalnum():
        return name
    before = _kept(root / "digested" / f"{digest}.json")
    if before is None:
        return name
    now = json.loads(json.dumps(value, default=str))
    changed = list(dict.fromkeys(_changed(before, now)))
    if not changed:
        return name
    return f"{name} ({some(changed, MOST_NAMED)})"


def _kept(path: Path) -> Any:
    """Return the value that a file keeps, or None if its name is not the digest of it.

    A damaged one would name what did not change.
    """
    try:
        value = json.loads(path.read_bytes())
        return value if fingerprint.digest(value) == path.stem else None
    except (OSError, ValueError, RecursionError):
        return None


def _changed(before: Any, now: Any, where: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys((*before, *now)):
            inner = f"{where}.{key}" if where else str(key)
            if key not in before or key not in now:
                yield inner
            else:
                yield from _changed(before[key], now[key], inner)
    elif before != now:
        yield where
