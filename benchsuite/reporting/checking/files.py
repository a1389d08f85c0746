"""Read a summary's file with its numbers as they stand there: 5.70 keeps its zero."""

import csv
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from benchsuite.errors import UsageError

FIX = "give a summary as JSON (.json), YAML (.yaml, .yml) or CSV (.csv, .tsv)"


def read(path: Path) -> Any:
    """Return the content of a JSON, YAML or CSV file, told apart by its name.

    Numbers with a point are decimals or texts, as printed. A CSV gives its rows. Raises a
    ``UsageError`` for what cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", fix="check the path") from error
    except ValueError as error:
        raise UsageError(f"{path} is no text: {error}", fix=FIX) from error
    kind = path.suffix.lower()
    if kind in (".csv", ".tsv"):
        rows = csv.DictReader(io.StringIO(text), delimiter="\t" if kind == ".tsv" else ",")
        return [{k: v for k, v in row.items() if k and v} for row in rows]
    return _yaml(path, text) if kind in (".yaml", ".yml") else _json(path, text)


def _json(path: Path, text: str) -> Any:
    try:
        return json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}", fix=FIX) from error


def _yaml(path: Path, text: str) -> Any:
    import yaml

    try:
        return yaml.load(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not YAML: {error}", fix=FIX) from error
