"""The pytest plugin: hooks only. The logic is in the modules beside it; none imports torch here."""

import logging
import os
from collections.abc import Generator
from typing import Any

import pytest

from benchsuite.errors import BenchsuiteError
from benchsuite.harness import given, items, planning
from benchsuite.harness.items import only_planned
from benchsuite.harness.options import Options, add_options, gpus_per_cell
from benchsuite.harness.parametrizing import parametrize
from benchsuite.harness.place import given_words
from benchsuite.harness.session import BENCH, PROPERTY, Bench
from benchsuite.records.environment import check_gpus, choose_device, gpus_for
from benchsuite.records.store import Store

# A project asks for all of this with `pytest_plugins = ["benchsuite.plugin"]` in its conftest.
pytest_plugins = [
    "benchsuite.fixtures.calibration",
    "benchsuite.fixtures.engines",
    "benchsuite.fixtures.reference",
    "benchsuite.fixtures.latent",
    "benchsuite.fixtures.models",
    "benchsuite.fixtures.record",
    "benchsuite.fixtures.tasks",
    "benchsuite.fixtures.uncertainty",
]

MARKS = (
    "study(name): the test is the body of this study's cells",
    "cell(study, model, method, seed, ...): one cell; select with -m \"cell(model='...')\"",
    "embedded: the cell's model ships with the project",
    "hub: the cell's model comes from the hub or a local folder",
    "gpu: the cell needs a CUDA GPU",
    "small: the cell's model has fewer than 4 billion parameters",
    "large: the cell's model has 4 billion parameters or more",
    "any_model: the cell's model was named by --model",
)


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the options."""
    add_options(parser, pluginmanager)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks and set up this process' state."""
    for mark in MARKS:
        config.addinivalue_line("markers", mark)
    try:
        options = Options.of(config)
        given.join(options.models)
        if options.device == "cuda":
            choose_device(options.device)
        if not options.ray:
            check_gpus(options.gpus_per_cell, options.device)
    except BenchsuiteError as error:
        raise pytest.UsageError(str(error)) from error
    # torch's own use of torch.jit, at import
    config.addinivalue_line("filterwarnings", "ignore:.*torch.jit.*:DeprecationWarning")
    plugins = tuple(name for name in config.option.plugins or () if not name.startswith("no:"))
    store = Store(options.reports_dir)
    config.stash[BENCH] = Bench(options, store, config.rootpath, plugins, given_words(config))
    try:
        planning.check(config.stash[BENCH])
    except BenchsuiteError as error:
        raise pytest.UsageError(str(error)) from error
    if items.is_worker(config):
        from benchsuite.harness.misspelt import LeftOut

        config.pluginmanager.register(LeftOut(config), "benchsuite-left-out")
    else:
        from benchsuite.harness.controller import Controller

        config.pluginmanager.register(Controller(config), "benchsuite-controller")
        if options.ray:
            _use_ray(config, options.ray)


def _use_ray(config: pytest.Config, address: str) -> None:
    from benchsuite.harness.scheduling import cluster

    try:
        cluster.check_address(address)
        if config.getoption("numprocesses", None):
            raise BenchsuiteError("--ray distributes the cells itself", fix="leave -n away")
        config.pluginmanager.register(cluster.RayLoop(config, address), "benchsuite-ray")
    except BenchsuiteError as error:
        raise pytest.UsageError(str(error)) from error


@pytest.hookimpl(wrapper=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, Any, Any]:
    """With ``--until-decided``, go on with further seeds once the declared ones are judged."""
    status = yield
    controller = config.pluginmanager.get_plugin("benchsuite-controller")
    if controller is None or not controller.bench.options.until_decided:
        return status
    if controller.bench.options.seeds:  # a look that was asked for by its seeds
        return status
    from benchsuite.harness.looks import further_looks

    return further_looks(config, controller.outcome, int(status or 0))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize a study's test with the cells of its grid."""
    try:
        parametrize(metafunc)
    except BenchsuiteError as error:  # of this kind pytest shows the words alone
        raise pytest.Collector.CollectError(str(error)) from error


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave nothing but the cells of the plan, if there is one."""
    only_planned(config, items)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Set this process up for its cells, if it has any: no other test needs that."""
    if not items.will_run_cells(session):
        return
    items.prepare(session.config)
    if items.is_worker(session.config):
        from benchsuite.harness.stopping import finish_the_cell_first

        finish_the_cell_first()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Hold a cell's lock while it runs, so that two sessions never measure it at once."""
    with items.locked(item):
        return (yield)


@pytest.hookimpl(tryfirst=True, specname="pytest_runtest_protocol")
def pytest_runtest_protocol_cached(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Report a cached cell without setting anything up, and start nothing once told to stop."""
    if items.told_to_stop(item):
        return True
    return items.report_if_cached(item, nextitem)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Check that the cell can run here, and start its record."""
    items.start(item)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, Any, Any]:
    """Seed each fixture of a cell by itself, inside what other plugins do around its set-up."""
    with items.seeded_fixture(fixturedef, request):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Run the cell, and verify what it must have left untouched."""
    with items.running(item):
        return (yield)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Seed the cell last, inside what other plugins do around a call."""
    with items.seeded(pyfuncitem):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep the record of a finished cell, whatever became of it."""
    report = yield
    items.conclude(item, call, report)
    return report


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, Any] | None:
    """Name the outcomes *cached* and *stale*."""
    left = dict(getattr(report, "user_properties", ())).get(PROPERTY)
    if report.when != "call" or not report.passed or not left:
        return None
    if left["state"] == "cached":
        return "cached", "c", ("CACHED", {"cyan": True})
    if left["state"] == "stale":
        return "stale", "~", ("PASSED (was stale)", {"yellow": True})
    return None


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Start one worker per visible GPU, or ``--gpus-per-cell`` of them, for ``-n auto``."""
    chosen = os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS")
    if chosen or config.getoption("benchsuite_device") == "cpu":
        return None
    try:
        each = gpus_per_cell(config)
    except BenchsuiteError as error:
        raise pytest.UsageError(str(error)) from error
    return len(gpus_for(each)) // each or None


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out cells one by one, preferring the worker that holds their model."""
    if config.getvalue("dist") != "load":
        return None
    from benchsuite.harness.scheduling import affinity

    controller: Any = config.pluginmanager.get_plugin("benchsuite-controller")
    drawn = controller.bench.options.sources.weights == "random"
    rate = affinity.DRAWN_BYTES_PER_SECOND if drawn else affinity.READ_BYTES_PER_SECOND
    return affinity.AffinityScheduling(config, rate, controller.was_cached)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave logging and the GPUs as they were found."""
    bench = config.stash.get(BENCH, None)
    if bench is not None and bench.taken is not None:
        bench.taken.release()
    for handler in [h for h in logging.getLogger("benchsuite").handlers if h.name == "session"]:
        logging.getLogger("benchsuite").removeHandler(handler)
        handler.close()
