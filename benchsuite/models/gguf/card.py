"""Which GGUF a folder was made of, told without numpy: collection asks."""

import json
from dataclasses import dataclass
from pathlib import Path

CARD = "gguf.json"
# Raised with every change of what a folder holds, so that folders written before are not taken.
FORM = 1


@dataclass(frozen=True)
class MadeOf:
    """The file that a folder was made of: its digest, and its tensors by type."""

    sha256: str
    types: dict[str, int]


def made_of(folder: Path) -> MadeOf | None:
    """Return the GGUF that a folder was made of; None for other folders."""
    if not (folder / CARD).exists():
        return None
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    return MadeOf(card["sha256"], card["types"])


def identity(sha256: str) -> str:
    """Return what identifies the weights and tokenizer that a file with this digest becomes.

    It changes with the file and with the way files are read here.
    """
    return f"gguf:{sha256}:{FORM}"
