"""The determinism study's files, from records of chosen completions."""

import json
from dataclasses import replace

from benchsuite.studies.determinism.report import write_files
from benchsuite.study import study
from tests.reporting.factory import record


def completed(cell, log_probs, **changes):
    stats = {"tokens_identical": True, "logprobs_exact": True, "l2_mean": 0.0, "repetitions": 3}
    baseline = {"stats": stats, "tokens": [[1, 2]], "logprobs": [log_probs]}
    found = record(cell, success=True, engine="torch", baseline=baseline)
    return replace(found, cell=replace(found.cell, **changes))


def test_variants_are_compared_within_one_setting_and_seed(tmp_path):
    """The records of another dtype once took the place of a variant's own, without a word."""
    one, two = [c for c in study("determinism").cells() if c.model == "tiny_llama_1m"][:2]
    records = [
        completed(one, [-1.0, -1.0]),
        completed(two, [-1.0, -1.5]),
        completed(one, [-9.0, -1.0], changed={"dtype": "float16"}),
    ]

    write_files(records, tmp_path, lambda record: {})

    found = json.loads((tmp_path / "cross_variant.json").read_text())
    assert list(found) == ["tiny_llama_1m", "tiny_llama_1m (dtype float16)"]
    (pair,) = found["tiny_llama_1m"]
    assert {pair["one"], pair["other"]} == {one.method, two.method}
    assert pair["l2"] == 0.5
    assert found["tiny_llama_1m (dtype float16)"] == []
    assert "## tiny_llama_1m (dtype float16)\n" in (tmp_path / "variants.md").read_text()

    again = completed(one, [-3.0, -1.0], axes={**one.axes, "seed": 43})
    write_files([records[0], again], tmp_path, lambda record: {})
    assert list(json.loads((tmp_path / "cross_variant.json").read_text())) == [
        "tiny_llama_1m (seed 42)",
        "tiny_llama_1m (seed 43)",
    ]


def test_units_and_repetitions_stand_beside_the_numbers_and_a_stand_in_says_so(tmp_path):
    one = next(c for c in study("determinism").cells() if c.model == "tiny_llama_1m")
    found = completed(one, [-1.0, -1.0])
    write_files([found], tmp_path, lambda record: {})
    text = (tmp_path / "variants.md").read_text()
    assert "| L2 mean, nats |" in text
    assert "Run to run: 3 repetitions." in text
    other = replace(found, source=replace(found.source, weights="local", stand_in="owner/other"))
    write_files([other], tmp_path, lambda record: {})
    assert "## tiny_llama_1m (stand-in)\n" in (tmp_path / "variants.md").read_text()
