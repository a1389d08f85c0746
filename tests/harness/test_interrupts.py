"""Ctrl-C, SIGKILL and two sessions at once: nothing finished is lost, nothing counts twice."""

import json
import os
import select
import signal
import subprocess
import sys
import threading

import pytest

from tests import forked
from tests.harness.test_failures import CONFTEST

# A cell that says that it runs and then waits until it is let go.
GATED = """
import os
import pytest

@pytest.mark.study("shaky")
def test_shaky(cell, record):
    if cell.id == "toy_a-plain-seed2" and os.path.exists("gate"):
        with open("started", "w") as started:
            started.write(str(os.getpid()))
        open("gate").read()
    record.update(perplexity=1.5)
"""


class Run:
    """A forked session: as much of ``subprocess.Popen`` as is used here."""

    def __init__(self, folder, *args):
        ours, theirs = os.pipe()
        self.stdout, self.returncode = os.fdopen(ours), None
        command = [sys.executable, "-m", "pytest", "test_shaky.py", *args]
        with open(theirs, "w") as end:
            self._process = forked.start(command, folder, os.environ, end, end, apart=True)
        self.pid = self._process.pid
        self._ends = os.pidfd_open(self.pid)

    def poll(self):
        """Return None while it runs, then its exit status."""
        if self.returncode is None and select.select([self._ends], [], [], 0)[0]:
            self._wait()
        return self.returncode

    def communicate(self):
        """Read the rest of its output and wait for its end."""
        with self.stdout:
            output = self.stdout.read()
        if self.returncode is None:
            self._wait()
        return output, None

    def _wait(self):
        self.returncode = self._process.wait()
        os.close(self._ends)


@pytest.fixture
def gated(pytester):
    """Start a run that stops at the gate, and return it once it is there."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_shaky=GATED)
    os.mkfifo(pytester.path / "gate")
    os.mkfifo(pytester.path / "started")
    runs, watchdogs = [], []

    def start(*args: str) -> Run:
        run = Run(pytester.path, *args)
        runs.append(run)
        watchdogs.append(threading.Timer(120, os.killpg, (run.pid, signal.SIGKILL)))
        watchdogs[-1].start()
        wait_for_the_cell(run, pytester.path / "started")
        return run

    yield start
    for watchdog in watchdogs:
        watchdog.cancel()
    for run in runs:
        if run.returncode is None:  # only where the test itself failed
            os.killpg(run.pid, signal.SIGKILL)
            run.communicate()


def wait_for_the_cell(run, fifo):
    """Wait until the cell has written to the pipe; a run that ends before is an error."""
    pipe = os.open(fifo, os.O_RDWR)  # a plain open would wait for a writer that may have died
    while not select.select([pipe], [], [], 1)[0]:
        assert run.poll() is None, run.stdout.read()
    os.read(pipe, 100)
    os.close(pipe)


def let_go(pytester):
    with open(pytester.path / "gate", "w"):
        pass
    os.unlink(pytester.path / "gate")


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
