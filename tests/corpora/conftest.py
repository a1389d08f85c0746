import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

# As the hub stores WikiText: line ends kept, blank lines empty.
ROWS = {
    "train": ["", " = Bee = \n", "", " A bee flies . \n", " Bees hum . \n"],
    "validation": ["", " = Fox = \n"],
    "test": ["", " = Owl = \n", "", " An owl sees ☾ . \n"],
}


def write_parquet(path: Path, rows: list[str], column: str = "text") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table({column: rows}), path)


def write_jsonl(path: Path, rows: list[str], column: str = "text") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({column: row, "n": 1}) + "\n" for row in rows))


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """A hub snapshot's folder, with a second configuration beside the catalogued one."""
    root = tmp_path / "snapshot"
    for split, rows in ROWS.items():
        name = f"{split}-00000-of-00001.parquet"
        write_parquet(root / "wikitext-2-raw-v1" / name, rows)
        write_parquet(root / "wikitext-103-raw-v1" / name, ["of another configuration"])
    return root
