"""Where catalogued names come from: the hub, folders of the user's, or a random generator."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchsuite.catalog.entries import ModelEntry
from benchsuite.errors import UsageError


def is_gguf(path: Path) -> bool:
    """Return whether the user means a GGUF file by ``path``: it is named so, and no folder."""
    return path.suffix.lower() == ".gguf" and not path.is_dir()


@dataclass(frozen=True)
class Sources:
    """Where models, corpora and tasks come from, and whose own code may run.

    ``local`` names folders that stand in for the hub (``--local NAME=PATH``), or a model's GGUF.
    ``weights`` is ``hub``, or ``random`` for a rehearsal at the true shapes with weights drawn from
    ``seed``.
    ``trusted`` are the names whose own Python code may run (``--trust-remote-code``).
    ``digest_cache`` is a file that remembers the digests of large files while they stay as they
    are. Raises ``UsageError`` for other ``weights``.
    """

    local: Mapping[str, Path] = field(default_factory=dict)
    weights: str = "hub"
    trusted: frozenset[str] = frozenset()
    seed: int = 0
    digest_cache: Path | None = None

    def __post_init__(self) -> None:
        if self.weights not in ("hub", "random"):
            raise UsageError(f"unknown weights {self.weights!r}", fix="Use 'hub' or 'random'")

    def folder(self, name: str) -> Path | None:
        """Return the folder (or GGUF) that the user named for a model, corpus or task, or None."""
        path = self.local.get(name)
        return None if path is None else Path(path).expanduser()

    def trusts(self, name: str) -> bool:
        """Say whether the own code of a name may run."""
        return name in self.trusted

    def weights_of(self, entry: ModelEntry) -> str:
        """Say which weights a model has: embedded, random, local, dequantized or hub.

        Embedded models always use their own. Otherwise ``random`` wins over a folder, which says
        where the real weights are.
        """
        if entry.embedded:
            return "embedded"
        if self.weights == "random":
            return "random"
        path = self.folder(entry.name)
        if path is None:
            return "dequantized" if entry.packaged and is_gguf(Path(entry.packaged.file)) else "hub"
        return "dequantized" if is_gguf(path) else "local"

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON has them, for an engine's process; `from_dict` reads them."""
        return {
            "local": {name: str(path) for name, path in self.local.items()},
            "weights": self.weights,
            "trusted": sorted(self.trusted),
            "seed": self.seed,
            "digest_cache": str(self.digest_cache) if self.digest_cache else None,
        }

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> "Sources":
        """Return the sources of ``as_dict``'s fields; those left out have their defaults."""
        cache = told.get("digest_cache")
        return cls(
            local={name: Path(path) for name, path in told.get("local", {}).items()},
            weights=told.get("weights", "hub"),
            trusted=frozenset(told.get("trusted", ())),
            seed=told.get("seed", 0),
            digest_cache=Path(cache) if cache else None,
        )
