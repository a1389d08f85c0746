"""How busy this machine's GPUs are at this moment, as nvidia-smi tells it."""

import csv
import shutil
import subprocess
import time
from dataclasses import dataclass

_EVERY = 2.0
_HANGS = 30.0
_ONCE = 10.0


@dataclass(frozen=True)
class Use:
    """A GPU: nvidia-smi's number, per cent of the time it was busy, bytes held and in all."""

    number: int
    busy: int
    held: int
    memory: int


class GpuUse:
    """Asks nvidia-smi again and again beside what else goes on: some machines take seconds."""

    def __init__(self) -> None:
        self._program = shutil.which("nvidia-smi")
        self._asked: subprocess.Popen[str] | None = None
        self._since = float("-inf")
        self._known: dict[str, Use] = {}

    def latest(self) -> dict[str, Use]:
        """Return UUID -> what was told last, which a later call may know better."""
        now = time.monotonic()
        if self._asked is None:
            if self._program and now - self._since >= _EVERY:
                self._ask()
        elif self._asked.poll() is not None:
            self._known = _read(self._asked.communicate()[0])
            self._asked = None
        elif now - self._since > _HANGS:
            self.close()
            self._known = {}
        return self._known

    def once(self) -> dict[str, Use]:
        """Ask now and wait for the answer; empty where none comes in time."""
        if self._program:
            self._ask()
        if self._asked is not None:
            try:
                self._known = _read(self._asked.communicate(timeout=_ONCE)[0])
            except subprocess.TimeoutExpired:
                self.close()
        return self._known

    def close(self) -> None:
        """Leave no process behind."""
        if self._asked is not None:
            self._asked.kill()
            self._asked.communicate()
            self._asked = None

    def _ask(self) -> None:
        self._since = time.monotonic()
        query = "index,uuid,utilization.gpu,memory.used,memory.total"
        command = [str(self._program), f"--query-gpu={query}", "--format=csv,noheader,nounits"]
        try:
            self._asked = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError:
            self._program = None


def _read(answer: str) -> dict[str, Use]:
    found = {}
    for row in csv.reader(answer.splitlines(), skipinitialspace=True):
        # A GPU in parts, or one that shares the system's memory, answers with words.
        numbers = [int(text) if text.strip().isdigit() else 0 for text in (row[0:1] + row[2:])]
        if len(numbers) == 4:
            index, busy, held, memory = numbers
            found[row[1].strip()] = Use(index, busy, held << 20, memory << 20)
    return found
