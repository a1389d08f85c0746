"""``--until-decided`` adds seeds to open comparisons alone, look by look, within its budget."""

import json

import pytest

from tests.conftest import read_flat
from tests.harness.toys import toys

CONFTEST = toys("toy")
CONFTEST += """
claims = (lower("perplexity", "clear", than="worse"), lower("perplexity", "close", than="worse"))
axes = {"model": ("toy",), "method": ("clear", "close", "worse", "aside")}
register_study(Study("claimed", "?", axes, (1, 2, 3), reads={"model": ""}, claims=claims))
"""

BODY = """
import random
import pytest

MEANS = {"clear": 1.0, "close": CLOSE, "worse": 6.0, "aside": 5.0}

@pytest.mark.study("claimed")
def test_claimed(cell, record):
    draw = random.Random(f"{cell.method}{cell.seed}")
    record.update(perplexity=MEANS[cell.method] + draw.gauss(0, 0.1))
"""


@pytest.fixture
def run(pytester):
    """Run the study in a process of its own."""

    def run(*args, close=5.85):
        pytester.makeconftest(CONFTEST)
        pytester.makepyfile(test_claimed=BODY.replace("CLOSE", str(close)))
        return pytester.runpytest_subprocess("test_claimed.py", *args)

    return run


def seeds(pytester):
    found = {}
    for path in (pytester.path / "reports/store/records").glob("*.json"):
        record = read_flat(path)
        found.setdefault(record["method"], set()).add(record["seed"])
    return found


@pytest.mark.stress
def test_open_comparisons_get_seeds_until_they_are_decided(run, pytester):
    result = run("--until-decided=12", "-n", "2")

    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["claimed: look 2 of 4, at 6 seeds, for 2 arms*", "claimed: 0 comparisons still open*"]
    )
    ran = seeds(pytester)
    assert ran["clear"] == ran["aside"] == {1, 2, 3}
    assert {1, 2, 3, 4, 5, 6} <= ran["close"] == ran["worse"]
    assert max(ran["close"]) < 12
    summary = json.loads((pytester.path / "reports/claimed/summary_stats.json").read_text())
    decided = summary["toy"]["ttest_close_vs_worse"]
    assert decided["outcome"] == "held"
    assert summary["_benchsuite"]["missing"] == []

    before = sorted((pytester.path / "reports/store/records").iterdir())
    again = run("--until-decided=12")
    assert sorted((pytester.path / "reports/store/records").iterdir()) == before
    again.stdout.fnmatch_lines(["*12 cached*", "claimed: 0 comparisons still open*"])


@pytest.mark.stress
def test_the_budget_ends_it(run, pytester):
    result = run("--until-decided=5", close=6.0)

    assert result.ret == 0
    result.stdout.fnmatch_lines(["claimed: 1 comparison still open after the last look"])
    assert seeds(pytester)["close"] == {1, 2, 3, 4, 5}


def test_a_budget_below_the_first_look_adds_nothing_and_the_session_ends_as_ever(run, pytester):
    """Once it ended in a traceback after the last cell, and without a report."""
    result = run("--until-decided=2")

    assert result.ret == 0
    result.stdout.fnmatch_lines(["claimed: --until-decided 2 adds none to its 3 seeds"])
    assert seeds(pytester)["close"] == {1, 2, 3}
    assert list(pytester.path.glob("**/index.html"))
