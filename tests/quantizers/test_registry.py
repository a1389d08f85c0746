"""One method is one file: what a cell's numbers hang on, derived from the imports themselves."""

import re
import sys
import types
from pathlib import Path

import pytest

from benchsuite.calibration.registry import SAMPLERS
from benchsuite.errors import BenchsuiteError
from benchsuite.quantizers.registry import QUANTIZERS, Quantizer, apply
from benchsuite.records.code import Place, code_of

ROOT = Path(__file__).parents[2]
METHODS = {entry.module for entry in QUANTIZERS.values()}
CHOOSERS = {target.partition(":")[0] for target in SAMPLERS.values()}

BUILDS_ON = {
    f"benchsuite.quantizers.{name}": {"benchsuite.quantizers.gptq"}
    for name in ("fp4_gptq", "gptaq", "mixed", "qronos", "quarot")
}
BUILDS_ON["benchsuite.quantizers.rotated"] = {
    f"benchsuite.quantizers.{name}" for name in ("gptq", "rtn")
}
"""They round by GPTQ what they changed before, or on another grid; no other is made of another."""


def reached(study: str, module: str) -> set[str]:
    """The modules that a cell's code digest covers, for a method in ``module``."""
    benchmark = ROOT / "benchmarks" / f"test_{study}.py"
    return set(code_of(Place(benchmark, ROOT), study, [module]))


@pytest.mark.parametrize("module", sorted(METHODS))
def test_no_quantizer_s_cells_hang_on_another_s_file(module):
    found = reached("quantizers", module)
    assert found & METHODS == {module} | BUILDS_ON.get(module, set())
    assert {"benchsuite.quantizers.linear", "benchsuite.evaluation.perplexity"} < found


@pytest.mark.parametrize("made", [None, {"weights_sha256": "x"}, (1, 2)])
def test_a_method_that_returns_no_account_of_what_it_made_fails_by_name(made, monkeypatch):
    own = types.ModuleType("own_rounding")
    own.quantize = lambda model, *, progress=None: made
    monkeypatch.setitem(sys.modules, "own_rounding", own)
    monkeypatch.setitem(QUANTIZERS, "own", Quantizer("own_rounding", calibrated=False))
    told = f"'own' returned {type(made).__name__}, not a QuantizationResult (own_rounding)"
    with pytest.raises(BenchsuiteError, match=re.escape(told)):
        apply("own", None, None, seed=1, progress=None)


@pytest.mark.parametrize("module", sorted(CHOOSERS))
def test_no_sampler_s_cells_hang_on_another_s_file(module):
    assert reached("calibration_selection", module) & CHOOSERS == {module}


def test_data_free_methods_do_not_hang_on_the_walk():
    walk = {"benchsuite.quantizers.walking.walk", "benchsuite.quantizers.walking.visit"}
    for name in ("rtn_w4", "hqq_w4"):
        assert not reached("quantizers", QUANTIZERS[name].module) & walk
    for name in ("gptq_w4", "awq_w4", "adaround_w4", "smoothquant_w8a8", "qronos_w4"):
        assert walk < reached("quantizers", QUANTIZERS[name].module)
