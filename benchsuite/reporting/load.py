"""Records as a pandas frame: ours, and the documents' own JSON without our extra fields."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchsuite.study import names, study

if TYPE_CHECKING:
    import pandas as pd


def load_records(*directories: str | Path) -> "pd.DataFrame":
    """Return one row per record found under the directories (default ``reports``).

    Nested objects become columns with dots: ``cell.axes.seed``, ``environment.device_kind``,
    ``cell.study``. A record that is there twice, in the store and in the exported view, is one
    row. ``frame.attrs["unreadable"]`` lists files that could not be read, with the reason.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    unreadable: list[str] = []
    for path in record_files(*(directories or ("reports",))):
        record, why = read_record(path)
        if record is None:
            unreadable.append(f"{path}: {why}")
            continue
        identity = record.get("record_sha256")
        if identity is None or identity not in seen:
            seen.add(identity or "")
            rows.append({**flatten(record), "path": str(path)})
    frame = pd.DataFrame(rows)
    frame.attrs["unreadable"] = unreadable
    return frame


def record_files(*directories: str | Path) -> Iterator[Path]:
    """Yield the record files under each directory, which may be a record folder itself.

    The views that a store exports are left out: they show records that it holds.
    """
    for directory in map(Path, directories):
        found = set(directory.rglob("store/records/*.json"))
        stores = {path.parents[2] for path in found}
        views = directory.rglob("raw_runs/*.json")
        found |= {path for path in views if not stores & set(path.parents)}
        if directory.name in ("records", "raw_runs"):
            found |= set(directory.glob("*.json"))
        yield from sorted(found)


def read_record(path: Path) -> tuple[dict[str, Any] | None, str]:
    """Return a record as the project writes them, or None and what is wrong with the file.

    The study documents' own files have no outcome: a study's metric says that they passed.
    """
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        return None, str(error)
    if not isinstance(record, dict) or not {"model", "method", "seed"} <= set(record):
        return None, "it has no model, method and seed"
    if "outcome" not in record:
        ranked_by = {study(name).ranked_by.name for name in names()}
        measured = any(record.get(metric) is not None for metric in ranked_by)
        record["outcome"] = "passed" if measured else "unknown"
    return record, ""


def flatten(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested objects as one level with dotted names."""
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
