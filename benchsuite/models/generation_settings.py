"""``generation_config.json``: read and written as it is, whatever transformers thinks of it.

transformers refuses to write settings that it finds inconsistent (a temperature without sampling,
as many published models have), and falls back silently where it cannot read the file.
"""

import json
from pathlib import Path
from typing import Any

from benchsuite.errors import BenchsuiteError

NAME = "generation_config.json"


def read(folder: Path) -> Any:
    """Return the ``GenerationConfig`` of a model folder, or None where it has no such file.

    ``eos_token_id`` may be one token or a list. A file that cannot be read is a
    ``BenchsuiteError``.
    """
    from transformers import GenerationConfig

    file = folder / NAME
    if not file.exists():
        return None
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(settings, dict):
            raise ValueError("it is not a JSON object")
        ends = settings.get("eos_token_id")
        listed = ends if isinstance(ends, list) else [ends]
        if any(end is not None and type(end) is not int for end in listed):
            raise ValueError(f"its eos_token_id is {ends!r}, neither a token nor a list of tokens")
        return GenerationConfig.from_dict(settings)
    except Exception as error:  # a wrong value fails wherever transformers first uses it
        raise BenchsuiteError(
            f"cannot read {NAME}: {' '.join(str(error).split())[:300]}",
            where=str(folder),
            fix="Copy the file again, or remove it where greedy decoding up to the tokenizer's end "
            "of text is what you want",
        ) from error


def write(model: Any, folder: Path) -> None:
    """Write a model's generation settings into a folder, as they are; nothing if it has none."""
    settings = getattr(model, "generation_config", None)
    if settings is not None:
        settings.to_json_file(folder / NAME, keys_to_pop=["compile_config"])


def save_pretrained(model: Any, folder: Path | str) -> None:
    """Write a model as its own ``save_pretrained`` does, its generation settings as they are."""
    kept = getattr(model, "generation_config", None)
    if kept is None:
        model.save_pretrained(folder)
        return
    model.generation_config = type(kept)()
    try:
        model.save_pretrained(folder)
    finally:
        model.generation_config = kept
    write(model, Path(folder))
