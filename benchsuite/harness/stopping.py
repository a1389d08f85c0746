"""How a session ends before its last cell: Ctrl-C, SIGTERM, a full disk.

Ctrl-C once, or SIGTERM, lets the running cells finish and starts no other. Ctrl-C again, or the
end of the notice that a SIGTERM gives, abandons them: no record, no marker, and the same command
resumes.
"""

import contextlib
import signal
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from benchsuite.harness.items import stop_file
from benchsuite.records.running import sign
from benchsuite.reporting.commands import as_typed

NOTICE = 20.0
"""Seconds that cells may run on after SIGTERM. Clusters kill 30 s after it: the rest is for the
report."""


class Stopping:
    """The signals of the process that controls a session; ``reason`` is empty until one comes."""

    def __init__(self, config: pytest.Config, say: Callable[[str], None]) -> None:
        self._config, self._say = config, say
        self._before: dict[int, Any] = {}
        self.reason = ""

    def install(self) -> None:
        """Listen, from the first cell on."""
        self._before[signal.SIGINT] = signal.signal(signal.SIGINT, self._on_interrupt)
        self._before[signal.SIGTERM] = signal.signal(signal.SIGTERM, self._on_terminate)

    def restore(self) -> None:
        """Give the signals back and forget the notice; the last cell is finished."""
        if notice_runs():
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _on_interrupt(self, number: int, frame: Any) -> None:
        if self.reason:
            self.restore()
            raise KeyboardInterrupt
        self.stop("interrupted; the same command resumes")
        self._say("Ctrl-C: finishing the running cells; once more stops at once")

    def _on_terminate(self, number: int, frame: Any) -> None:
        if notice_runs():
            return
        self.stop("terminated; the same command resumes")
        self._say(f"SIGTERM: the running cells have {NOTICE:.0f} s to finish")
        if self._config.pluginmanager.get_plugin("dsession") is not None:
            for worker in psutil.Process().children():
                worker.terminate()
        begin_notice()

    def stop(self, reason: str) -> None:
        """Let running cells finish and start no other, here and in the workers."""
        self.reason = self.reason or reason
        with contextlib.suppress(OSError):
            sign(stop_file(self._config))
        for name in ("dsession", "session"):
            plugin: Any = self._config.pluginmanager.get_plugin(name)
            if plugin is not None:
                plugin.shouldstop = reason

    def resume(self) -> str:
        """Return the command that goes on from here."""
        return as_typed(["pytest", *map(str, self._config.invocation_params.args)])


def begin_notice() -> None:
    """Interrupt this process, as a second Ctrl-C would, when the notice is over."""
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, NOTICE)


def notice_runs() -> bool:
    """Say whether the timer that runs is the notice; pytest-timeout has the same one."""
    ours = signal.getsignal(signal.SIGALRM) is signal.default_int_handler
    return ours and signal.getitimer(signal.ITIMER_REAL)[0] > 0


def finish_the_cell_first() -> None:
    """Let a worker finish its cell when a signal to the whole group reaches it too."""

    def stop_at_the_next(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def terminate(number: int, frame: Any) -> None:
        if not notice_runs():
            begin_notice()

    signal.signal(signal.SIGINT, stop_at_the_next)
    signal.signal(signal.SIGTERM, terminate)
