"""``benchsuite verify`` on checkpoints of an embedded model."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchsuite import catalog
from benchsuite.commands import main as cli
from benchsuite.evaluation import checkpoints
from benchsuite.models import ModelPool
from benchsuite.quantizers import checkpoint, rtn

MODEL = "tiny_llama_1m"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders of the model rounded to 8 and to 3 bits."""
    folders = {}
    for bits in (8, 3):
        folders[bits] = tmp_path_factory.mktemp(f"w{bits}")
        with ModelPool().lease(catalog.model(MODEL)) as leased:
            made = rtn.quantize(leased.model, bits=bits)
            checkpoint.save(leased.model, folders[bits], tokenizer=leased.tokenizer)
        facts = {"model": MODEL, "weights_sha256": made.weights_sha256}
        (folders[bits] / "metadata.json").write_text(json.dumps(facts))
        folders[bits, "made"] = made
    return folders


def test_a_good_checkpoint_is_verified(saved, capsys):
    assert cli.main(["verify", str(saved[3])]) == 0
    made = saved[3, "made"]
    told = capsys.readouterr().out
    assert told.splitlines()[-1] == "verified"
    # The model is stored in half precision, and a CPU runs and saves it in float32.
    ratio = made.compression_ratio / 2
    assert f"{made.size_after_bytes / 1e6:.2f} MB, compression {ratio:.2f}" in told


def test_other_weights_than_the_metadata_names_are_a_fault(saved, tmp_path, capsys):
    for file in saved[3].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    state = load_file(tmp_path / "model.safetensors")
    name = next(name for name in state if name.endswith("scales"))
    state[name] = state[name] * 2
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert cli.main(["verify", str(tmp_path)]) == 1
    assert "weights_sha256 differs" in capsys.readouterr().out


def test_predictions_that_are_not_finite_are_a_fault(saved):
    opened = checkpoints.open_model(str(saved[8]))
    opened.model.model.norm.weight = torch.nn.Parameter(
        torch.full_like(opened.model.model.norm.weight, float("nan"))
    )
    found = checkpoints.verify(opened)
    assert found.perplexity is None
    assert any("finite" in fault for fault in found.faults)


def test_a_folder_that_is_none_is_one_paragraph(capsys, tmp_path):
    assert cli.main(["verify", str(tmp_path)]) == pytest.ExitCode.USAGE_ERROR
    assert "neither a catalogued model nor a folder" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["verify"], ["compare", MODEL]])
def test_a_model_that_was_not_saved_says_why(capsys, tmp_path, words):
    """Such a folder is one that --save-models wrote: to ask for one is no help."""
    why = "Not saved: a phi3 with this rope is not written as GGUF."
    (tmp_path / "metadata.json").write_text(json.dumps({"format": None, "not_saved": why}))
    assert cli.main([*words, str(tmp_path)]) == pytest.ExitCode.USAGE_ERROR
    said = capsys.readouterr().err
    assert why in said
    assert str(tmp_path) in said
