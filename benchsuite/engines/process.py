"""The other end of an engine's process: start it, ask it, end it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchsuite.engines import validation, worker
from benchsuite.engines.limits import IMPORT_SECONDS, allowed_seconds
from benchsuite.engines.registry import EngineEntry
from benchsuite.errors import BenchsuiteError

_SHOWN_LOG_LINES = 3
_SHOWN_LOG_BYTES = 4096
_GOODBYE_SECONDS = 60.0
_KILL_SECONDS = 10.0


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

    ``environment`` is set before the process starts (None removes a variable). What it prints goes
    to the file ``log``. It ends with this process, however this one ends
    (`benchsuite.engines.keeper`). Every request raises ``EngineError``: with the engine's own
    message, where its answer cannot be right, where it ends instead of answering, and where it
    takes longer than `allowed_seconds`. After the last two, and where a request is interrupted, the
    process is gone.
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
        self._asked, self._answered, self._received = 0, False, b""
        merged = {**os.environ, **entry.environment, **(environment or {})}
        self._channel, theirs = socket.socketpair()
        with theirs, log.open("wb") as output:
            command = [python, worker.__file__, entry.module, str(theirs.fileno())]
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,  # never read: the keeper lives as long as it is open
                    stdout=output,
                    stderr=output,
                    env={key: value for key, value in merged.items() if value is not None},
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,  # Ctrl-C is for this process, which may let it finish
                )
            except OSError as error:
                self._channel.close()
                raise EngineError(
                    f"{name} cannot be started with {python}: {error.strerror}",
                    fix=f"name its interpreter with --engine-python {name}=PATH",
                ) from error

    def ask(self, do: str, **arguments: Any) -> Any:
        """Return the engine's answer to one request; of what is in it, only numbers are checked."""
        self._asked += 1
        request = json.dumps({"to": self._asked, "do": do, "with": arguments})
        limit = allowed_seconds(do, arguments) + (0 if self._answered else IMPORT_SECONDS)
        try:
            line = self._exchange(request.encode() + b"\n", limit)
        except TimeoutError as error:
            self._kill()
            raise self._error(
                f"was asked to {do} and did not answer within {limit:,.0f} s", self._last_words()
            ) from error
        except OSError as error:
            raise self._died(do) from error
        except BaseException:  # interrupted: an answer that still came would be taken for the next
            self._kill()
            raise
        self._answered = True
        with self._checking(do):
            answer = validation.answer(line, self._asked)
        if "error" in answer:
            raise self._error(f"could not {do}", _paragraph(answer["error"]))
        return answer["answer"]

    def load(self, **settings: Any) -> dict[str, Any]:
        """Make a model ready; return what the engine says about it."""
        answer = self.ask("load", **settings)
        with self._checking("load"):
            return validation.loaded(answer)

    def prepare(self, folder: Path | None, **what: Any) -> dict[str, Any]:
        """Let the engine make the files that it loads; return at least ``weights_sha256``."""
        answer = self.ask("prepare", folder=str(folder) if folder else None, **what)
        with self._checking("prepare"):
            return validation.prepared(answer)

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> Generated:
        """Return ``max_tokens`` greedy tokens for each prompt, as one batch."""
        answer = self.ask("generate", prompts=_lists(prompts), max_tokens=max_tokens)
        with self._checking("generate"):
            made = validation.generated(answer, len(prompts), max_tokens)
        return Generated(np.array(made["tokens"], np.int64), np.array(made["logprobs"], np.float64))

    def score(self, prompts: Sequence[Sequence[int]]) -> dict[str, Any]:
        """Return ``logprobs`` and ``best`` of every token after a prompt's first, lists of rows."""
        answer = self.ask("score", prompts=_lists(prompts))
        with self._checking("score"):
            return validation.scored(answer, prompts)

    def judge(
        self, prompts: Sequence[Sequence[int]], served: Sequence[Sequence[int]]
    ) -> dict[str, Any]:
        """Return ``ranks`` and ``margins`` of tokens ``served`` after prompts, lists of rows."""
        answer = self.ask("judge", prompts=_lists(prompts), served=_lists(served))
        with self._checking("judge"):
            return validation.judged(answer, [len(tokens) for tokens in served])

    def kernels(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> dict[str, Any]:
        """Return ``profiling_succeeded`` and ``all_kernels`` of one batch under a profiler."""
        answer = self.ask("kernels", prompts=_lists(prompts), max_tokens=max_tokens)
        with self._checking("kernels"):
            return validation.kernels(answer)

    def latency(
        self, prompt: Sequence[int], max_tokens: int, *, repeats: int, warmup: int
    ) -> dict[str, Any]:
        """Return the ``seconds`` of each repetition and ``peak_memory_bytes``, for one sample."""
        asked = {"max_tokens": max_tokens, "repeats": repeats, "warmup": warmup}
        answer = self.ask("latency", prompt=list(prompt), **asked)
        with self._checking("latency"):
            return validation.timed(answer, repeats)

    def close(self) -> None:
        """End the process and wait until it is gone, its memory with it.

        One that has answered may finish what its libraries do at their end; one that still imports
        is killed.
        """
        try:
            if self._answered and self._process.poll() is None:
                with suppress(OSError, subprocess.TimeoutExpired):
                    self._channel.shutdown(socket.SHUT_WR)
                    self._process.wait(_GOODBYE_SECONDS)
        finally:
            self._kill()
            self._channel.close()

    def __enter__(self) -> "EngineProcess":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _exchange(self, request: bytes, limit: float) -> bytes:
        """Send a line and return the next that comes; ``OSError`` where the process has ended."""
        end = time.monotonic() + limit
        self._channel.settimeout(limit)
        self._channel.sendall(request)
        while b"\n" not in self._received:
            self._channel.settimeout(max(end - time.monotonic(), 0.001))
            part = self._channel.recv(2**20)
            if not part:
                raise ConnectionResetError
            self._received += part
        line, _, self._received = self._received.partition(b"\n")
        return line

    @contextmanager
    def _checking(self, do: str) -> Iterator[None]:
        """Turn a refused answer into an ``EngineError``."""
        try:
            yield
        except validation.Refused as refused:
            if isinstance(refused, validation.NoAnswer):
                self._kill()
            raise self._error(f"was asked to {do} and answered {refused}") from refused

    def _kill(self) -> None:
        """Let the keeper kill the engine and all that it started; wait until it has."""
        assert self._process.stdin is not None
        # A byte, because the end alone does not come where a fork of this process holds the pipe.
        with suppress(OSError, ValueError):
            self._process.stdin.write(b"\n")
            self._process.stdin.close()
        try:
            self._process.wait(_KILL_SECONDS)
        except subprocess.TimeoutExpired:  # the keeper itself is stopped
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _died(self, do: str) -> EngineError:
        with suppress(subprocess.TimeoutExpired):  # its status, unless it only closed the socket
            self._process.wait(_KILL_SECONDS)
        self._kill()
        when = " in the middle of its answer" if self._received else ""
        status = _status(self._process.returncode)
        return self._error(f"ended with {status}{when} when asked to {do}", self._last_words())

    def _last_words(self) -> str:
        """Return the end of the log."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _SHOWN_LOG_BYTES))
                text = file.read().decode(errors="replace")
        except OSError:
            return "its log cannot be read"
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return " / ".join(lines[-_SHOWN_LOG_LINES:]) or "it said nothing"

    def _error(self, what: str, words: str = "") -> EngineError:
        return EngineError(
            f"{self.name} {what}{': ' if words else ''}{words}", fix=f"see {self.log}"
        )


def _lists(prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    return [list(prompt) for prompt in prompts]


def _status(code: int) -> str:
    """Return a keeper's status as text; 128 + N and -N are those of the signal N."""
    number = code - 128 if code > 128 else -code
    try:
        return f"status {code} ({signal.Signals(number).name})"
    except ValueError:
        return f"status {code}"


def _paragraph(text: str) -> str:
    """Return a message as one paragraph that can be written anywhere."""
    return " ".join(text.split()).encode(errors="replace").decode()
