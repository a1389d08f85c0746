"""Who does not use benchsuite notices nothing; who does keeps the tests that are no cells."""

import difflib
import json
import os
import signal

import pytest

from benchsuite.harness.isolation import limit_threads
from benchsuite.harness.stopping import begin_notice, notice_runs
from tests.harness.toys import toys

fresh_interpreter = pytest.mark.usefixtures("fresh_interpreter")

OURS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "CUBLAS_WORKSPACE_CONFIG",
    "TOKENIZERS_PARALLELISM",
)


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch):
    for name in OURS:
        monkeypatch.delenv(name, raising=False)


FOREIGN = """
import json, logging, os, signal, sys, warnings

DIFFERENT = ("plugins", "basetemp")  # what the test itself gives

def pytest_addoption(parser):
    for flag in ("--device", "--local", "--seeds", "--tour"):
        parser.addoption(flag, help="a flag of this project")

def pytest_sessionfinish(session):
    config = session.config
    loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]
    found = {
        "options": {k: v for k, v in vars(config.option).items() if k not in DIFFERENT},
        "markers": config.getini("markers"),
        "filters": [config.getini("filterwarnings"), warnings.filters],
        "environ": {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"},
        "logging": [(logger.name, logger.level, logger.handlers) for logger in loggers],
        "signals": [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)],
        "modules": sorted(sys.modules),
    }
    with open("found.json", "w") as file:
        json.dump(found, file, default=lambda value: type(value).__name__)
"""


@pytest.mark.stress
@fresh_interpreter
def test_a_project_that_does_not_use_benchsuite_notices_nothing(pytester):
    """Installing it adds a name to the line of plugins and three small modules: no torch, no numpy.

    A project's own options of the same names work.
    """
    pytester.makeconftest(FOREIGN)
    pytester.makepyfile("def test_one(): pass")
    found, said, helped = {}, {}, {}
    for way, args in (("with", ()), ("without", ("-p", "no:benchsuite"))):
        given = ("--device=tpu", "--local=here", "--seeds=1", "--tour=long")
        result = pytester.runpytest_subprocess("-p", "no:cacheprovider", *given, *args)
        result.assert_outcomes(passed=1)
        found[way] = json.loads((pytester.path / "found.json").read_text())
        said[way] = [line for line in result.outlines if "1 passed" not in line]
        helped[way] = pytester.runpytest_subprocess("--help", *args).outlines

    added = set(found["with"].pop("modules")) - set(found["without"].pop("modules"))
    assert added == {"benchsuite", "benchsuite.guest", "benchsuite.lazy"}
    assert found["with"] == found["without"]
    assert found["with"]["options"]["device"] == "tpu"
    assert not set(OURS) & set(found["with"]["environ"])
    assert helped["with"] == helped["without"]
    more = [line for line in difflib.ndiff(said["without"], said["with"]) if line[0] in "-+"]
    assert all(line[2:].startswith("plugins: ") for line in more)


CONFTEST = toys("toy")
CONFTEST += """
axes = {"model": ("toy",), "method": ("plain",)}
register_study(Study("small", "?", axes, (1, 2), reads={"model": ""}))
"""

ORDINARY = f"""
import logging, os, random, signal, sys

STREAM = random.Random(7)
FIRST, SECOND = STREAM.random(), STREAM.random()

def test_draws():
    random.seed(7)
    assert random.random() == FIRST

def test_draws_on():
    assert random.random() == SECOND

def test_surroundings():
    assert not {{*{OURS}}} & set(os.environ)
    assert not {{"torch", "numpy", "scipy", "pandas"}} & set(sys.modules)
    assert not logging.getLogger("benchsuite").handlers
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    # A session that a shell started in the background ignores it.
    assert signal.getsignal(signal.SIGINT) in (signal.default_int_handler, signal.SIG_IGN)
"""


@fresh_interpreter
@pytest.mark.parametrize("workers", ["0", pytest.param("1", marks=pytest.mark.stress)])
def test_a_session_without_cells_is_left_alone_however_often_the_plugin_is_named(pytester, workers):
    """Named by the conftest, by the fixtures' module, on the command line, and by --pyargs."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_ordinary=ORDINARY)
    twice = ("-p", "benchsuite.plugin", "-p", "benchsuite.fixtures.models", "--pyargs")
    result = pytester.runpytest_subprocess("-n", workers, *twice, "test_ordinary.py")
    result.assert_outcomes(passed=3)
    assert not (pytester.path / "reports").exists()
    assert "= benchsuite =" not in result.stdout.str()


CELL = """
import os, random
import numpy
import pytest
import threadpoolctl

def threads():
    numbers = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
    return [os.environ["TOKENIZERS_PARALLELISM"], os.environ["OMP_NUM_THREADS"], *set(numbers)]

@pytest.fixture
def at_setup():
    random.seed(0)
    return threads()

def test_draws():
    random.seed(7)

@pytest.mark.study("small")
def test_small(cell, record, at_setup):
    record.update(perplexity=random.random())
    assert at_setup == threads() == ["false", "3", 1]

def test_draws_on():
    assert random.random() == random.Random(7).random()
"""


@pytest.mark.stress
@fresh_interpreter
def test_a_cell_has_its_threads_in_fixtures_too_and_leaves_others_their_stream(
    pytester, monkeypatch
):
    """Also where numpy came before the cells, with other threads."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_small=CELL)
    result = pytester.runpytest_subprocess("test_small.py")
    result.assert_outcomes(passed=4)
    options = pytester.runpytest_subprocess("--help", "test_small.py").stdout
    options.fnmatch_lines(["benchmarks of LLM compression (benchsuite):", "*--device=*"])


def test_what_a_session_of_cells_sets_in_the_environment_it_takes_out_again(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    before = dict(os.environ)
    restore = limit_threads(2)
    assert {name: os.environ[name] for name in OURS} == {
        "OMP_NUM_THREADS": "3",
        "MKL_NUM_THREADS": "2",
        "OPENBLAS_NUM_THREADS": "2",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "TOKENIZERS_PARALLELISM": "false",
    }
    restore()
    assert dict(os.environ) == before


def test_another_plugin_s_alarm_is_not_taken_for_the_notice_of_a_sigterm():
    """pytest-timeout runs the same timer; a SIGTERM must still be heard while it does."""
    before = signal.getsignal(signal.SIGALRM)
    try:
        signal.signal(signal.SIGALRM, lambda number, frame: None)
        signal.setitimer(signal.ITIMER_REAL, 1000)
        assert not notice_runs()
        begin_notice()
        assert notice_runs()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


OWN_DEVICE = """
def pytest_addoption(parser):
    parser.addoption("--device", help="the project's own")
"""


@pytest.mark.parametrize("first", ["theirs", "ours", "ours, by a conftest above"])
def test_an_option_that_a_project_defines_too_is_told_in_one_paragraph(pytester, first):
    uses = 'pytest_plugins = ["benchsuite.plugin"]'
    folder = pytester.mkdir("sub")
    (folder / "test_one.py").write_text("def test_one(): pass")
    theirs = pytester.path / "conftest.py"
    if "above" in first:
        theirs.write_text(uses)
        theirs = folder / "conftest.py"
    theirs.write_text(f"{uses}\n{OWN_DEVICE}" if first == "theirs" else OWN_DEVICE)
    args = ("-p", "benchsuite.plugin") if first == "ours" else ()

    result = pytester.runpytest_subprocess("sub", *args)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = " ".join(result.errlines)
    assert "the option --device is defined by benchsuite and by another plugin" in said
    assert f"({theirs}). Give that one another name" in said
    assert "Traceback" not in said + result.stdout.str()
