import json
from pathlib import Path

import pyarrow
import pytest
from huggingface_hub import constants
from pyarrow import parquet

COMMIT = "b" * 40
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


def cached_set(cache: Path, name: str) -> Path:
    """Return the snapshot's folder of a data set in a hub cache, of ``COMMIT``."""
    repository = cache / f"datasets--{name}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    return repository / "snapshots" / COMMIT


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, without a network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """A hub snapshot's folder, with a second configuration beside the catalogued one."""
    root = tmp_path / "snapshot"
    for split, rows in ROWS.items():
        name = f"{split}-00000-of-00001.parquet"
        write_parquet(root / "wikitext-2-raw-v1" / name, rows)
        write_parquet(root / "wikitext-103-raw-v1" / name, ["of another configuration"])
    return root
