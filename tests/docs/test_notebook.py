"""The notebook in the docs runs from its first cell to its last."""

import json
from pathlib import Path

from tests.reporting.factory import drawn, grid, stored

NOTEBOOK = Path(__file__).parents[2] / "docs/records.ipynb"


def test_every_code_cell_runs(tmp_path, monkeypatch):
    stored(tmp_path / "reports/store/records", drawn(grid("llama2_7b")))
    monkeypatch.chdir(tmp_path)
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    names = {}

    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)

    assert len(names["frame"]) == 45
    assert names["summary"].loc[("calibration_selection", "llama2_7b")]["count"].tolist() == [5] * 9
    assert names["comparison"].defined
    assert not any(cell.get("outputs") for cell in cells)
