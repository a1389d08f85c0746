"""What the plugin does with one pytest item: decide, report as cached, run, keep the record."""

import logging
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchsuite.errors import BenchsuiteError, CellCannotRun
from benchsuite.harness.decision import Decision, State
from benchsuite.harness.explaining import explain
from benchsuite.harness.isolation import CellLog, free_memory, isolated, limit_threads
from benchsuite.harness.parametrizing import refuse_outside_a_cell
from benchsuite.harness.progress import Progress
from benchsuite.harness.scheduling import devices
from benchsuite.harness.session import PROPERTY, Bench
from benchsuite.harness.subtests import of_a_subtest, subtests_of
from benchsuite.harness.tracebacks import spell_out
from benchsuite.printable import printable
from benchsuite.records.building import RecordBuilder
from benchsuite.records.record import Failure, Record
from benchsuite.records.store import unwritable
from benchsuite.study import Cell

DECISION = pytest.StashKey[Decision]()
BUILDER = pytest.StashKey[RecordBuilder]()
PROGRESS = pytest.StashKey[Progress]()
LOG = pytest.StashKey[CellLog]()


def is_worker(config: pytest.Config) -> bool:
    """Say whether this process is an xdist worker."""
    return hasattr(config, "workerinput")


def cell_of(item: pytest.Item) -> Cell | None:
    """Return the cell that an item runs, or None for an ordinary test."""
    callspec = getattr(item, "callspec", None)
    cell = callspec.params.get("cell") if callspec else None
    return cell if isinstance(cell, Cell) else None


