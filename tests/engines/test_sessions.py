"""A session that is interrupted while an engine answers, as a user interrupts it."""

import os
import select
import signal
import subprocess
import sys
import threading

import pytest

from tests.engines.conftest import HERE, WATCHDOG_SECONDS
from tests.harness.shaky import CONFTEST
from tests.harness.test_interrupts import good_records, interrupt, read_until

CELL = """
import pytest
from benchsuite.engines import EngineEntry, EngineProcess

@pytest.mark.study("shaky")
def test_shaky(cell, record, tmp_path):
    entry = EngineEntry("failing_engine", (), "", environment={{"PYTHONPATH": {here!r}}})
    with EngineProcess("failing", entry, log=tmp_path / "log") as process:
        record.update(perplexity=process.ask("hang", report={report!r}))
"""


def test_the_first_interrupt_leaves_the_engine_alone_and_the_second_ends_it(pytester, report):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_shaky=CELL.format(here=str(HERE), report=report.path))
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", "test_shaky.py"],
        cwd=pytester.path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    watchdog = threading.Timer(WATCHDOG_SECONDS, os.killpg, (run.pid, signal.SIGKILL))
    watchdog.start()
    try:
        report.wait_until_it_hangs()
        interrupt(run)
        read_until(run, "once more stops at once")
        assert not select.select([report.connection], [], [], 0)[0]
        interrupt(run)
        report.wait_until_all_have_ended()
        run.communicate()
    finally:
        watchdog.cancel()
    assert run.returncode == pytest.ExitCode.INTERRUPTED
    assert not good_records(pytester)
