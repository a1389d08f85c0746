"""A frozen plan: what it runs, what it refuses, and what departs from it."""

import json
import sys

import pytest

from tests.harness.toys import toys

CONFTEST = toys("one", "two", "far")
CONFTEST += """
claims = (lower("perplexity", "clear", than="worse"), lower("perplexity", "close", than="worse"))
axes = {"model": ("one", "two", "far"), "method": METHODS}
parameters = {"n_samples": 8}
register_study(Study("claimed", "?", axes, (1, 2, 3), parameters, reads={"model": ""},
                     claims=claims))
register_study(Study("aside", "?", {"model": ("one",), "method": ("it",)}, (1, 2),
                     reads={"model": ""}))
"""
METHODS = '("clear", "close", "worse", "idle")'

BODY = """
import random
import pytest

MEANS = {"clear": 1.0, "close": 5.95, "worse": 6.0, "idle": 5.0, "it": 1.0}

def measure(cell, record):
    draw = random.Random(f"{cell.model}{cell.method}{cell.seed}")
    record.update(perplexity=MEANS[cell.method] + draw.gauss(0, 0.1))

@pytest.mark.study("claimed")
def test_claimed(cell, record):
    measure(cell, record)

@pytest.mark.study("aside")
def test_aside(cell, record):
    measure(cell, record)

def test_that_is_no_cell():
    pass
"""


@pytest.fixture
def project(pytester):
    """A study over three models, beside another and an ordinary test."""
    pytester.makeconftest(CONFTEST.replace("METHODS", METHODS))
    pytester.makepyfile(test_claimed=BODY)
    return pytester


@pytest.fixture
def run(project):
    """Run pytest on the study: ``run("-n", "2")``."""
    return lambda *args: project.runpytest_subprocess("test_claimed.py", *args)


@pytest.fixture
def command(project):
    """Run a command on the study: ``command("plan", "--out", "plan.json")``."""

    def run(name, *args):
        return project.run(sys.executable, "-m", "benchsuite", name, "test_claimed.py", *args)

    return run


@pytest.fixture
def frozen(command):
    """Freeze a plan of models one and two, without the idle method: eighteen cells."""

    def freeze(*args):
        result = command("plan", "--out", "plan.json", *(args or CHOSEN))
        assert result.ret == 0, result.stderr.str()
        return result

    return freeze


CHOSEN = ("-k", "not aside and (one or two) and not idle")


def summary(project):
    found = json.loads((project.path / "reports/claimed/summary_stats.json").read_text())
    return found["_benchsuite"]


def families(project):
    judged = summary(project)["judgements"]
    return {j["evidence"]["family_size"] for j in judged if "family_size" in j["evidence"]}


def refused(result):
    """Return the paragraph that a session was refused with, before it began."""
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    return " ".join((result.stdout.str() + result.stderr.str()).split())


def test_a_plan_runs_with_the_tuple_that_it_was_frozen_with(frozen, run, project):
    """JSON has it as a list."""
    sizes = '{"n_samples": 8, "sizes": (1, 2)}'
    project.makeconftest(CONFTEST.replace("METHODS", METHODS).replace('{"n_samples": 8}', sizes))
    frozen("-k", "claimed and one and (clear or worse)", "--set", "claimed.sizes=(3,4)")

    result = run("--plan=plan.json", "--set", "claimed.sizes=(3,4)")

    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(["  as planned (plan.json, *"])
    assert "sizes=(3, 5) is not in the plan" in refused(
        run("--plan=plan.json", "--set", "claimed.sizes=(3,5)")
    )


def test_the_file_can_be_read_and_has_exactly_the_chosen_cells(frozen, command, project):
    frozen()

    plan = json.loads((project.path / "plan.json").read_text())
    study = plan["studies"]["claimed"]
    assert study["cells"] == [
        {
            "axes": {"model": ["one", "two"], "method": ["clear", "close", "worse"]}
            | {"seed": [1, 2, 3]},
            "parameters": {},
        }
    ]
    assert study["parameters"] == {"n_samples": 8}
    assert (study["seeds"], study["looks"], study["family"]) == ([1, 2, 3], [3], 4)
    assert (plan["alpha"], list(plan["studies"])) == (0.05, ["claimed"])
    assert len((project.path / "plan.json").read_text().splitlines()) < 100

    again = command("plan", "--out", "plan.json", *CHOSEN)
    assert again.ret == pytest.ExitCode.USAGE_ERROR
    again.stderr.fnmatch_lines(["*plan.json is there, and a frozen plan stays*"])


