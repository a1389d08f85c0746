"""The family of a session without a plan: what was asked for counts, run or not."""

import json

import pytest

from tests.harness.toys import toys

CONFTEST = toys("one", "two", "three")
CONFTEST += """
claims = (lower("perplexity", "aa", than="bb"), lower("perplexity", "cc", than="bb"))
axes = {"model": ("one", "two", "three"), "method": ("aa", "bb", "cc")}
register_study(Study("claimed", "?", axes, (1, 2, 3), reads={"model": ""}, claims=claims))
"""

BODY = """
import random
import pytest
from benchsuite.errors import CellCannotRun

@pytest.mark.study("claimed")
def test_claimed(cell, record):
    if cell.model == "three":
        raise CellCannotRun("this machine is too small")
    if cell.model == "two" and cell.method == "cc":
        raise RuntimeError("broken")
    draw = random.Random(f"{cell.model}{cell.method}{cell.seed}")
    record.update(perplexity={"aa": 1.0, "bb": 6.0, "cc": 6.0}[cell.method] + draw.gauss(0, 0.1))
"""


@pytest.fixture
def run(pytester):
    """Run the study in a process of its own."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_claimed=BODY)
    return lambda *args: pytester.runpytest_subprocess("test_claimed.py", *args)


def comparisons(pytester):
    """Return (claim, model) -> the family that it was corrected for, of those judged."""
    summary = json.loads((pytester.path / "reports/claimed/summary_stats.json").read_text())
    judged = summary["_benchsuite"]["judgements"]
    return {(j["method"], j["model"]): j["evidence"].get("family_size") for j in judged}


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_comparison_that_was_asked_for_counts_before_it_has_run(run, pytester, workers):
    run("-n", workers, "-k", "not (one and cc)")

    sizes = comparisons(pytester)
    # Two claims each on one and two: cc is left out on one, fails on two; three cannot run here.
    assert sizes["aa", "one"] == sizes["aa", "two"] == 4
    assert sizes["cc", "one"] is sizes["cc", "two"] is sizes["aa", "three"] is None


def test_a_model_that_k_leaves_out_does_not_count_until_it_is_asked_for(run, pytester):
    run("-k", "one")
    assert comparisons(pytester)["aa", "one"] == 2

    run("-k", "two and aa")
    assert comparisons(pytester)["aa", "one"] == 4


def test_a_cell_that_skips_once_it_has_begun_was_asked_for(run, pytester):
    """It may have looked at its result: what is left out by that makes no family smaller."""
    skips = BODY.replace('raise RuntimeError("broken")', 'pytest.skip("diverged")')
    pytester.makepyfile(test_claimed=skips.replace(' and cell.method == "cc"', ""))
    run("-k", "one or two")
    assert comparisons(pytester)["aa", "one"] == 4


def test_what_an_interrupted_session_asked_for_stays_in_the_family(run, pytester):
    stopped = run("-k", "one or two", "-x")
    assert stopped.ret == pytest.ExitCode.TESTS_FAILED
    log = pytester.path / "reports/store/judged.jsonl"
    asked = [json.loads(line).get("asked") for line in log.read_text().splitlines()]
    assert ["one", "two"] in asked

    for path in (pytester.path / "reports/store/records").glob("*.json"):
        if '"model":"two"' in path.read_text().replace(" ", ""):
            path.unlink()
    run("-k", "one")
    assert comparisons(pytester)["aa", "one"] == 4


def test_seeds_added_after_a_look_are_told_without_a_plan(run):
    words = ("-k", "one")
    once = run(*words)
    once.stdout.no_fnmatch_line("*looked at before*")
    more = run(*words, "--seeds=1,2,3,4")
    more.stdout.fnmatch_lines(["  2 comparisons looked at before with fewer*seeds (3)*"])
