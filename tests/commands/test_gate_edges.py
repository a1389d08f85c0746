"""A gate at its edges: equal models, broken ones, margins that are none."""

import json

import pytest
import torch

from benchsuite.commands.main import main
from tests.models import tiny

MODEL = "tiny_llama_1m"
WORDS = ["--tokens", "1280", "--seq-len", "64", "--device", "cpu"]

pytestmark = pytest.mark.usefixtures("folder")


def test_a_model_is_not_worse_than_itself(folder):
    words = [*WORDS, "--margin", "kl=0.001", "--json", "told.json"]
    assert main(["gate", MODEL, MODEL, *words]) == 0
    (metric,) = json.loads((folder / "told.json").read_text())["metrics"]
    assert (metric["candidate"], metric["loss"], metric["low"]) == (0, 0, 0)
    assert metric["p_worse"] > 0.5


def test_what_predicts_no_numbers_is_not_judged(folder, capsys):
    good, bad = tiny.checkpoint(folder / "good"), tiny.checkpoint(folder / "bad")
    from safetensors.torch import load_file, save_file

    weights = load_file(bad / "model.safetensors")
    weights["model.norm.weight"] = torch.full_like(weights["model.norm.weight"], 3e38)
    save_file(weights, bad / "model.safetensors", metadata={"format": "pt"})
    assert main(["gate", str(good), str(bad), *WORDS]) == 4
    assert "what the candidate predicts is not finite" in capsys.readouterr().err
    assert not list((folder / "reports/store/comparisons").glob("*.json"))


@pytest.mark.parametrize("value", ["0", "0%", "-1", "nan", "inf", "one", ""])
def test_a_margin_that_is_none_is_refused(value, capsys):
    assert main(["gate", MODEL, MODEL, *WORDS, "--margin", f"perplexity={value}"]) == 4
    assert "cannot be read" in capsys.readouterr().err


def test_one_item_decides_nothing(folder, capsys):
    for name in ("a", "b"):
        (folder / f"{name}.csv").write_text("id,right\n1,1\n")
    assert main(["gate", "--samples", "a.csv", "b.csv", "--columns", "id,right"]) == 3
    assert "items would decide" in capsys.readouterr().out


def test_the_order_of_items_is_nothing(folder, capsys):
    rows = [f"{i},{int(i % 3 > 0)}" for i in range(300)]
    for name, order in (("a", rows), ("b", rows[::-1]), ("c", rows[:200])):
        (folder / f"{name}.csv").write_text("\n".join(["id,right", *order]) + "\n")
    words = ["--columns", "id,right", "--margin", "accuracy=2"]
    assert main(["gate", "--samples", "a.csv", "b.csv", *words]) == 0
    assert "0 lost, 0 gained" in capsys.readouterr().out
    # Of the 200 shared ones, two in a hundred are just not excluded.
    assert main(["gate", "--samples", "a.csv", "c.csv", *words]) == 3
    assert "100 items (200, 201, 202, 203, 204, ...) only in the base" in capsys.readouterr().out
