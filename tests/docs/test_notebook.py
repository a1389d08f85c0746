"""The notebook in the docs answers its questions, from its first cell to its last."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchsuite.study import study
from tests.reporting.factory import record, stored_with_items

NOTEBOOK = Path(__file__).parents[2] / "docs/records.ipynb"
METHODS = ("fp16", "gptq_w4", "rtn_w4")
PLAN = {"fp16": 9.0, "gptq_w4": 9.5, "rtn_w4": 10.0}


def items_of(one):
    """Return twenty questions, of which rounding loses five, and a text that it harms once."""
    lost = 5 if one.cell.method == "rtn_w4" else 0
    harmed = np.full(20, 0.01)
    harmed[3] = 1.81 if lost else 0.01
    return {
        "chunk": np.array([f"{i:05}-a" for i in range(20)]),
        "chunk_nll": np.ones(20),
        "chunk_kl": harmed,
        "question": np.array([f"q{i}" for i in range(20)]),
        "question_set": np.array(["arc"] * 20),
        "correct": np.arange(20) >= lost,
    }


def test_the_notebook_answers_its_questions(tmp_path, monkeypatch, capsys):
    cells = study("quantizers").cells()
    cells = [c for c in cells if c.model == "tiny_llama_1m" and c.method in METHODS]
    found = {c.id: record(c, PLAN[c.method] + c.seed / 1000) for c in cells}
    stored_with_items(tmp_path / "reports/store/records", found, items_of)
    monkeypatch.chdir(tmp_path)
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    names = {}

    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)

    cost = names["cost"]
    assert cost.index.tolist() == list(METHODS)
    assert cost.loc["gptq_w4", "costs"] == pytest.approx(0.501)
    assert cost.loc["gptq_w4", "low"] < 0.501 < cost.loc["gptq_w4", "high"]
    assert "1" in cost.loc["fp16", "why"]
    said = capsys.readouterr().out
    assert "rtn_w4: 5 of 20 flipped, accuracy -0.250\np = 0.0625" in said
    assert "2 of 20 chunks hold 91% of the divergence" in said
    assert not any(cell.get("outputs") for cell in cells)
