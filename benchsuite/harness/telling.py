"""What a session tells those who watch it from elsewhere: how each of its items ended."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchsuite.harness.items import run_of
from benchsuite.records.files import Owner
from benchsuite.records.journal import Ended, Journal, Plan

_LONGEST_REASON = 300


class Telling:
    """Keeps the session's journal in its ``folder``; ``chosen`` are the items it is to run."""

    def __init__(
        self,
        config: pytest.Config,
        folder: Path,
        chosen: Sequence[str],
        *,
        began: float,
        goes_on: bool,
    ) -> None:
        distributed: Any = config.pluginmanager.get_plugin("dsession")
        plan = Plan(
            owner=Owner.me(),
            run=run_of(config),
            began=began,
            words=tuple(map(str, config.invocation_params.args)),
            workers=len(distributed.nodemanager.specs) if distributed else 1,
            goes_on=goes_on,
            items=tuple(chosen),
        )
        self._journal = Journal(folder, plan)
        self._bad: dict[str, tuple[str, str]] = {}

    def report(
        self, report: pytest.TestReport, left: Mapping[str, Any], spent: Mapping[str, Any]
    ) -> None:
        """Take one of an item's reports; its teardown, or the end of its worker, ends it.

        ``left`` is what its cell left so far, ``spent`` the seconds of its phases.
        """
        if report.when == "setup":
            self._bad.pop(report.nodeid, None)
        if report.failed or report.skipped:
            self._bad.setdefault(report.nodeid, _why(report))
        if report.when in ("setup", "call"):
            return
        seconds = sum(v for k, v in spent.items() if k.endswith("_seconds"))
        outcome, reason = self._bad.pop(report.nodeid, ("passed", ""))
        if outcome == "passed" and left.get("state") == "cached":
            outcome, seconds = "cached", left["spent"]
        self._journal.item(Ended(report.nodeid, outcome, seconds, spent["worker"], reason))

    def end(self, status: int) -> None:
        """Say that the session is over, with pytest's exit status."""
        self._journal.end(status)


def _why(report: pytest.TestReport) -> tuple[str, str]:
    if report.skipped:
        told = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        return "skipped", told.removeprefix("Skipped: ")[:_LONGEST_REASON]
    # Of a traceback pytest's own short form, of a paragraph its beginning.
    crash: Any = getattr(report.longrepr, "reprcrash", None)
    told = crash.message if crash else str(report.longrepr)
    return "failed", " ".join(told.split())[:_LONGEST_REASON]
