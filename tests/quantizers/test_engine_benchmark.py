"""The engine's benchmark runs: what it prints on a GPU is measured by the code tried here."""

import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks/speed/engine_cuda.py"


@pytest.fixture(scope="module")
def engine():
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def cases(engine):
    return {case.method: engine["small"](case) for case in engine["CASES"]}


def test_a_whole_model_is_its_first_layer_and_the_further_ones(engine, cases):
    timing = engine["measure"](cases["gptq_w4"], 1, "cpu", cases["gptq_w4"].quantize)
    assert set(engine["STAGES"]) <= set(timing.stages)
    assert timing.whole(cases["gptq_w4"]) == pytest.approx(timing.first + 3 * timing.inner)


def test_every_stage_has_bare_work_beside_it(engine, cases):
    pieces = engine["pieces"](cases["gptq_w4"], "cpu")
    assert set(pieces) == set(engine["STAGES"])
    assert all(seconds > 0 for seconds in pieces.values())


@pytest.mark.parametrize("method", ["gptq_w4", "quarot_w4a4kv4", "adaround_w4"])
def test_the_twin_computes_the_same_in_float32(engine, cases, method):
    # So few weights in bfloat16 differ more than the bar that holds at true shapes.
    ours, plain = engine["output_errors"](cases[method], "cpu")
    assert 0 < plain < 1
    assert ours == pytest.approx(plain, rel=0.1)
