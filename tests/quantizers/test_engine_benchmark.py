"""The engine's benchmark runs: what it prints on a GPU is measured by the code tried here."""

import runpy
from pathlib import Path

import pytest

from benchsuite.quantizers import QUANTIZERS

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


@pytest.fixture
def bare(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    return runpy.run_path(str(SCRIPT.with_name("bare_work.py")))


def test_bare_work_is_of_known_methods_and_every_piece_is_explained(bare):
    assert set(bare["WORK"]) <= set(QUANTIZERS)
    pieces = {piece for work in bare["WORK"].values() for piece in work}
    explained = {line.split()[0] for line in bare["__doc__"].splitlines() if "  " in line.strip()}
    assert pieces <= explained


def test_every_piece_of_bare_work_is_timed(engine, bare):
    case = engine["small"](engine["Case"]("signround_w4", 0))
    found = bare["pieces"](case, "cpu")
    assert set(found) == {piece for work in bare["WORK"].values() for piece in work}
    assert all(seconds > 0 for seconds in found.values())
