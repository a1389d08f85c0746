"""One cell, one test, one record: what would make more of one is refused or kept together."""

import pytest

from tests.harness.shaky import CONFTEST, stored

CELL = '@pytest.mark.study("shaky")\ndef test_shaky(cell, record'
REFUSED = {
    "two tests measure study shaky: *test_it.py::test_shaky and *test_it.py::test_again. Name *": (
        CELL + "): pass\n" + CELL.replace("test_shaky", "test_again") + "): pass"
    ),
    "the test of study shaky is parametrized by x too, which no cell knows *": (
        '@pytest.mark.parametrize("x", [1, 2])\n' + CELL + ", x): pass"
    ),
    "the test of study shaky is parametrized by bits too, which no cell knows *": (
        "@pytest.fixture(params=[3, 4])\ndef bits(request): return request.param\n"
        + CELL
        + ", bits): pass"
    ),
    "the mark study names no study (*test_it.py::test_shaky). Write *": (
        CELL.replace('"shaky"', "") + "): pass"
    ),
}
REFUSED |= {
    "the test of study shaky takes no fixture 'cell', and would measure none (*::test_a). *": (
        CELL.replace("test_shaky(cell, record", "test_a(request") + "): pass"
    ),
    "one test is marked with several studies: shaky, other (*::test_shaky). *": (
        CELL.replace('"shaky"', '"shaky", "other"') + "): pass"
    ),
    "one test is marked with several studies: shaky, nearer (*::test_shaky). *": (
        '@pytest.mark.study("nearer")\n' + CELL + "): pass"
    ),
}
REFUSED |= {
    "one test is marked with several studies: shaky, beside (*::test_shaky). *": (
        'pytestmark = [pytest.mark.study("shaky"), pytest.mark.study("beside")]\n'
        + CELL.partition("\n")[2]
        + "): pass"
    ),
}
HELPED = """
pytestmark = pytest.mark.study("shaky")
def test_helper(): pass
def test_shaky(cell, record): pass
"""
SUBTESTS = """, subtests):
    for part in (1, 2):
        with subtests.test(part=part):
            record.update(**{f"loss_{part}": 1.0})
            assert cell.seed < part
"""


@pytest.fixture
def session(pytester):
    """Run a test file of the study with eight cells."""

    def run(body, *words):
        pytester.makeconftest(CONFTEST)
        pytester.makepyfile(test_it=f"import pytest\n{body}")
        return pytester.runpytest_subprocess("test_it.py", *words)

    run.pytester = pytester
    return run


@pytest.mark.parametrize("told", REFUSED)
def test_a_cell_that_several_items_would_measure_is_refused(session, told):
    result = session(REFUSED[told])
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines([told])
    result.stdout.no_fnmatch_line("*Error*")
    assert not (session.pytester.path / "reports").exists()


def test_a_module_s_mark_leaves_tests_without_a_cell_alone(session):
    session(HELPED, "-k", "helper or toy_a-plain-seed1").assert_outcomes(passed=2)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_cell_fails_with_its_subtests_and_leaves_one_record(session, workers):
    words = ("-n", workers, "-k", "toy_a and plain")
    result = session(CELL + SUBTESTS, *words)
    result.stdout.fnmatch_lines(["shaky: 0 of 4 cells*", "  2 failed: *", "  2 missing: *"])
    records = stored(session.pytester, "*.json")
    assert {record["outcome"] for record in records} == {"failed"}
    assert {record["error"]["message"] for record in records} == {
        "contains 1 failed subtest",
        "contains 2 failed subtests",
    }
    assert all({"loss_1", "loss_2"} <= set(record) for record in records)
    session(CELL + SUBTESTS.replace("<", "!=").replace("(1, 2)", "(3, 4)"), *words)
    good = [r for r in stored(session.pytester, "*.json") if r["outcome"] == "passed"]
    assert [set(r) & {"loss_3", "loss_4"} for r in good] == [{"loss_3", "loss_4"}] * 2


def test_a_study_that_only_workers_know_is_named_and_the_others_are_judged(session):
    own = CONFTEST[CONFTEST.index("SHAPE") : CONFTEST.index("for name")] + (
        'axes = {"model": ("toy_a",), "method": ("plain",)}\n'
        "from benchsuite.study import Study, register\n"
        'register(Study("hidden", "?", axes, (1,), reads={"model": ""}))\n'
        + CELL.replace("shaky", "hidden")
        + "): pass\n"
        + CELL
        + "): pass\n"
    )
    result = session(own, "-n", "2", "-k", "toy_a-plain-seed1")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["shaky: 1 of 4 cells*", "study hidden is registered where only *"])
    assert len(stored(session.pytester, "*.json")) == 2


def test_a_cells_fixture_outside_a_cell_says_what_its_test_lacks(session):
    result = session("def test_plain(record): pass\ndef test_other(progress): pass")
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["the fixture 'record' is of a cell: mark the test with *"])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*KeyError*")
