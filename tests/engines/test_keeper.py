"""An engine ends with its session, however the session ends, and with it all that it started."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from benchsuite.engines import EngineError, EngineProcess
from tests.engines.conftest import ENTRY, HERE, WATCHDOG_SECONDS

SESSION = """
import os, sys
from pathlib import Path
from benchsuite.engines import EngineEntry, EngineProcess

folder, log, report, case = sys.argv[1:]
entry = EngineEntry("failing_engine", (), "", environment={"PYTHONPATH": folder})
with EngineProcess("failing", entry, log=Path(log)) as process:
    if case == "has forked" and os.fork() == 0:
        sys.stdin.read()
        os._exit(0)
    process.ask("hang", report=report, holding_the_lock=case == "holds the lock")
"""


@pytest.mark.parametrize(
    ("number", "case"),
    [
        (signal.SIGTERM, ""),
        (signal.SIGKILL, ""),
        (signal.SIGKILL, "holds the lock"),
        (signal.SIGKILL, "has forked"),
    ],
)
def test_an_engine_that_is_answering_ends_with_its_session(number, case, report, tmp_path):
    """Also where it never runs Python again, and where a fork of the session holds its pipes."""
    command = [sys.executable, "-c", SESSION, str(HERE), str(tmp_path / "log"), report.path, case]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as session:
        report.wait_until_it_hangs()
        session.send_signal(number)
        report.wait_until_all_have_ended()
        assert session.wait(WATCHDOG_SECONDS) == -number


def test_an_interrupted_request_kills_the_engine_at_once(failing, report):
    """As the second Ctrl-C and the end of a notice do: nothing is waited for."""

    def interrupt():
        report.wait_until_it_hangs()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            failing.ask("hang", report=report.path)
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
    report.wait_until_all_have_ended()
    assert failing._process.returncode == 128 + signal.SIGKILL
    with pytest.raises(EngineError, match="ended"):
        failing.load()


def test_an_engine_at_rest_ends_by_itself(failing):
    failing.close()
    assert failing._process.returncode == 0


def test_an_engine_outlives_the_thread_that_started_it(tmp_path):
    started = []

    def start():
        started.append(EngineProcess("failing", ENTRY, log=tmp_path / "log"))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    with started[0] as process:
        assert process.load(threads=1) == {"threads": 1}


def test_signals_to_all_processes_of_a_job_are_left_to_the_session(failing):
    """But a child that the engine forks can be ended."""
    assert failing.ask("signal") == -signal.SIGTERM
    assert failing.load(threads=1) == {"threads": 1}


def test_what_an_engine_has_started_ends_with_it(failing, report):
    with pytest.raises(EngineError, match=r"failing ended with status 137 \(SIGKILL\)"):
        failing.ask("leave_a_child", report=report.path)
    report.wait_until_all_have_ended()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's part is Linux's")
def test_an_engine_does_not_outlive_its_keeper(failing):
    os.kill(failing._process.pid, signal.SIGKILL)
    with pytest.raises(EngineError, match=r"failing ended with status -9 \(SIGKILL\)"):
        failing.ask("wait")


def test_a_question_to_the_user_is_not_answered_by_the_next_request(failing):
    with pytest.raises(EngineError, match="EOFError"):
        failing.ask("ask_the_user")
    assert failing.load(threads=1) == {"threads": 1}


def test_an_engine_whose_keeper_is_stopped_is_killed_too(tmp_path, monkeypatch):
    monkeypatch.setattr("benchsuite.engines.process._KILL_SECONDS", 0.01)
    with EngineProcess("failing", ENTRY, log=tmp_path / "log") as process:
        process.load()
        os.kill(process._process.pid, signal.SIGSTOP)
        process._kill()
    assert process._process.returncode == -signal.SIGKILL
