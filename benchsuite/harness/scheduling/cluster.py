"""Cells on a Ray cluster: tasks of a few cells of one model, each on GPUs of its own.

A task runs its cells in a process of its own, which loads the model once, and yields each cell's
reports as it finishes. The records go to the store, which all nodes must share. When a node or its
worker process is lost, the task is started again elsewhere; cells that it had finished are found in
the store, so that every cell is measured once. Ray is imported only with ``--ray``.
"""

import ctypes
import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import pytest

from benchsuite import catalog
from benchsuite.errors import UsageError
from benchsuite.harness import items
from benchsuite.harness.scheduling import relay
from benchsuite.harness.session import Bench
from benchsuite.records import environment
from benchsuite.records.environment import Device
from benchsuite.records.files import draft_in
from benchsuite.records.running import sign

_RETRIES = 3
_KNOCK = 10.0  # seconds
_PR_SET_PDEATHSIG = 1


@dataclass
class _Task:
    """The cells that a task has not finished, how often it may begin anew, and its node's id."""

    cells: list[str]
    retries: int = _RETRIES
    node: str = ""


class RayLoop:
    """Runs the session's cells as Ray tasks, and logs their reports as if they ran here."""

    def __init__(self, config: pytest.Config, address: str) -> None:
        self._config = config
        self._bench, self._address = Bench.of(config), address
        self._ray = load()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Report cached cells here and have the others run on the cluster."""
        if self._config.option.collectonly or session.testsfailed:
            return None
        remote = {item.nodeid: item for item in session.items if items.cell_of(item) is not None}
        if remote:
            self._connect()
            self._bench.far_device = self._look_around()
        for number, item in enumerate(session.items):
            following = session.items[number + 1] if number + 1 < len(session.items) else None
            if item.nodeid not in remote or self._cached(item):
                self._config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                remote.pop(item.nodeid, None)
        self._run(session, remote)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        return True

    def _cached(self, item: pytest.Item) -> bool:
        cell = items.cell_of(item)
        assert cell is not None
        return items.decide(item, cell).state == "cached"

    # --- the cluster

    def _connect(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        address = None if self._address == "auto" else self._address
        terminate = signal.getsignal(signal.SIGTERM)
        try:
            _knock(self._address)
            self._ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (OSError, RuntimeError, ValueError, self._ray.exceptions.RayError) as error:
            raise pytest.UsageError(
                f"no Ray cluster answers at {self._address!r}: {str(error).strip().rstrip('.')}. "
                "`ray status --address=HOST:PORT` says whether one runs; --ray=local starts its own"
            ) from error
        finally:
            # Ray puts an end without a report in the place of the notice that a SIGTERM gives.
            signal.signal(signal.SIGTERM, terminate)
        each = self._bench.options.gpus_per_cell
        most = max(node["Resources"].get("GPU", 0) for node in self._ray.nodes())
        if each > max(1, most):
            raise pytest.UsageError(
                f"--gpus-per-cell {each} was asked for and a node of the Ray cluster has "
                f"{most:.0f} at most. Write --gpus-per-cell {max(1, most):.0f}"
            )

    @property
    def _per_task(self) -> dict[str, float]:
        if self._bench.options.device == "cpu" or not self._ray.cluster_resources().get("GPU"):
            return {"num_cpus": 1}
        return {"num_cpus": 1, "num_gpus": self._bench.options.gpus_per_cell}

    def _slots(self) -> int:
        per_task = self._per_task
        resource = "GPU" if "num_gpus" in per_task else "CPU"
        there = self._ray.cluster_resources().get(resource, 1)
        return max(1, int(there // per_task.get("num_gpus", 1)))

    def _look_around(self) -> Device:
        """Return the device that the cells will find; every node must share our reports."""
        token = draft_in(self._bench.store.running.folder)
        token.touch()
        looks = [(name, self._on(node, _sees).remote(str(token))) for node, name in self._able()]
        blind = [name for name, seen in looks if not self._ray.get(seen)]
        token.unlink()
        if blind:
            raise pytest.UsageError(
                f"a node of the Ray cluster does not see {self._bench.options.reports_dir}: "
                f"{', '.join(blind)}. "
                "Name a folder on a file system that all nodes share with --reports-dir"
            )
        describe = self._ray.remote(**self._per_task)(_describe)
        return Device(**self._ray.get(describe.remote(self._bench.options.device)))

    def _able(self) -> list[tuple[str, str]]:
        """Return the id and the name of every node that may get cells."""
        wanted = "GPU" if "num_gpus" in self._per_task else "CPU"
        nodes = [n for n in self._ray.nodes() if n["Alive"] and n["Resources"].get(wanted)]
        return [(n["NodeID"], f"{n['NodeManagerHostname']} ({n['NodeName']})") for n in nodes]

    def _on(self, node: str, what: Any) -> Any:
        """Return a function as a task of that node, which waits for nothing there."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(node, soft=False)
        return self._ray.remote(num_cpus=0, scheduling_strategy=there)(what)

    def _run(self, session: pytest.Session, remote: Mapping[str, pytest.Item]) -> None:
        waiting: dict[Any, _Task] = {}
        for chunk in chunks({k: _model(v) for k, v in remote.items()}, self._slots()):
            self._start(_Task(chunk), waiting)
        while waiting:
            ready, _ = self._ray.wait(list(waiting), num_returns=1, timeout=1)
            for stream in ready:
                self._take(stream, waiting, remote)
            self._leave_the_dead(waiting, remote)
            if session.shouldstop or session.shouldfail:
                sign(items.stop_file(self._config))

    def _start(self, task: "_Task", waiting: dict[Any, "_Task"]) -> None:
        # Ray's own retries would not come for minutes where a node has fallen silent.
        remote = self._ray.remote(**self._per_task, max_retries=0, num_returns="streaming")
        where = str(self._config.invocation_params.dir)
        run = items.run_of(self._config)
        waiting[remote(run_cells).remote(where, self._arguments(), task.cells, run)] = task

    def _take(
        self, stream: Any, waiting: dict[Any, "_Task"], remote: Mapping[str, pytest.Item]
    ) -> None:
        """Log the next cell of a task, or its end."""
        try:
            told = self._ray.get(next(stream))
        except StopIteration:
            del waiting[stream]
        except self._ray.exceptions.RayTaskError as error:
            self._give_up(waiting.pop(stream), remote, str(error).strip())
        except self._ray.exceptions.RayError as error:
            self._again(stream, waiting, remote, str(error).strip())
        else:
            if "node" in told:
                waiting[stream].node = told["node"]
                return
            item = remote[told["nodeid"]]
            waiting[stream].cells.remove(item.nodeid)
            if "died" in told:
                self._log(item, self._lost(item, told["died"]))
                return
            hook = self._config.hook
            reports = [
                hook.pytest_report_from_serializable(config=self._config, data=data)
                for data in told["reports"]
            ]
            self._log(item, reports)

    def _leave_the_dead(
        self, waiting: dict[Any, "_Task"], remote: Mapping[str, pytest.Item]
    ) -> None:
        """Start the tasks of lost nodes again: their streams may stay silent for minutes."""
        dead = {node["NodeID"] for node in self._ray.nodes() if not node["Alive"]}
        for stream in [stream for stream, task in waiting.items() if task.node in dead]:
            self._again(stream, waiting, remote, "its node was lost")

    def _again(
        self,
        stream: Any,
        waiting: dict[Any, "_Task"],
        remote: Mapping[str, pytest.Item],
        why: str,
    ) -> None:
        """Start what is left of a task that was lost, unless that has happened too often."""
        task = waiting.pop(stream)
        if task.retries:
            self._start(_Task(task.cells, task.retries - 1), waiting)
        else:
            self._give_up(task, remote, why)

    def _give_up(self, task: "_Task", remote: Mapping[str, pytest.Item], why: str) -> None:
        for nodeid in task.cells:
            self._log(remote[nodeid], self._lost(remote[nodeid], why))

    def _lost(self, item: pytest.Item, why: str) -> list[pytest.TestReport]:
        report = pytest.TestReport(
            item.nodeid, item.location, {}, "failed", f"{item.name}: {why}", "call"
        )
        controller: Any = self._config.pluginmanager.get_plugin("benchsuite-controller")
        controller.pytest_handlecrashitem(crashitem=item.nodeid, report=report)
        return [report]

    def _log(self, item: pytest.Item, reports: Sequence[pytest.TestReport]) -> None:
        hook = item.ihook
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in reports:
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    def _arguments(self) -> list[str]:
        """Return this command's own words without ``--ray``: a task's process collects the same."""
        words = map(str, self._config.invocation_params.args)
        return [word for word in words if word != "--ray" and not word.startswith("--ray=")]

    def pytest_unconfigure(self) -> None:
        """Leave the cluster; one that was started for this session ends."""
        self._ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError if nobody listens at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if host:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK):
            pass


