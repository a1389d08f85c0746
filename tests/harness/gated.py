"""Runs that stop at a gate inside a cell, for a test to do something to them there."""

import contextlib
import os
import select
import signal
import sys
import threading

import pytest

from tests import forked
from tests.harness.shaky import CONFTEST

# A cell that says that it runs and then waits until it is let go.
GATED = """
import os
import pytest

@pytest.mark.study("shaky")
def test_shaky(cell, record):
    if cell.id == "toy_a-plain-seed2" and os.path.exists("gate"):
        with record.stage("quant"):
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
            with contextlib.suppress(ProcessLookupError):  # the watchdog was before us
                os.killpg(run.pid, signal.SIGKILL)
            # Its status is read in any case: the server would tell it to the next test.
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
