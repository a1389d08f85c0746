"""Where the trained models are, and what their cards say, without reading weights."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from benchsuite import catalog
from benchsuite.errors import BenchsuiteError, unknown_name

ROOT = Path(__file__).with_name("models")
CARD = "card.json"
NAMES = tuple(name for name, entry in catalog.MODELS.items() if entry.embedded)


def path(name: str) -> Path:
    """Return the folder of a model: configuration, weights, tokenizer and card.

    Raises ``BenchsuiteError`` where it has no weights, ``UsageError`` for an unknown name.
    """
    if name not in NAMES:
        raise unknown_name("embedded model", name, NAMES)
    folder = ROOT / name
    if not (folder / "model.safetensors").is_file():
        raise BenchsuiteError(
            f"the embedded model {name} has no weights",
            where=str(folder),
            fix=f"Run python -m benchsuite.embedded.train --model {name}, or restore the folder",
        )
    return folder


@cache
def card(name: str) -> dict[str, Any]:
    """Return what was measured when the model was trained."""
    return json.loads((path(name) / CARD).read_text())


def digest(name: str) -> str:
    """Return the sha256 of the model's weights file as its card states it."""
    return str(card(name)["weights_sha256"])