def chunks(models: Mapping[str, str], slots: int) -> list[list[str]]:
    """Split node ids (each with its model) into tasks of one model each, largest models first.

    About two tasks per slot: few enough that a model is not loaded for every cell, and enough that
    the last of them end together.
    """
    size = max(1, math.ceil(len(models) / (2 * slots)))
    by_model: dict[str, list[str]] = {}
    for nodeid, model in models.items():
        by_model.setdefault(model, []).append(nodeid)
    largest = sorted(by_model, key=lambda name: -catalog.model(name).n_parameters)
    return [
        by_model[name][start : start + size]
        for name in largest
        for start in range(0, len(by_model[name]), size)
    ]


def run_cells(
    where: str, arguments: list[str], cells: list[str], run: str
) -> Iterator[dict[str, Any]]:
    """Run cells in a process of their own: yield ``nodeid`` and ``reports`` of each.

    The id of the ``node`` that it runs on comes first.

    A cell that takes the process down has ``died`` instead, with what the process said last; the
    cells after it go on in another process.
    """
    import ray

    yield {"node": ray.get_runtime_context().get_node_id()}
    left = list(cells)
    while left:
        with tempfile.TemporaryFile("w+") as said:
            process, told = _started(where, arguments, left, run, said)
            for line in told:
                finished = json.loads(line)
                left.remove(finished["nodeid"])
                yield finished
            told.close()
            if process.wait() == pytest.ExitCode.INTERRUPTED or not left:
                return
            said.seek(0)
            why = f"its process ended with status {process.returncode}: {said.read()[-1500:]}"
        yield {"nodeid": left.pop(0), "died": why}