def test_other_seeds_than_the_looks_are_not_passed_over(command, project):
    """The looks are at the study's own seeds: others were left out of the plan without a word."""
    words = ("--until-decided=9", "--out", "plan.json", *CHOSEN)

    result = command("plan", "--seeds=1,2", *words)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--seeds 1,2 does not go with --until-decided*3, 6, 9*"])
    assert not (project.path / "plan.json").exists()
    assert command("plan", "--seeds=1,2,3", *words).ret == 0


@pytest.mark.parametrize("workers", [pytest.param("0", marks=pytest.mark.stress), "2"])
def test_a_session_runs_the_plan_alone_and_says_so_everywhere(frozen, run, project, workers):
    frozen()

    result = run("--plan=plan.json", "-n", workers)

    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["claimed: 18 of 18 cells*", "  as planned (plan.json, sha256 *, frozen *)"]
    )
    result.stdout.fnmatch_lines(["*= 18 passed*"])
    told = summary(project)["plan"]
    assert told["as_planned"]
    assert told["sha256"] == json.loads((project.path / "plan.json").read_text())["sha256"]
    page = (project.path / "reports/index.html").read_text()
    assert "As planned (plan.json, sha256" in page
    assert "The family has 4 tests, alpha is 0.05." in page


def test_claims_of_the_plan_that_have_not_run_count_in_its_family(frozen, run, command, project):
    frozen()

    result = run("--plan=plan.json", "-k", "one and not close")

    result.stdout.fnmatch_lines(["  as planned so far (plan.json*, 6 of 18 cells"])
    assert families(project) == {4}
    judged = command("claims", "--plan", "plan.json")
    judged.stdout.fnmatch_lines(["  as planned so far (plan.json*", "*pytest *--plan plan.json*"])
    assert "Holm p" in judged.stdout.str()
    assert " of 4" in judged.stdout.str()


@pytest.mark.stress
def test_halves_that_two_machines_ran_are_judged_under_their_plan(frozen, run, project):
    """Where the machines differ no store can hold both halves; a report over both folders can."""
    frozen()
    run("--plan=plan.json", "-k", "one", "--reports-dir=first")
    run("--plan=plan.json", "-k", "two", "--reports-dir=second")
    run("-k", "far and 1", "--reports-dir=second")
    words = ("first", "second", "--plan", "plan.json")

    told = project.run(
        sys.executable, "-m", "benchsuite", "report", *words, "--reports-dir", "reports"
    )

    assert told.ret == 0, told.stderr.str()
    told.stdout.fnmatch_lines(["left out 4 records: no cells of plan.json"])
    assert summary(project)["plan"]["as_planned"]
    assert summary(project)["plan"]["n_done"] == 18
    assert families(project) == {4}

    exported = project.run(sys.executable, "-m", "benchsuite", "export", *words, "--to", "paper")
    assert exported.ret == 0, exported.stderr.str()
    assert "as planned (plan.json" in (project.path / "paper/README.md").read_text()
    claims = [path.read_text() for path in (project.path / "paper").rglob("*__claims.csv")]
    assert len(claims) == 2
    assert all("of 4" in text for text in claims)


def test_the_last_failed_of_a_plan_run_again(frozen, run, project):
    frozen()
    body = (project.path / "test_claimed.py").read_text()
    fault = "    assert (cell.model, cell.seed) != ('two', 3)\n"
    broken = body.replace("    draw =", f"{fault}    draw =")
    project.makepyfile(test_claimed=broken)
    run("--plan=plan.json").assert_outcomes(passed=15, failed=3, deselected=2)
    project.makepyfile(test_claimed=body)

    result = run("--plan=plan.json", "--lf")

    result.assert_outcomes(passed=3, deselected=17)


def test_an_edited_plan_is_refused_with_what_to_do(frozen, run, project):
    frozen()
    path = project.path / "plan.json"
    path.write_text(path.read_text().replace('"alpha": 0.05', '"alpha": 0.1'))

    said = refused(run("--plan=plan.json", "-n", "2"))

    assert "the plan was changed after it was frozen" in said
    assert "Take the frozen file back" in said
    assert not (project.path / "reports").exists()


def test_other_spacing_is_no_other_plan(frozen, run, project):
    frozen()
    path = project.path / "plan.json"
    path.write_text(json.dumps(json.loads(path.read_text())))
    assert run("--plan=plan.json", "-k", "clear and one").ret == 0


def test_a_study_that_has_changed_is_refused_before_anything_runs(frozen, run, project):
    frozen()

    project.makeconftest(CONFTEST.replace("METHODS", METHODS).replace("close", "closer"))
    assert (
        "the plan has cells that study 'claimed' does not: one-close-seed1, one-close-seed2, "
        "one-close-seed3 and 3 more" in refused(run("--plan=plan.json"))
    )
    changed = CONFTEST.replace("METHODS", METHODS).replace('"n_samples": 8', '"n_samples": 16')
    project.makeconftest(changed)
    assert "the plan has n_samples=8 for claimed/one-clear-seed1, the study has 16" in refused(
        run("--plan=plan.json")
    )
    assert not (project.path / "reports").exists()


