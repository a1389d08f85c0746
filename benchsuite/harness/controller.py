"""What the process that controls a session does: announce, gather, judge, report."""

import json
import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Generator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from benchsuite.errors import BenchsuiteError
from benchsuite.harness.asked import asked_for, models_of, possible_cells
from benchsuite.harness.items import cell_of, is_worker, only_shows, stop_file
from benchsuite.harness.misspelt import LEFT_OUT, REFUSED, misspelt, refuse_unreadable, seeds_of
from benchsuite.harness.outcome import Outcome, judge
from benchsuite.harness.progress import uncaptured
from benchsuite.harness.session import PROPERTY, Bench
from benchsuite.harness.stopping import Stopping
from benchsuite.harness.telling import Telling
from benchsuite.printable import count, printable
from benchsuite.records import environment
from benchsuite.records.building import crashed
from benchsuite.records.journal import new_folder
from benchsuite.records.running import sign
from benchsuite.records.store import unwritable
from benchsuite.study import names

logger = logging.getLogger("benchsuite")

_CRASHED = "the worker process died in this cell: out of memory, or a crash in native code"

MOST_REASONS = 12
EXTRAS = {"hub": "datasets", "downstream": "lm_eval"}


class Controller:
    """Hooks of the controlling process: the only one without xdist, the controller with it."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.bench = Bench.of(config)
        self.left: dict[str, dict[str, Any]] = {}
        self._began = time.time()
        self._spent: dict[str, dict[str, Any]] = {}
        self.outcome: Outcome | None = None
        self.unwritten: BenchsuiteError | None = None
        self.folder: Path | None = None
        self._telling: Telling | None = None
        self._last_failed: dict[str, bool] = {}
        self._skipped: Counter[str] = Counter()
        self.misspelt: list[str] = []
        self._seeds_left_out: set[int] = set()
        self._chosen: Sequence[str] = ()
        self.stopping = Stopping(config, self._warn)

    # --- start

    def pytest_sessionstart(self) -> None:
        """Refuse words that cannot be read, before workers are started to find that out."""
        if self.config.pluginmanager.hasplugin("dsession"):
            refuse_unreadable(self.config)

    @pytest.hookimpl(wrapper=True)
    def pytest_collection(self, session: pytest.Session) -> Generator[None, Any, Any]:
        """Announce the session if it has cells.

        Not in ``pytest_collection_finish``: that is called where the collection was refused, too.
        """
        result = yield
        self._chosen = self._chosen or [item.nodeid for item in session.items if cell_of(item)]
        goes_on = self.config.option.continue_on_collection_errors
        runs = not session.testsfailed or goes_on  # else pytest ends before the first item
        if self._chosen and runs and not only_shows(self.config):
            self._begin()
        return result

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Note the seeds of the cells that there were to choose from."""
        self._seeds_left_out |= seeds_of(items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Note what a worker tells of its collection: only workers see items under xdist."""
        told = getattr(node, "workeroutput", {})
        self._seeds_left_out |= set(told.get(LEFT_OUT, ()))
        if refused := told.get(REFUSED):
            raise pytest.UsageError(refused)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Announce the session once the first worker knows its cells."""
        self._chosen = ids
        if only_shows(self.config):
            return
        try:
            declared = {cell.id for name in names() for cell in self.bench.cells(name)}
        except BenchsuiteError as error:
            raise pytest.UsageError(str(error)) from error
        if any(not declared.isdisjoint(possible_cells(nodeid)) for nodeid in ids):
            self._begin()

    def _begin(self) -> None:
        if self.folder is not None:
            return
        folder = new_folder(self.bench.options.reports_dir, datetime.now(UTC))
        try:
            self.bench.store.prepare()
            cut_off = self.bench.store.sweep()
            stop_file(self.config).unlink(missing_ok=True)
            folder.mkdir(parents=True)
            self._log_to(folder / "session.log")
        except BenchsuiteError as error:
            raise pytest.UsageError(str(error)) from error
        except OSError as error:
            raise pytest.UsageError(
                str(unwritable(self.bench.options.reports_dir, error))
            ) from error
        self.folder = folder
        goes_on = self.bench.options.until_decided > 0
        self._telling = Telling(
            self.config, folder, self._chosen, began=self._began, goes_on=goes_on
        )
        last_failed = self.config.pluginmanager.get_plugin("lfplugin")
        self._last_failed = dict(getattr(last_failed, "lastfailed", {}))
        self.stopping.install()
        for line in self._header(cut_off):
            self._write(line)

    def _log_to(self, path: Path) -> None:
        handler = logging.FileHandler(path)
        handler.name = "session"
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        # On a full disk a lost line of the log is not worth a traceback each.
        handler.handleError = lambda record: None  # type: ignore[method-assign]
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)

    def _header(self, cut_off: list[str]) -> list[str]:
        options = self.bench.options
        devices = [f"{gpu.name} ({gpu.memory_bytes / 2**30:.0f} GiB)" for gpu in environment.gpus()]
        free = shutil.disk_usage(options.reports_dir).free / 2**30
        lines = [
            f"benchsuite: {', '.join(devices) or environment.cpu().name}, "
            f"{count(options.cell_threads, 'thread')} a cell, "
            f"{free:.0f} GiB free for {_short(options.reports_dir)}"
        ]
        missing = [e for e, package in EXTRAS.items() if environment.version(package) == "absent"]
        if missing:
            lines.append(f"extras not installed: pip install 'benchsuite[{','.join(missing)}]'")
        if cut_off:
            lines.append(f"cut off in an earlier session, measured again: {', '.join(cut_off)}")
        return lines

    def _write(self, line: str, **markup: bool) -> None:
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None or self.config.get_verbosity() < 0:
            return
        with uncaptured(self.config):
            reporter.ensure_newline()
            reporter.write_line(printable(line), **markup)
            reporter.flush()

    def _warn(self, line: str) -> None:
        self._write(line, yellow=True)

    # --- while cells run

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Gather what a cell left; keep cells that cannot run here among the last failed."""
        properties: dict[str, Any] = dict(report.user_properties)
        left = properties.get(PROPERTY)
        if left is not None:
            self.left[report.nodeid] = left
            known = self.bench.store.notices
            known += [what for what in left["notices"] if what not in known]
            if report.skipped and isinstance(report.longrepr, tuple | list):
                self._skipped[report.longrepr[2].removeprefix("Skipped: ")] += 1
        self._note_time(report)
        if self._telling is not None:
            facts = self.left.get(report.nodeid, {})
            self._telling.report(report, facts, self._spent[report.nodeid])
        if report.skipped and report.nodeid in self._last_failed:
            last_failed: Any = self.config.pluginmanager.get_plugin("lfplugin")
            last_failed.lastfailed[report.nodeid] = True
        if report.failed and left is not None:
            logger.info("%s failed: %s", report.nodeid, str(report.longrepr)[:2000])
        maxfail = self.config.getoption("maxfail")
        if report.failed and maxfail and self.folder is not None:
            self._failures = getattr(self, "_failures", 0) + 1
            if self._failures >= maxfail:
                sign(stop_file(self.config))

    def _note_time(self, report: pytest.TestReport) -> None:
        """Note which worker had an item and when, for the manifest to show where time went."""
        worker = getattr(report, "worker_id", "")
        spent = self._spent.setdefault(report.nodeid, {"worker": worker, "began": report.start})
        spent[f"{report.when}_seconds"] = report.duration
        spent["ended"] = report.stop

    def was_cached(self, nodeid: str) -> bool:
        """Say whether a finished item was a cell that had not to run."""
        return self.left.get(nodeid, {}).get("state") == "cached"

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport) -> None:
        """Write the record of a cell whose worker died while it ran."""
        for marker in self.bench.store.running.markers():
            if marker.nodeid != crashitem:
                continue
            facts, value = marker.cell, marker.fingerprint.value
            self.bench.store.write(crashed(marker, _CRASHED))
            self.bench.store.running.end(value)
            report.longrepr = f"{facts.id}: {_CRASHED}. Rerun it alone with -n 0 to see why"
            self.left[crashitem] = {
                "state": "crashed",
                "study": facts.study,
                "id": facts.id,
                "model": facts.model,
                "path": marker.benchmark,
                "fingerprint": value,
                "reasons": [],
                "outcome": "crashed",
            }

    # --- end

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Judge the claims over the declared grid, write the report, set the exit status."""
        if session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and self._seeds_left_out:
            chosen = self.config.option
            self.misspelt = misspelt(chosen.keyword, chosen.markexpr, seeds=self._seeds_left_out)
            if self.misspelt:
                session.exitstatus = pytest.ExitCode.USAGE_ERROR
        if self.folder is None or is_worker(self.config):
            return
        self.stopping.restore()
        stop_file(self.config).unlink(missing_ok=True)
        left = {node: facts for node, facts in self.left.items() if facts["study"] in names()}
        benchmarks = {facts["study"]: Path(facts["path"]) for facts in left.values()}
        verbose = self.config.get_verbosity() > 0
        models = {facts["model"] for facts in left.values()}
        try:
            asked = asked_for(self.bench, self._chosen, left)
            models |= models_of(self.bench, asked)
            self.outcome = judge(
                self.bench, benchmarks, models=models, asked=asked, verbose=verbose
            )
            if self.outcome.fails(self.bench.options.strict_claims) and session.exitstatus == 0:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
            self.unwritten = self.outcome.unwritten
            self._write_manifest(self.folder, int(session.exitstatus))
            self._track()
        except OSError as error:
            self.unwritten = unwritable(self.bench.options.reports_dir, error)
        if self.unwritten is not None:
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED
        if self._telling is not None:
            self._telling.end(int(session.exitstatus))

    def _track(self) -> None:
        """Log what this session measured; a tracker out of reach costs a line, no result."""
        mode, outcome = self.bench.options.wandb, self.outcome
        if not mode or outcome is None:
            return
        from benchsuite.reporting.tracking import track

        new = {left["fingerprint"] for left in self.left.values() if left["state"] != "cached"}
        records = [r for s in outcome.studies for r in s.records.values()]
        records = [r for r in records if r.fingerprint.value in new]
        try:
            n = track(records, self.bench.options.reports_dir, mode)
            outcome.lines.append((f"wandb: {count(n, 'run')} logged {mode}", {}))
        except Exception as error:
            logger.exception("wandb failed")
            outcome.lines.append((f"wandb logged nothing: {error}", {"yellow": True}))

    def _write_manifest(self, folder: Path, exitstatus: int) -> None:
        assert self.outcome is not None
        manifest = {
            "options": vars(self.bench.options),
            "environment": self.bench.environment,
            "exitstatus": exitstatus,
            "began": self._began,
            "ended": time.time(),
            "cells": {
                nodeid: left | self._spent.get(nodeid, {}) for nodeid, left in self.left.items()
            },
            "claims": [vars(j) for j in self.outcome.judgements],
            "notices": self.bench.store.notices,
        }
        text = json.dumps(manifest, indent=2, default=str)
        (folder / "manifest.json").write_text(text)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say what was claimed, what is missing, what was stale, and where the report is."""
        lines: list[tuple[str, dict[str, bool]]] = []
        if self.outcome is not None:
            lines = [*self._notices(), *self.outcome.lines]
            if not terminalreporter.hasopt("skipped"):
                lines += self._reasons()
        lines += [(text, {"yellow": True}) for text in self._unknown()]
        if self.unwritten is not None:
            lines.append((f"no report: {self.unwritten}", {"red": True}))
        if self.stopping.reason:
            lines.append((f"to go on: {self.stopping.resume()}", {"yellow": True}))
        lines += [(text, {"red": True}) for text in self.misspelt]
        if lines:
            terminalreporter.section("benchsuite", sep="=")
        for text, markup in lines:
            terminalreporter.write_line(printable(text), **markup)
        if self.outcome is not None and self.unwritten is None:
            terminalreporter.write_line(f"report: {_short(self.outcome.page)}")

    def _unknown(self) -> list[str]:
        """Name the studies that workers know and this process does not: it imports no test."""
        studies = sorted({facts["study"] for facts in self.left.values()} - set(names()))
        return [
            f"study {study} is registered where only workers see it: its records are kept, no "
            "claim is judged and no report shows it. Register it in the conftest.py at the root, "
            "or name its folder to pytest"
            for study in studies
        ]

    def _notices(self) -> list[tuple[str, dict[str, bool]]]:
        notices: list[tuple[str, dict[str, bool]]] = []
        notices += [(what, {"yellow": True}) for what in self.bench.store.notices]
        stale = Counter(
            reason
            for left in self.left.values()
            if left["state"] == "stale"
            for reason in left["reasons"]
        )
        if stale:
            why = ", ".join(f"{reason} ({n})" for reason, n in stale.items())
            notices.append((f"stale records, measured again: changed {why}", {"yellow": True}))
        notices += [(text, {"yellow": True}) for text in self._stand_ins()]
        again = [left["reproduced"] for left in self.left.values() if "reproduced" in left]
        if again:
            text = f"rerun: {sum(again)} of {count(len(again), 'cell')} bit-identical to "
            text += "its record" if len(again) == 1 else "their records"
            notices.append((text, {"green": all(again), "red": not all(again)}))
        for nodeid, left in self.left.items():
            if left.get("reproduced") is False:
                notices.append((f"  differs: {nodeid}", {"red": True}))
        return notices

    def _reasons(self) -> list[tuple[str, dict[str, bool]]]:
        """Say why cells were skipped, for pytest says it with ``-rs`` alone."""
        told = [
            (f"{n} skipped: {reason}", {"yellow": True})
            for reason, n in self._skipped.most_common(MOST_REASONS)
        ]
        more = len(self._skipped) - len(told)
        return [*told, (f"and {count(more, 'more reason')}: pytest -rs", {})] if more else told

    def _stand_ins(self) -> list[str]:
        """Name the models whose weights are not the catalogued ones, once each."""
        assert self.outcome is not None
        seen = {left["fingerprint"] for left in self.left.values()}
        reasons = {
            record.cell.model: record.source.stand_in
            for results in self.outcome.studies
            for record in results.records.values()
            if record.source.stand_in and record.fingerprint.value in seen
        }
        return [f"stand-in for {model}: {reason}" for model, reason in reasons.items()]


def _short(path: Path) -> str:
    try:
        return os.path.relpath(path)
    except ValueError:
        return str(path)