def _started(
    where: str, arguments: list[str], cells: list[str], run: str, said: IO[str]
) -> tuple[subprocess.Popen[bytes], IO[str]]:
    """Start pytest on the cells; return it and the pipe from which their reports come."""
    reading, writing = os.pipe()
    asked = json.dumps({"cells": cells, "run": run, "fd": writing})
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *arguments, "-p", "benchsuite.harness.scheduling.relay"],
        cwd=where,
        env=os.environ | {relay.VARIABLE: asked},
        pass_fds=[writing],
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=subprocess.STDOUT,
        # A task's worker that is killed takes its cell along: Ray runs it again elsewhere.
        preexec_fn=_die_with_the_parent,
    )
    os.close(writing)
    return process, os.fdopen(reading)


def _die_with_the_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _sees(token: str) -> bool:
    """Say, on a node, whether it sees a file of ours."""
    return Path(token).exists()


def _describe(device: str) -> dict[str, Any]:
    """Return, on a node, the device that a cell finds there."""
    return asdict(environment.choose_device(device))


def _model(item: pytest.Item) -> str:
    cell = items.cell_of(item)
    assert cell is not None
    return cell.model


def load() -> Any:
    """Return the ``ray`` module; without it a usage error says how to install it."""
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            "--ray needs Ray, which is not installed",
            fix="install it: pip install 'benchsuite[ray]'",
        ) from error
    return ray


def check_address(address: str) -> None:
    """Raise a usage error for what cannot be a cluster's address, such as a swallowed path."""
    if address not in ("auto", "local") and ":" not in address:
        raise UsageError(
            f"--ray {address!r} is no address of a Ray cluster",
            fix="write --ray alone, --ray=HOST:PORT or --ray=local, after the names of files",
        )
