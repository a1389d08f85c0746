"""Where a long cell is: one line that rewrites itself on a terminal, and a note for who watches."""

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

from benchsuite.printable import printable

_SECONDS_BETWEEN_LINES = 0.2
_SECONDS_BETWEEN_NOTES = 1.0
# And of the time that a step has taken: of a step that takes a day there are 800 notes.
_SHARE_BETWEEN_NOTES = 0.01


class Progress:
    """Shows stage and layer of the running cell; silent under xdist and in log files.

    The line is the one below pytest's own, whose dots and widths stay as pytest left them.
    ``tell(step, done, total, since)`` is told too, whatever the output is, once a second at most;
    ``since`` is when the step began, in seconds of the clock.
    """

    def __init__(
        self,
        config: pytest.Config,
        cell_id: str,
        tell: Callable[[str, int, int, float], None] = lambda step, done, total, since: None,
    ) -> None:
        reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
        self._writer: Any = getattr(reporter, "_tw", None)
        self._config = config
        self._on = bool(
            self._writer is not None
            and reporter.isatty
            and not hasattr(config, "workerinput")
            and os.environ.get("TERM") != "dumb"
        )
        self._cell_id = cell_id
        self._tell = tell
        self._step, self._began, self._told = "", 0.0, time.monotonic()
        self._last = 0.0
        self._shown = False

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` steps of ``stage`` are finished."""
        now = time.monotonic()
        self._note(now, stage, done, total)
        if not self._on or (now - self._last < _SECONDS_BETWEEN_LINES and done != total):
            return
        self._last = now
        self._show(printable(f"{self._cell_id}: {stage} {done}/{total}"))

    def _note(self, now: float, step: str, done: int, total: int) -> None:
        if step != self._step or done == 0:
            self._step, self._began = step, now
        taken = now - self._began
        if now - self._told >= max(_SECONDS_BETWEEN_NOTES, _SHARE_BETWEEN_NOTES * taken):
            self._told = now
            self._tell(step, done, total, round(time.time() - taken, 3))

    def clear(self) -> None:
        """Take the line away again."""
        if self._shown:
            self._show("")

    def _show(self, text: str) -> None:
        column = self._writer.width_of_current_line + 1
        line = self._writer.markup(text[: self._writer.fullwidth - 1], cyan=True)
        with uncaptured(self._config):
            # Down, erase, write, up again, and back to the column where pytest goes on.
            self._writer._file.write(f"\r\n\x1b[2K{line}\x1b[1A\x1b[{column}G")
            self._writer.flush()
        self._shown = bool(text)


def uncaptured(config: pytest.Config) -> AbstractContextManager[None]:
    """Let text past pytest's capture: it is for the person who watches, not for the report."""
    capture = config.pluginmanager.get_plugin("capturemanager")
    return capture.global_and_fixture_disabled() if capture else nullcontext()
