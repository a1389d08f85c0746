"""A cell whose model is larger than the device: the same numbers, and the record says so."""

import json

import pytest

from benchsuite.models import pool
from benchsuite.models.pool import ModelPool
from tests.models import tiny

SMALL = {"n_calibration_samples": 4, "seq_len": 64, "evaluation_tokens": 4096}


@pytest.mark.stress
def test_a_cell_streams_a_model_that_does_not_fit_and_finds_the_same(calibration, pytester):
    pytester.makepyfile(no_room="from benchsuite.models import pool\n\npool.WHOLE_SHARE = 0\n")
    sizes = [f"--set=calibration_selection.{name}={value}" for name, value in SMALL.items()]
    cells = ("-k", "tiny_llama_1m and (gptq_default or rtn)", "--seeds=42", *sizes)
    folder, found = pytester.path / "reports/calibration_selection/raw_runs", []
    for more in ((), ("-p", "no_room", "--rerun")):
        calibration(*cells, *more).assert_outcomes(passed=2)
        runs = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
        found.append([(run.get("streamed"), run["results_sha256"]) for run in runs])
    whole, streamed = found
    assert [told for told, _ in whole] == [None, None]
    assert [told for told, _ in streamed] == [True, True]
    assert [bits for _, bits in streamed] == [bits for _, bits in whole]


def test_only_who_may_stream_gets_a_streamed_model(tmp_path, monkeypatch):
    tiny.checkpoint(tmp_path)
    monkeypatch.setattr(pool, "WHOLE_SHARE", 0)
    models, entry, where = ModelPool(), tiny.entry(), tiny.at(tmp_path)
    with models.lease(entry, where) as whole, models.lease(entry, where, may_stream=True) as lease:
        assert (whole.streamed, lease.streamed) == (False, True)
        assert lease.digest == whole.digest
        assert {p.device.type for p in lease.model.model.layers.parameters()} == {"meta"}
        assert 0 < lease.n_bytes < whole.n_bytes
    assert models.used_bytes == lease.n_bytes + whole.n_bytes