def only_planned(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Under ``--plan`` take out every item that is no cell of the plan."""
    if Bench.of(config).options.plan is None:
        return
    others = [item for item in items if cell_of(item) is None]
    items[:] = [item for item in items if cell_of(item) is not None]
    config.hook.pytest_deselected(items=others)


def decide(item: pytest.Item, cell: Cell) -> Decision:
    """Look up what is to be done about an item's cell."""
    return _wanted(item, Bench.of(item.config).decide(cell, Path(item.path)))


def _wanted(item: pytest.Item, decision: Decision) -> Decision:
    """Return the decision with what the options say: a cached cell may be wanted again."""
    again = Bench.of(item.config).options.rerun or _unsaved(item, decision)
    if decision.state is State.CACHED and again:
        return replace(decision, state=State.RERUN)
    return decision


def _unsaved(item: pytest.Item, decision: Decision) -> bool:
    """Say whether ``--save-models`` wants a quantized model that the finished cell did not keep."""
    bench = Bench.of(item.config)
    if not bench.options.save_models or "save_model" not in getattr(item, "fixturenames", ()):
        return False
    quantized = decision.record is not None and decision.record.value("weights_sha256")
    return bool(quantized) and not bench.saved_model(decision.cell).is_dir()


@contextmanager
def locked(item: pytest.Item) -> Iterator[None]:
    """Decide about a cell, and hold its lock while it runs.

    Another session may finish it before the lock is free: the store is asked once more then.
    """
    cell = cell_of(item)
    if cell is None or only_shows(item.config):
        yield
        return
    bench = Bench.of(item.config)
    decision = item.stash[DECISION] = decide(item, cell)
    if not decision.runs:
        yield
        return
    assert decision.fingerprint is not None
    value = decision.fingerprint.value
    lock = bench.store.running.lock(value)
    try:
        lock.acquire()
    except OSError as error:
        refused = unwritable(bench.store.running.folder, error)
        item.stash[DECISION] = replace(decision, state=State.BLOCKED, error=refused)
        yield
        return
    try:
        if decision.state is not State.RERUN:
            item.stash[DECISION] = _wanted(item, bench.look_up(decision))
        yield
    finally:
        bench.store.running.end(value)
        if PROGRESS in item.stash:
            item.stash[PROGRESS].clear()
        _end_log(item)
        lock.release()


def _end_log(item: pytest.Item) -> None:
    if LOG in item.stash:
        logging.getLogger("benchsuite").removeHandler(item.stash[LOG])


def run_of(config: pytest.Config) -> str:
    """Return what tells a session from others: xdist's name of it, or the process' number."""
    run = getattr(config, "workerinput", {}).get("testrunuid")
    distributed = config.pluginmanager.get_plugin("dsession")
    if distributed is not None:
        run = distributed.nodemanager.testrunuid
    return str(run or os.getpid())


def stop_file(config: pytest.Config) -> Path:
    """Return the file by which the controller tells its workers to start no further cell."""
    return Bench.of(config).store.running.folder / f"stop-{run_of(config)}"


def only_shows(config: pytest.Config) -> bool:
    """Say whether pytest is to show what there is, and to run nothing."""
    options = ("collectonly", "setupplan", "showfixtures", "show_fixtures_per_test")
    return any(config.getoption(name, False) for name in options)


def will_run_cells(session: pytest.Session) -> bool:
    """Say whether cells are to run in this process: in any but the controller of workers."""
    if only_shows(session.config):
        return False
    return any(cell_of(item) for item in session.items)


def prepare(config: pytest.Config) -> None:
    """Set the environment of cells and take its GPUs, before the first item runs.

    Not before there are cells: other people's tests under this plugin keep their threads and GPUs.
    """
    bench = Bench.of(config)
    config.add_cleanup(limit_threads(bench.options.cell_threads))
    if bench.options.device != "cpu":
        bench.taken = devices.take_gpus(bench.options.gpus_per_cell)


def told_to_stop(item: pytest.Item) -> bool:
    """Stop the session of a worker whose controller has been interrupted or has seen enough."""
    if not is_worker(item.config) or not stop_file(item.config).exists():
        return False
    item.session.shouldstop = "stopped by the controller"
    return True


def report_if_cached(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Emit the reports of a cached cell; no fixture is set up, no model loaded.

    What earlier items of its file or session set up is torn down as far as the next item wants.
    """
    decision = item.stash.get(DECISION, None)
    if decision is None or decision.state is not State.CACHED:
        return None
    assert decision.record is not None
    Bench.of(item.config).store.export(decision.cell, decision.record)
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    left = (PROPERTY, _left_behind(item, State.CACHED, decision.record))
    _report(item, "setup", lambda: None)
    _report(item, "call", lambda: None, left)
    _report(item, "teardown", lambda: item.session._setupstate.teardown_exact(nextitem))
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _report(item: pytest.Item, when: Any, phase: Callable[[], None], *properties: Any) -> None:
    leave = (KeyboardInterrupt, pytest.exit.Exception)
    call = pytest.CallInfo.from_call(phase, when=when, reraise=leave)
    report = pytest.TestReport.from_item_and_call(item, call)
    report.user_properties += properties
    item.ihook.pytest_runtest_logreport(report=report)


def start(item: pytest.Item) -> None:
    """Check that a cell can run here and begin its record."""
    decision = item.stash.get(DECISION, None)
    if decision is None:
        return
    bench = Bench.of(item.config)
    if decision.error is not None:
        raise decision.error
    bench.require(decision.cell)
    bench.store.prepare()
    try:
        bench.store.require_room()
    except BenchsuiteError as error:
        item.session.shouldstop = f"{error}. The same command resumes"
        raise
    _end_log(item)  # of an attempt that another plugin has repeated
    item.stash[LOG] = log = CellLog()
    logging.getLogger("benchsuite").addHandler(log)
    worker = getattr(item.config, "workerinput", {}).get("workerid", "")
    builder = bench.start(decision, item.nodeid, run=run_of(item.config), worker=worker)
    item.stash[BUILDER] = builder

    def tell(step: str, done: int, total: int, since: float) -> None:
        stage = builder.current_stage
        bench.store.running.step(builder.begun_as, stage, step, done, total, since)

    item.stash[PROGRESS] = Progress(item.config, decision.cell.id, tell)


@contextmanager
def running(item: pytest.Item) -> Iterator[None]:
    """Run a cell's call: what it must have left untouched is checked when it is over."""
    builder = item.stash.get(BUILDER, None)
    with subtests_of(item):
        yield
    if builder is not None:
        for check in builder.checks:
            check()
        builder.finish("passed")


@contextmanager
def seeded(item: pytest.Item) -> Iterator[None]:
    """Run a cell's function with its own seeds and threads.

    Around the function itself, because other plugins seed around the whole call.
    """
    builder = item.stash.get(BUILDER, None)
    if builder is None:
        yield
        return
    with _isolated(item, builder.cell.seed % 2**32):
        yield


@contextmanager
def seeded_fixture(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Iterator[None]:
    """Set a fixture of a cell up with seeds of its own, and with the cell's threads.

    By its name, so that it shares no stream with the cell or with another fixture. A fixture that
    several cells share leaves the cell's seed out: its value must not depend on which cell of the
    session, or of the worker, came first.
    """
    item = request._pyfuncitem
    builder = item.stash.get(BUILDER, None)
    if builder is None:
        try:
            yield
        except KeyError:
            refuse_outside_a_cell(fixturedef)
            raise
        return
    own = builder.cell.seed if fixturedef.scope == "function" else "shared"
    name = f"{fixturedef.argname} {getattr(request, 'param_index', 0)} {own}"
    with _isolated(item, zlib.crc32(name.encode())):
        yield


def _isolated(item: pytest.Item, seed: int) -> AbstractContextManager[None]:
    threads = Bench.of(item.config).options.cell_threads
    identity = item.stash[DECISION].identity
    return isolated(seed, threads, identity is not None and identity.uses_torch)


def conclude(item: pytest.Item, call: pytest.CallInfo[Any], report: pytest.TestReport) -> None:
    """Turn a phase's result into a record, a readable message and a state for the controller."""
    decision = item.stash.get(DECISION, None)
    if decision is None or of_a_subtest(item, report):
        return
    if call.excinfo is not None:
        _explain(item, decision, call.excinfo, report)
    builder = item.stash.get(BUILDER, None)
    expected = hasattr(report, "wasxfail") and report.skipped
    if builder is None or (report.skipped and not expected):
        # Before a cell begins nothing is known of its result; a body that skips may have looked.
        looked = report.when == "call" and not _cannot_run(call)
        state = "cannot_run" if report.skipped and not looked else decision.state
        report.user_properties.append((PROPERTY, _left_behind(item, state, None)))
        return
    if report.when == "call" or (report.when == "setup" and not report.passed):
        record = _keep_or_stop(item, builder, report)
        left = _left_behind(item, decision.state, record)
        if decision.state is State.RERUN and decision.record and record and report.passed:
            left["reproduced"] = decision.record.results_sha256 == record.results_sha256
        report.user_properties.append((PROPERTY, left))
    item.stash[PROGRESS].clear()
    if call.excinfo is not None:
        free_memory(call.excinfo)


def _cannot_run(call: pytest.CallInfo[Any]) -> bool:
    return call.excinfo is not None and isinstance(call.excinfo.value, CellCannotRun)


def _explain(
    item: pytest.Item,
    decision: Decision,
    excinfo: pytest.ExceptionInfo[BaseException],
    report: pytest.TestReport,
) -> None:
    error, strict = excinfo.value, Bench.of(item.config).options.strict_cells
    if isinstance(error, CellCannotRun) and not strict:
        report.outcome = "skipped"
        path, line, _ = item.reportinfo()
        report.longrepr = (str(path), line or 0, f"Skipped: {error}")
        return
    builder = item.stash.get(BUILDER, None)
    stage = builder.current_stage if builder else "setup"
    paragraph = explain(error, decision.cell, stage)
    if paragraph is not None:
        report.longrepr = printable(paragraph)
    else:
        spell_out(report.longrepr)


def _keep_or_stop(
    item: pytest.Item, builder: RecordBuilder, report: pytest.TestReport
) -> Record | None:
    """Keep the record; on a disk that takes none, fail the cell and start no other."""
    try:
        return _keep(item, builder, report)
    except OSError as error:
        why = unwritable(Bench.of(item.config).options.reports_dir, error)
        told = f". Before that: {report.longrepr}" if report.failed else ""
        report.outcome = "failed"
        report.longrepr = f"{builder.cell.id}: its record could not be kept: {why}{told}"
        item.session.shouldstop = f"{why}. The same command resumes"
        return None
    except BenchsuiteError as error:
        told = f" Before that: {report.longrepr}" if report.failed else ""
        report.outcome = "failed"
        report.longrepr = f"{builder.cell.id}: its record could not be kept: {error}{told}"
        return None


def _keep(item: pytest.Item, builder: RecordBuilder, report: pytest.TestReport) -> Record:
    failure = None
    if not report.passed:  # failed, as expected (xfail) or not
        text = str(report.longrepr)
        failure = Failure(text[-4000:], builder.current_stage)
    outcome = "passed" if report.passed else "failed"
    bench = Bench.of(item.config)
    decision = bench.identify_again(item.stash[DECISION])
    return bench.keep(decision, builder, outcome, failure, item.stash[LOG].text())


def _left_behind(item: pytest.Item, state: str, record: Record | None) -> dict[str, Any]:
    """Return what the controller is told of a cell, as a plain dict that xdist can send."""
    decision = item.stash[DECISION]
    return {
        "state": str(state),
        "study": decision.cell.study,
        "id": decision.cell.id,
        "model": decision.cell.model,
        "path": str(item.path),
        "fingerprint": decision.fingerprint.value if decision.fingerprint else "",
        "reasons": decision.reasons,
        "outcome": record.outcome if record else "",
        "spent": record.times.total if record else 0.0,
        "notices": Bench.of(item.config).store.notices,
    }
