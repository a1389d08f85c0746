"""Records as a pandas frame: ours, and the documents' own JSON without our extra fields."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchsuite.errors import BenchsuiteError
from benchsuite.records.documents import outcome_of
from benchsuite.records.forms import SEAL, flat
from benchsuite.records.reading import DocumentFile, read_file

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
    seen: set[tuple[str, ...]] = set()
    unreadable: list[str] = []
    for path in record_files(*(directories or ("reports",))):
        try:
            record = read_file(path)
        except DocumentFile as found:
            row = {**found.body, "outcome": outcome_of(found.body)}
            rows.append({**flatten(row), "path": str(path)})
        except (BenchsuiteError, OSError) as error:
            unreadable.append(f"{path}: {getattr(error, 'what', error)}")
        else:
            identity = (record.fingerprint.value, record.started_at, record.results_sha256)
            if identity not in seen:
                seen.add(identity)
                row = {**flat(record), SEAL: record.sha256}
                rows.append({**flatten(row), "path": str(path)})
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


def flatten(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested objects as one level with dotted names."""
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
