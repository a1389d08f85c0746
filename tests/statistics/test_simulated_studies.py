"""The judge keeps its level over studies of known truth; the table itself is a script's."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[2] / "benchmarks/speed"


def script_of(name):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def test_false_claims_stay_below_alpha_and_true_ones_are_found():
    script, studies = script_of("studies_simulated"), 600

    seen = script.simulate(5, studies, np.random.default_rng(1))

    error = np.sqrt(0.05 * 0.95 / studies)
    assert max(seen["null"], seen["real"]) < 0.05 + 3 * error
    for kind in script.KINDS:
        assert abs(seen[kind] - 0.8) < 4 * np.sqrt(0.16 / (studies / 4)), kind


@pytest.mark.stress
def test_skewed_seeds_against_a_constant_are_never_judged_in_silence():
    script, rng = script_of("skewed_seeds_simulated"), np.random.default_rng(3)

    few = script.shape(script.SHAPES["lognormal, sigma 1"], 5, 800, rng)
    many = script.shape(script.SHAPES["lognormal, sigma 1"], 20, 800, rng)
    normal = script.shape(script.SHAPES["normal"], 20, 800, rng)

    assert few["false"] > 0.1  # no rule keeps five seeds from that
    assert many["false"] < 0.11 < many["by_t"]
    assert normal["false"] < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 800)
    assert few["said"] == many["said"] == normal["said"] == 1
    assert script.found_of_normal(20, 800, rng) > 0.75
