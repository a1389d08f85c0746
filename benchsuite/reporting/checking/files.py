"""Read a summary's file with its numbers as they stand there: 5.70 keeps its zero."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable
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
        if twice := _twice(filter(None, rows.fieldnames or ())):
            raise UsageError(f"{path} has two columns {twice!r}", fix="name them apart")
        return [{k: v for k, v in row.items() if k and v} for row in rows]
    return _yaml(path, text) if kind in (".yaml", ".yml") else _json(path, text)


def _json(path: Path, text: str) -> Any:
    try:
        return json.loads(text, parse_float=Decimal, object_pairs_hook=_as_object)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}", fix=FIX) from error


def _yaml(path: Path, text: str) -> Any:
    import yaml

    class Loader(yaml.BaseLoader):
        """Texts for numbers, and no key twice."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            pairs = self.construct_pairs(node, deep=True)
            return _as_object([(k if isinstance(k, str) else str(k), v) for k, v in pairs])

    try:
        return yaml.load(text, Loader=Loader)
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{path} is not YAML: {error}", fix=FIX) from error


def _as_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; of two values under one key nobody knows which was printed."""
    if twice := _twice(name for name, _ in pairs):
        raise ValueError(f"the key {twice!r} is there twice in one object")
    return dict(pairs)


def _twice(names: Iterable[str]) -> str | None:
    return next((name for name, n in Counter(names).items() if n > 1), None)
