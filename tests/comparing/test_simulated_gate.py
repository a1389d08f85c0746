"""The gate keeps its promise over candidates of known loss; the table itself is a script's."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks/speed/gate_simulated.py"
ROUNDS = 300


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("gate_simulated", SCRIPT)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.mark.parametrize("early", [False, True], ids=["once", "early ends"])
def test_false_verdicts_are_rare_and_power_is_as_asked(script, early):
    seen = script.simulate(np.random.default_rng(1), 200, 0.1, ROUNDS, early=early)

    bar = script.ALPHA + 3 * script.error(ROUNDS)
    low = script.POWER - 3 * script.error(ROUNDS, script.POWER)
    assert max(seen["none:worse"], seen["edge:worse"], seen["edge:not_worse"]) <= bar
    assert min(seen["confirmed:not_worse"], seen["found:worse"]) >= low
    # Point estimates fail one in seven that lose nothing.
    assert seen["none:flaky"] == pytest.approx(0.155, abs=3 * script.error(ROUNDS, 0.155))
    # Clear cases end early; those at the margin do not.
    assert (seen["confirmed:items"] < 0.9) == early
    assert seen["edge:items"] > 0.95


def test_a_family_of_metrics_is_paid_for(script):
    seen = script.families(np.random.default_rng(2), 200, 100, early=True)

    assert max(seen.values()) <= script.ALPHA + 3 * script.error(100)
