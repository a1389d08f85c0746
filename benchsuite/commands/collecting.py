"""What pytest collects for a command's arguments."""

import contextlib
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchsuite.errors import UsageError
from benchsuite.harness import items
from benchsuite.harness.place import usual_words
from benchsuite.harness.session import Bench
from benchsuite.study import Cell

# Named, so that the options are known before a conftest is read, and where there is none. Under
# `filterwarnings = error` pytest would end because what it is to rewrite is imported already: us.
_PLUGIN = ("-p", "benchsuite.plugin", "-W", "ignore::pytest.PytestAssertRewriteWarning")


class Collected:
    """What pytest collects for the given arguments, and under which session state."""

    def __init__(self) -> None:
        self.cells: list[tuple[str, Cell, Path]] = []
        self.misspelt: list[str] = []
        self.interrupted = False
        self.failed: list[str] = []
        self._config: pytest.Config | None = None

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note why a file could not be collected."""
        if report.failed:
            said, ours = report.longreprtext, "\nE  " not in report.longreprtext
            self.failed.append(
                _last_words(said) if ours else f"{report.nodeid}: {_last_words(said)}"
            )

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note the cells after ``-k`` and ``-m`` have chosen."""
        self._config = session.config
        for item in session.items:
            cell = items.cell_of(item)
            if cell is not None:
                self.cells.append((item.nodeid, cell, Path(item.path)))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Note which words of ``-k`` and ``-m`` chose nothing, once the controller knows."""
        controller: Any = session.config.pluginmanager.get_plugin("benchsuite-controller")
        self.misspelt = controller.misspelt

    def bench(self) -> Bench:
        """Return the session's state; without a cell it is a usage error."""
        if self._config is None or not self.cells:
            raise UsageError(
                "no cell is selected",
                fix="see what -k, -m and the named files choose: `benchsuite list` shows the cells",
            )
        return Bench.of(self._config)

    def bench_with_records(self) -> Bench:
        """Return the session's state; without a record in its folder it is a usage error."""
        bench = self.bench()
        require_records(bench)
        if others := self.studies_elsewhere():
            folder = os.path.relpath(bench.options.reports_dir)
            raise UsageError(
                f"the benchmark of {', '.join(others)} is not here, and {folder} has no other "
                "records",
                fix="name the file of its test, or its folder",
            )
        return bench

    def studies_elsewhere(self) -> list[str]:
        """Return the studies with records where all are of studies that were not collected.

        None where ``-k`` or ``-m`` chose the cells: who chooses may wait for the first record.
        """
        if self._config is None or self._chosen():
            return []
        folder = Bench.of(self._config).options.reports_dir
        kept = {view.parent.name for view in folder.glob("*/raw_runs") if any(view.iterdir())}
        return [] if kept & set(self.studies()) else sorted(kept)

    def names_a_reports_folder(self) -> bool:
        """Say whether ``--reports-dir`` was given."""
        return self._config is not None and bool(self._config.option.benchsuite_reports_dir)

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Remember Ctrl-C, which pytest keeps to itself; its own interruptions are another kind."""
        self.interrupted = excinfo.type is KeyboardInterrupt

    def models_asked_for(self) -> set[str]:
        """Return the models that ``-k`` or ``-m`` chose; none where neither was given."""
        return {cell.model for _, cell, _ in self.cells} if self._chosen() else set()

    def _chosen(self) -> bool:
        if self._config is None:
            return False
        return bool(self._config.option.keyword or self._config.option.markexpr)

    def studies(self) -> dict[str, Path]:
        """Return the collected studies and the file of each one's test."""
        return {cell.study: path for _, cell, path in self.cells}