def test_what_the_plan_fixes_cannot_be_set_beside_it(frozen, run):
    frozen()
    words = ("--set=claimed.n_samples=4", "--seeds=7", "--until-decided=9", "--downstream=first")
    for word in (*words, "--tour"):
        assert " is not in the plan (" in refused(run("--plan=plan.json", word)), word


def test_the_parameters_of_a_plan_hold_without_a_word(frozen, run, project):
    frozen("-k", "not aside and one and clear", "--set", "claimed.n_samples=4", "--alpha=0.01")

    run("--plan=plan.json").assert_outcomes(passed=3, deselected=2)

    assert len(list((project.path / "reports/claimed/raw_runs").glob("*n_samples-4.json"))) == 3
    assert summary(project)["plan"]["alpha"] == 0.01


@pytest.mark.stress
def test_seeds_looked_at_one_after_another_are_named(frozen, run, project):
    """Peeking with --seeds 2, 3, ... finds more than alpha allows: each look is told."""
    frozen("-k", "not aside and one and not idle", "--seeds=1,2,3,4")

    run("-k", "not aside and one and not idle", "--seeds=1,2")
    run("-k", "not aside and one and not idle", "--seeds=1,2,3")
    result = run("--plan=plan.json")

    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "  departs from its plan (plan.json*): 2 comparisons looked at on * at 2 of 4 seeds, "
            "no planned look; 2 comparisons looked at on * at 3 of 4 seeds, no planned look"
        ]
    )
    assert len(summary(project)["plan"]["departures"]) == 2
    assert "Departs from its plan" in (project.path / "reports/index.html").read_text()


@pytest.mark.stress
def test_what_was_measured_before_or_beside_the_plan_is_named(frozen, run, project):
    run("-k", "not aside and one and (clear or worse)", "--seeds=1,2,3,8")
    # A clock of whole seconds: the plan is to be later than the records.
    path = project.path / "plan.json"
    frozen("-k", "not aside and one and (clear or worse)")
    plan = json.loads(path.read_text())
    assert plan["studies"]["claimed"]["seen"] == [1, 2, 3, 8]

    run("-k", "not aside and one and clear", "--seeds=9")
    departures = " / ".join(told_by(run("--plan=plan.json"), project))

    assert "other seeds were measured too: 9 (of 1 arm)" in departures
    assert "6 cells of 6 had been measured when it was frozen" in departures
    assert "1 comparison looked at on" in departures


def told_by(result, project):
    assert result.ret == 0
    return summary(project)["plan"]["departures"]


def test_the_margins_of_a_plan_hold_and_others_are_told(frozen, run, project):
    frozen("-k", "not aside and one and not idle", "--margin=perplexity=1%")

    assert told_by(run("--plan=plan.json"), project) == []
    assert told_by(run("--plan=plan.json", "--margin=perplexity=2%"), project) == [
        "the margin of perplexity is 2%, planned was 1%"
    ]


def test_another_claim_is_told(frozen, run, project):
    frozen("-k", "not aside and one and not idle")
    claims = 'claims = (lower("perplexity", "clear", than="worse", by_seed=True), '
    claims += 'lower("perplexity", "clear", than="close"))\n'
    changed = CONFTEST.replace("METHODS", METHODS).replace("axes =", f"{claims}axes =", 1)
    project.makeconftest(changed)

    departures = told_by(run("--plan=plan.json"), project)

    assert departures == [
        "the claim 'clear has lower perplexity than worse' has another by_seed than planned",
        "the claim 'clear has lower perplexity than close' was not planned",
        "the planned claim 'close has lower perplexity than worse' is not declared any more",
    ]
    assert families(project) == {2}


@pytest.mark.stress
def test_the_looks_of_a_plan_are_its_own(frozen, run, command, project):
    frozen("-k", "not aside and one and not idle", "--until-decided=5")
    study = json.loads((project.path / "plan.json").read_text())["studies"]["claimed"]
    assert (study["seeds"], study["looks"]) == ([1, 2, 3, 4, 5], [3, 5])
    assert study["n_cells"] == 15

    result = run("--plan=plan.json", "-n", "2")

    assert result.ret == 0
    result.stdout.fnmatch_lines(["claimed: look 2 of 2, at 5 seeds, for 2 arms*"])
    told = summary(project)
    assert told["plan"]["as_planned"], told["plan"]["sentence"]
    close = next(j for j in told["judgements"] if j["method"] == "close")
    assert close["evidence"]["looks_planned"] == [3, 5]
    assert close["evidence"]["family_size"] == 2
    assert "as planned" in command("claims", "--plan=plan.json").stdout.str()
