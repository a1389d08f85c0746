"""A GGUF file given to a session: its records say what it was."""

import json

import pytest

pytest.importorskip("gguf")

from benchsuite.corpora.file_digests import FileDigests
from benchsuite.study import study
from tests.models.gguf import files

N_CELLS = len(list(study("calibration_selection").cells()))
SMALL = [
    "--device=cpu",
    "--set=calibration_selection.seq_len=64",
    "--set=calibration_selection.evaluation_tokens=512",
    "--set=calibration_selection.evaluation_corpus='embedded_text'",
    "-k",
    "llama2_7b and fp16 and seed42",
]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return files.write(tmp_path_factory.mktemp("gguf") / "llama.gguf", files.model("llama"), "Q8_0")


def measured(calibration, pytester, monkeypatch, option):
    monkeypatch.setenv("XDG_CACHE_HOME", str(pytester.path / "user"))
    result = calibration(*SMALL, option)
    result.assert_outcomes(passed=1, deselected=N_CELLS - 1)
    (record,) = (pytester.path / "reports").rglob("*__fp16__seed42*.json")
    return json.loads(record.read_text())


@pytest.mark.stress
def test_as_a_model_it_is_dequantized_and_no_original(path, calibration, pytester, monkeypatch):
    record = measured(calibration, pytester, monkeypatch, f"--local=llama2_7b={path}")
    assert record["weights"] == "dequantized"
    assert record["gguf_types"] == {"Q8_0": 16, "F32": 5}
    assert f"gguf:{FileDigests().sha256(path)}:" in record["weights_digest"]
    assert "dequantized from a GGUF" in record["stand_in"]
    again = calibration(*SMALL, f"--local=llama2_7b={path}")
    again.stdout.fnmatch_lines(["*1 cached*"])


def test_as_a_checkpoint_it_is_evaluated_as_it_is(path, calibration, pytester, monkeypatch):
    record = measured(calibration, pytester, monkeypatch, f"--checkpoint=llama2_7b={path}")
    assert record["weights"] == "checkpoint"
    assert record["weights_digest"].startswith(f"gguf:{FileDigests().sha256(path)}:")
    assert record["perplexity"] > 1