def collect(arguments: Sequence[str]) -> Collected:
    """Collect as ``pytest`` would; the arguments are pytest's own (-k, -m, --reports-dir, ...)."""
    collected = Collected()
    command = [*_PLUGIN, *pytest_words(arguments), "--collect-only", "-q"]
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        status = pytest.main(command, plugins=[collected])
    if collected.interrupted:
        raise KeyboardInterrupt
    if collected.misspelt:
        raise UsageError("no cell is selected", fix=". ".join(collected.misspelt))
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        reason = " ".join(collected.failed[:1]) or _reason(output.getvalue())
        absent = re.search(r"\bnot found: (\S+)", reason)
        if absent:
            raise UsageError(
                f"there is no {absent[1]}",
                fix="name a file or a folder with benchmarks, or none for those of this folder",
            )
        if ". " in reason:  # ours, which says what to do already
            raise UsageError(reason)
        raise UsageError(
            f"pytest could not collect the cells: {reason}",
            fix="`pytest --collect-only` with the same words shows more",
        )
    return collected


def require_records(bench: Bench) -> None:
    """Raise a usage error for a reports folder that is not there, or holds no record."""
    folder = os.path.relpath(bench.options.reports_dir)
    fix = "name another with --reports-dir, or measure cells first: `benchsuite run`"
    if not bench.options.reports_dir.is_dir():
        raise UsageError(f"there is no folder {folder}", fix=fix)
    if next(bench.store.records.glob("*.json"), None) is None:
        raise UsageError(f"{folder} holds no records", fix=fix)


def pytest_words(arguments: Sequence[str]) -> list[str]:
    """Return a command line of pytest's: where the user named no path, with the usual one.

    The usual one is the folder ``benchmarks`` or, where there is none, ``benchsuite.benchmarks``.
    """
    words = joined(arguments)
    return words if _names_a_path(words) else [*usual_words(), *words]


def joined(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with the reports folder, and a plan, in one word with its option.

    As a word of its own pytest takes what exists for something with tests, and its root from it.
    """
    words: list[str] = []
    for word in arguments:
        if words and words[-1] in ("--reports-dir", "--plan"):
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


class _Read(Exception):
    """Carries what pytest read of a command line out of pytest, before it loads anything."""


class _Reader:
    @pytest.hookimpl(tryfirst=True)
    def pytest_load_initial_conftests(self, early_config: pytest.Config) -> None:
        raise _Read(early_config)


def _names_a_path(words: Sequence[str]) -> bool:
    """Say whether pytest would take one of the words for a file, a folder or a package."""
    if "--pyargs" in words:
        return True
    # Not Path.exists(), which raises for what no file system takes: a long -k or -m.
    there = [word for word in words if os.path.exists(word.partition("::")[0])]
    if not there:
        return False
    # It may be the value of an option, as in `-c pytest.ini`: only pytest knows.
    config = _read_by_pytest(words)  # or it cannot be read: the run itself says why
    return config is not None and bool(set(there) & set(config.known_args_namespace.file_or_dir))


def _read_by_pytest(words: Sequence[str]) -> pytest.Config | None:
    """Return pytest's configuration before a conftest is read; None where it refuses the words."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            pytest.main([*_PLUGIN, *words], plugins=[_Reader()])
        except _Read as read:
            return read.args[0]
    return None


def reports_folder() -> Path:
    """Return the reports folder of this folder's project, which its ini file may name."""
    config = _read_by_pytest(usual_words())
    if config is None:
        return Path("reports")
    return config.rootpath / str(config.getini("benchsuite_reports_dir"))


def _reason(output: str) -> str:
    """Return why a collection failed, from what pytest wrote."""
    said = output.splitlines()
    wrong = [line.partition("error: ")[2] for line in said if "(): error: " in line]
    broken = [line for line in said if line.startswith("ImportError while loading conftest")]
    if broken:
        return f"{broken[0].rstrip('.')}: {_last_words(output)}"
    wrong += [line for line in said if line.startswith("ERROR")]
    found = (wrong or said[-1:] or ["pytest does not say why"])[0].removeprefix("ERROR: ")
    return " ".join(found.split()).rstrip(".")


def _last_words(text: str) -> str:
    """Return what an error says at the end of its traceback, or a text without a traceback."""
    said = [line[1:].strip() for line in text.splitlines() if line.startswith("E  ")]
    return " ".join((said[-1] if said else text).split()).rstrip(".")


def register_own() -> None:
    """Load the conftest of the folder that the command is run in: it may register studies."""
    if Path("conftest.py").exists():
        collect([".", "--ignore-glob=*"])
