"""The pytest plugin of a process that runs some cells for a controller elsewhere.

Loaded with ``-p benchsuite.harness.scheduling.relay``; ``BENCHSUITE_RELAY`` is a JSON object with
``cells`` (node ids), ``run`` (the controller's) and ``fd``, to which one line of JSON is written a
cell: its node id and its serialized reports. To everybody who asks, this process is a worker: it
announces, judges and reports nothing, and leaves pytest's cache alone.
"""

import json
import os
from typing import Any

import pytest

VARIABLE = "BENCHSUITE_RELAY"


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Become a worker before any other plugin asks."""
    asked = json.loads(os.environ[VARIABLE])
    config.workerinput = {"testrunuid": asked["run"], "workerid": "relay"}  # type: ignore[attr-defined]
    config.option.maxfail = 0
    config.pluginmanager.register(_Relay(config, asked["cells"], asked["fd"]))


class _Relay:
    def __init__(self, config: pytest.Config, cells: list[str], descriptor: int) -> None:
        self._config, self._cells = config, cells
        self._to = os.fdopen(descriptor, "w", buffering=1)
        self._reports: list[Any] = []

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the cells that were asked for, in that order."""
        found = {item.nodeid: item for item in items}
        items[:] = [found[nodeid] for nodeid in self._cells if nodeid in found]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep a report until its cell is finished."""
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._reports.append(data)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Send the reports of a finished cell."""
        self._to.write(json.dumps({"nodeid": nodeid, "reports": self._reports}) + "\n")
        self._reports = []
