"""The judge keeps its level over studies of known truth; the table itself is a script's."""

import importlib.util
from pathlib import Path

import numpy as np

SCRIPT = Path(__file__).parents[2] / "benchmarks/speed/studies_simulated.py"


def test_false_claims_stay_below_alpha_and_true_ones_are_found():
    spec = importlib.util.spec_from_file_location("studies_simulated", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    studies = 600

    seen = script.simulate(5, studies, np.random.default_rng(1))

    error = np.sqrt(0.05 * 0.95 / studies)
    assert max(seen["null"], seen["real"]) < 0.05 + 3 * error
    for kind in script.KINDS:
        assert abs(seen[kind] - 0.8) < 4 * np.sqrt(0.16 / (studies / 4)), kind
