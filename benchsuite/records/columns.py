"""Per-item evidence as Parquet: one column per name, each as long as it was given."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Columns = Mapping[str, np.ndarray[Any, Any]]


def read_columns(path: Path) -> "dict[str, np.ndarray[Any, Any]]":
    """Return the columns of a side file."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    return {name: table.column(name).drop_null().to_numpy() for name in table.column_names}


def parquet(columns: "Columns") -> bytes:
    """Return the columns as Parquet; shorter ones end in nulls, which are no values."""
    import pyarrow
    import pyarrow.parquet

    longest = max(map(len, columns.values()))
    table = {}
    for name, column in columns.items():
        values = pyarrow.array(column)
        nulls = pyarrow.nulls(longest - len(values), values.type)
        table[name] = pyarrow.concat_arrays([values, nulls])
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(table), sink)
    return sink.getvalue().to_pybytes()
