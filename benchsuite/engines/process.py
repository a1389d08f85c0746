"""The other end of an engine's process: start it, ask it, end it."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchsuite.engines.registry import EngineEntry
from benchsuite.errors import BenchsuiteError

WORKER = Path(__file__).with_name("worker.py")
_SHOWN_LOG_LINES = 3


class EngineError(BenchsuiteError):
    """An engine could not do what it was asked."""


@dataclass(frozen=True)
class Generated:
    """Greedy completions of a batch: ``tokens`` int64 and ``logprobs`` float64, [prompts, steps].

    ``logprobs`` are those of the chosen tokens in nats, each the exact widening of what the engine
    computed: equal bits there are equal bits here.
    """

    tokens: np.ndarray
    logprobs: np.ndarray

    def __getitem__(self, row: int) -> "Generated":
        """Return one completion of the batch, still two-dimensional."""
        return Generated(self.tokens[row][None], self.logprobs[row][None])


class EngineProcess:
    """One engine in a process of its own; a context manager that ends it.

    ``environment`` is set before the process starts (None removes a variable). Its stderr goes to
    the file ``log``. Every request raises ``EngineError`` with the engine's own message.
    """

    def __init__(
        self,
        name: str,
        entry: EngineEntry,
        *,
        log: Path,
        python: str = sys.executable,
        environment: Mapping[str, str | None] | None = None,
    ) -> None:
        self.name, self.log = name, log
        merged = {**os.environ, **entry.environment, **(environment or {})}
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [python, str(WORKER), entry.module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={key: value for key, value in merged.items() if value is not None},
                text=True,
                encoding="utf-8",
            )

    def ask(self, do: str, **arguments: Any) -> Any:
        """Return the engine's answer to one request."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise self._died(do)
        answer = json.loads(line)
        if "error" in answer:
            raise EngineError(
                f"{self.name} could not {do}: {answer['error'].strip()}", fix=f"see {self.log}"
            )
        return answer["answer"]

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> Generated:
        """Return ``max_tokens`` greedy tokens for each prompt, as one batch."""
        made = self.ask("generate", prompts=[list(p) for p in prompts], max_tokens=max_tokens)
        tokens = np.array(made["tokens"], np.int64)
        logprobs = np.array(made["logprobs"], np.float64)
        if tokens.shape != (len(prompts), max_tokens) or logprobs.shape != tokens.shape:
            raise EngineError(
                f"{self.name} returned tokens of shape {tokens.shape} and log-probs of shape "
                f"{logprobs.shape} for {len(prompts)} prompts and {max_tokens} tokens",
                fix=f"see {self.log}",
            )
        return Generated(tokens, logprobs)

    def close(self) -> None:
        """End the process and wait until it is gone, its memory with it."""
        if self._process.poll() is None:
            try:
                self._process.communicate(json.dumps({"do": "quit"}) + "\n", timeout=60)
            except (subprocess.TimeoutExpired, BrokenPipeError, ValueError):
                self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):  # a request that a dead process never took
                    stream.close()

    def __enter__(self) -> "EngineProcess":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _died(self, do: str) -> EngineError:
        status = self._process.wait()
        lines = self.log.read_text(errors="replace").strip().splitlines()
        last = " / ".join(lines[-_SHOWN_LOG_LINES:]) or "it said nothing"
        return EngineError(
            f"the process of {self.name} ended with status {status} when asked to {do}: {last}",
            fix=f"see {self.log}",
        )
