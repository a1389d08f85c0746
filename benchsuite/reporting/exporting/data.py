"""All records and all items as Parquet, each column of one type."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchsuite.printable import without_surrogates
from benchsuite.reporting.exporting.tables import UNSTATED
from benchsuite.reporting.load import OF, items_table, record_rows

RECORDS, ITEMS = "records.parquet", "items.parquet"
_LARGEST = 2**63


@dataclass(frozen=True)
class Data:
    """What was written: the Arrow schemas of both files, and what could not be read.

    ``counts`` has the study, weights and outcome of every record, ``items_by`` the number of items
    by study and kind.
    """

    records: Any
    items: Any
    n_records: int
    n_items: int
    counts: Mapping[str, Sequence[str]]
    items_by: Sequence[tuple[tuple[str, str], int]]
    unreadable: list[str]


def write_data(directories: Sequence[Path], folder: Path) -> Data:
    """Write both files; the one of items only if there are any.

    Records are the rows of `load_records`, failures and reruns included. Lists, and values of
    several kinds, become JSON text.
    """
    import pyarrow
    import pyarrow.parquet

    unreadable: list[str] = []
    rows = list(record_rows(*directories, unreadable=unreadable))
    for row in rows:
        row["path"] = without_places(row["path"], directories)
    names = dict.fromkeys(name for row in rows for name in row)
    records = pyarrow.table({name: _column([row.get(name) for row in rows]) for name in names})
    pyarrow.parquet.write_table(records, folder / RECORDS)
    more: list[str] = []
    items = items_table(*directories, unreadable=more)
    if items.num_rows:
        pyarrow.parquet.write_table(items, folder / ITEMS)
    counts = {
        name: [str(row.get(key) or UNSTATED) for row in rows]
        for name, key in {"study": "cell.study", "weights": "weights", "outcome": "outcome"}.items()
    }
    return Data(
        records.schema,
        items.schema,
        records.num_rows,
        items.num_rows,
        counts,
        _by_kind(items),
        [without_places(text, directories) for text in dict.fromkeys([*unreadable, *more])],
    )


def without_places(text: str, directories: Sequence[Path]) -> str:
    """Return a text with each folder's name alone: where it lies on a machine is nobody's.

    A name that is no UTF-8 loses what a file of text cannot hold.
    """
    for directory in directories:
        for place in (str(directory), without_surrogates(str(directory))):
            text = text.replace(f"{place}/", f"{directory.resolve().name}/")
    return without_surrogates(text)


def _by_kind(items: Any) -> list[tuple[tuple[str, str], int]]:
    if not items.num_rows:
        return []
    pairs = zip(items["cell.study"].to_pylist(), items[OF].to_pylist(), strict=True)
    return sorted(Counter(pairs).items())


def _column(values: Sequence[Any]) -> Any:
    """Return values as one Arrow column: of truth values, whole numbers, numbers or texts."""
    import pyarrow

    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool} and kinds:
        return pyarrow.array(values, pyarrow.bool_())
    if kinds and kinds <= {int, float}:
        if kinds == {int} and all(v is None or abs(v) < _LARGEST for v in values):
            return pyarrow.array(values, pyarrow.int64())
        floats = [None if value is None else float(value) for value in values]
        return pyarrow.array(floats, pyarrow.float64())
    if kinds <= {str}:
        return pyarrow.array(values, pyarrow.string())
    texts = [None if value is None else json.dumps(value) for value in values]
    return pyarrow.array(texts, pyarrow.string())
