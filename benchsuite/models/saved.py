"""What ``--save-models`` says of the folder of a cell's model, beside the model or in its place."""

import json
from pathlib import Path
from typing import Any

from benchsuite.errors import BenchsuiteError, UsageError


def refuse_unsaved(folder: Path) -> None:
    """Refuse a folder of ``--save-models`` that says why it holds no model."""
    why = read_metadata(folder).get("not_saved") if folder.is_dir() else None
    if why:
        raise UsageError(
            f"no model is in this folder, as its metadata.json says: {why}",
            str(folder),
            "Name the folder of a method whose format holds this model",
        )


def read_metadata(folder: Path) -> dict[str, Any]:
    """Return what a saved cell's ``metadata.json`` says; empty where there is none.

    Raises ``BenchsuiteError`` for what is no JSON.
    """
    try:
        found = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise BenchsuiteError(
            f"not readable JSON: {error}", str(folder / "metadata.json"), "Save the model again"
        ) from error
    return found if isinstance(found, dict) else {}
