"""Ctrl-C, SIGKILL and two sessions at once: nothing finished is lost, nothing counts twice."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.harness.gated import let_go


def good_records(pytester):
    folder = pytester.path / "reports/store/records"
    return {json.loads(p.read_text())["cell"]["id"] for p in folder.glob("*.json")}


def read_until(run, text):
    seen = ""
    while text not in seen:
        character = run.stdout.read(1)
        assert character, f"the run ended without saying {text!r}: {seen}"
        seen += character


def assert_none_begun_since(before, done, args):
    """The cell at the gate was finished, and of another worker at most the one it was in."""
    assert "toy_a-plain-seed2" in done - before
    assert len(done - before) <= (2 if args else 1)


def interrupt(run):
    """Do what a terminal does: signal every process of the group."""
    os.killpg(run.pid, signal.SIGINT)


ALONE, WORKERS = (), ("-n", "2")


@pytest.mark.parametrize("args", [ALONE, WORKERS])
def test_interrupted_once_the_running_cell_is_finished_and_no_other_begun(gated, pytester, args):
    run = gated(*args)
    interrupt(run)
    read_until(run, "once more stops at once")
    before = good_records(pytester)
    let_go(pytester)
    output = run.communicate()[0]
    assert run.returncode == pytest.ExitCode.INTERRUPTED
    assert "the same command resumes" in output
    done = good_records(pytester)
    assert_none_begun_since(before, done, args)
    result = pytester.runpytest_subprocess("test_shaky.py", *args)
    assert result.ret == 0
    assert result.parseoutcomes()["cached"] == len(done)


@pytest.mark.parametrize("args", [ALONE, WORKERS])
def test_interrupted_twice_stops_at_once(gated, pytester, args):
    run = gated(*args)
    interrupt(run)
    read_until(run, "once more stops at once")
    interrupt(run)
    run.communicate()
    assert run.returncode == pytest.ExitCode.INTERRUPTED
    assert "toy_a-plain-seed2" not in good_records(pytester)


@pytest.mark.parametrize(("args", "whom"), [(ALONE, os.kill), (WORKERS, os.killpg)])
def test_terminated_the_running_cell_is_finished_and_the_command_to_go_on_is_told(
    gated, pytester, args, whom
):
    run = gated(*args)
    whom(run.pid, signal.SIGTERM)
    read_until(run, "the running cells have 20 s to finish")
    before = good_records(pytester)
    let_go(pytester)
    output = run.communicate()[0]
    assert run.returncode == pytest.ExitCode.INTERRUPTED
    assert " ".join(("to go on: pytest test_shaky.py", *args)) in output
    assert_none_begun_since(before, good_records(pytester), args)


@pytest.mark.parametrize("args", [ALONE, WORKERS])
def test_after_a_kill_the_same_command_completes(gated, pytester, args):
    run = gated(*args)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    before = good_records(pytester)
    os.unlink(pytester.path / "gate")
    result = pytester.runpytest_subprocess("test_shaky.py", *args)
    assert result.parseoutcomes()["passed"] == 8 - len(before)
    result.stdout.fnmatch_lines(["*cut off in an earlier session*toy_a-plain-seed2*"])
    assert len(good_records(pytester)) == 8
    assert not list((pytester.path / "reports").rglob(".draft-*"))


def test_two_sessions_on_one_folder_measure_each_cell_once(gated, pytester):
    first = gated()
    second = subprocess.Popen(
        [sys.executable, "-m", "pytest", "test_shaky.py", "-p", "no:cacheprovider"],
        cwd=pytester.path,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    # The second finds seed1 cached and then waits for the lock of the cell that the first holds.
    read_until(second, "test_shaky.py c")
    let_go(pytester)
    first.communicate()
    second.communicate()
    assert (first.returncode, second.returncode) == (0, 0)
    names = [p.name for p in (pytester.path / "reports/store/records").glob("*.json")]
    assert len(names) == 8
    assert not [name for name in names if "rerun" in name]
