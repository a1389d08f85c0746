"""Starts a cell's engine processes ahead of their use and gives them their settings."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchsuite.engines.process import EngineProcess
from benchsuite.engines.registry import EngineEntry

DETERMINISTIC = "deterministic"

# Set before CUDA starts, or cuBLAS and vLLM never see them. The baseline runs without: what the
# calling process has set for itself must not make it deterministic.
_MODE_VARIABLES = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "VLLM_BATCH_INVARIANT": "1"}


class Launcher:
    """The engine processes of one cell: one for each mode, started at once, loaded one by one.

    Importing an engine's libraries takes longer than anything a small model does, so every
    process imports while another one measures; only one at a time holds a model. A mode adds
    ``settings`` to those of ``load`` and variables to the process' ``environment``; the mode
    ``deterministic`` also sets what must be set before CUDA starts.
    """

    settings: dict[str, Any]

    def __init__(
        self,
        name: str,
        entry: EngineEntry,
        folder: Path,
        *,
        python: str = sys.executable,
        threads: int = 1,
        modes: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self.name, self.entry, self.settings = name, entry, {"threads": threads}
        self._modes, self._python, self._folder = dict(modes), python, folder
        self.loaded: dict[str, Any] = {}
        self._waiting: dict[str, EngineProcess] = {}
        with ExitStack() as started:
            for mode in modes:
                self._waiting[mode] = started.enter_context(self._start(mode))
            started.pop_all()

    @property
    def modes(self) -> tuple[str, ...]:
        """The modes that this cell can run."""
        return tuple(self._modes)

    @contextmanager
    def running(self, mode: str) -> Iterator[EngineProcess]:
        """Load the model in the mode's process and end the process afterwards."""
        with self._waiting.pop(mode) as process:
            settings = self._settings(mode)
            self.loaded[mode] = process.load(**settings)
            yield process

    def close(self) -> None:
        """End the processes that were never used."""
        with ExitStack() as ended:
            for process in self._waiting.values():
                ended.callback(process.close)
        self._waiting = {}

    def _settings(self, mode: str) -> dict[str, Any]:
        """Return what ``load`` is given in a mode."""
        return {**self.settings, **self._modes[mode].get("settings", {})}

    def _start(self, mode: str) -> EngineProcess:
        variables: dict[str, str | None] = dict.fromkeys(_MODE_VARIABLES)
        if mode == DETERMINISTIC:
            variables |= _MODE_VARIABLES
        threads = str(self._settings(mode)["threads"])
        variables |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), threads)
        variables |= self._modes[mode].get("environment", {})
        log = self._folder / f"{mode}.log"
        return EngineProcess(
            self.name, self.entry, log=log, python=self._python, environment=variables
        )
