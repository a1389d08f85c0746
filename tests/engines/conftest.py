"""Engines that fail, and what tells that none of their processes lives any longer."""

import socket
from pathlib import Path

import pytest

from benchsuite.engines import EngineEntry, EngineProcess

HERE = Path(__file__).parent
ENTRY = EngineEntry("failing_engine", (), "", environment={"PYTHONPATH": str(HERE)})
WATCHDOG_SECONDS = 120  # a test that waits for what never comes fails then


@pytest.fixture
def failing(tmp_path):
    with EngineProcess("failing", ENTRY, log=tmp_path / "log") as process:
        process.load()
        yield process


class Report:
    """Where an engine reports, and whether it and its children still live."""

    def __init__(self, path):
        self.path, self._listener = str(path), socket.socket(socket.AF_UNIX)
        self._listener.settimeout(WATCHDOG_SECONDS)
        self._listener.bind(self.path)
        self._listener.listen()

    def wait_until_it_hangs(self):
        self.connection = self._listener.accept()[0]
        self.connection.settimeout(WATCHDOG_SECONDS)
        assert self.connection.recv(7) == b"hanging"

    def wait_until_all_have_ended(self):
        if not hasattr(self, "connection"):
            self.connection = self._listener.accept()[0]
            self.connection.settimeout(WATCHDOG_SECONDS)
        assert self.connection.recv(1) == b""


@pytest.fixture
def report(tmp_path_factory):
    return Report(tmp_path_factory.mktemp("r") / "r")
