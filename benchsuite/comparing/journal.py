"""What servers have answered so far, line by line, so that a broken run goes on where it ended."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from benchsuite.comparing.endpoint import Endpoint


class Journal:
    """A JSONL file of answers by server, model, and the digest of what was asked.

    Without a path nothing is kept. ``resumed`` counts the answers that came from the file. It is
    for one comparison: ``close`` removes it, for the same address may serve other weights tomorrow.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.resumed = 0
        self._lock = Lock()
        self._answers: dict[tuple[str, str, str], Any] = {}
        if path is not None and path.is_file():
            self._read(path)

    def _read(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8", errors="replace")
        for line in text.splitlines():
            try:
                told = json.loads(line)
                key = told["endpoint"], told["model"], told["prompt"]
                self._answers[key] = told["answer"]
            except (ValueError, KeyError, TypeError):
                continue  # the line that the broken run was writing
        if text and not text.endswith("\n"):
            with path.open("a", encoding="utf-8") as file:
                file.write("\n")

    def find(self, endpoint: Endpoint, digest: str) -> Any:
        """Return the answer that was kept, None where there is none."""
        found = self._answers.get((endpoint.url, endpoint.model, digest))
        if found is not None:
            with self._lock:
                self.resumed += 1
        return found

    def keep(self, endpoint: Endpoint, digest: str, answer: Any) -> None:
        """Write an answer down."""
        if self.path is None:
            return
        told = {"endpoint": endpoint.url, "model": endpoint.model, "prompt": digest}
        line = json.dumps({**told, "answer": answer}) + "\n"
        with self._lock, self.path.open("a", encoding="utf-8") as file:
            file.write(line)

    def close(self) -> None:
        """Remove the file: its comparison is done and written."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def digest_of(asked: Mapping[str, Any]) -> str:
    """Return the sha256 of a request."""
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
