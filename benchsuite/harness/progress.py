"""Where a long cell is: one line that rewrites itself, when the output is a terminal."""

import os
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

from benchsuite.printable import printable

_SECONDS_BETWEEN_LINES = 0.2


class Progress:
    """Shows stage and layer of the running cell; silent under xdist and in log files.

    The line is the one below pytest's own, whose dots and widths stay as pytest left them.
    """

    def __init__(self, config: pytest.Config, cell_id: str) -> None:
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
        self._last = 0.0
        self._shown = False

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` steps of ``stage`` are finished."""
        now = time.monotonic()
        if not self._on or (now - self._last < _SECONDS_BETWEEN_LINES and done != total):
            return
        self._last = now
        self._show(printable(f"{self._cell_id}: {stage} {done}/{total}"))

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
