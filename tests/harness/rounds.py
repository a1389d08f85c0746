"""Real runs to be hurt: commands, the moments to hurt them at, and what must be left after."""

import contextlib
import ctypes
import json
import os
import random
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet

from benchsuite.records.reading import read_file

ROOT = Path(__file__).parents[2]
LONGEST = 300  # seconds without any event: the run hangs

_CREATE, _DELETE, _MOVED, _CLOSE_WRITE, _MODIFY = 0x100, 0x200, 0xC0, 0x8, 0x2
_EVENTS = _CREATE | _DELETE | _MOVED | _CLOSE_WRITE | _MODIFY
_HEADER_BYTES = 16  # of struct inotify_event; its last four bytes are the length of the name
_WATCHED = (".", "sessions", "store/records", "store/running", "store/artefacts")


class Watcher:
    """Counts what happens to the files of a reports folder, by inotify."""

    def __init__(self, reports: Path) -> None:
        libc = ctypes.CDLL(None)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK)
        for name in _WATCHED:
            (reports / name).mkdir(parents=True, exist_ok=True)
            assert libc.inotify_add_watch(self._descriptor, bytes(reports / name), _EVENTS) >= 0

    def wait(self, process: subprocess.Popen, moment: int | None) -> int:
        """Wait for that many events or for the end of the process; return the events seen."""
        ended, seen = os.pidfd_open(process.pid), 0
        while moment is None or seen < moment:
            ready, _, _ = select.select([self._descriptor, ended], [], [], LONGEST)
            if self._descriptor in ready:
                seen += self._count(os.read(self._descriptor, 1 << 16))
            else:
                break
        os.close(ended)
        return seen

    def _count(self, buffer: bytes) -> int:
        seen = position = 0
        while position < len(buffer):
            length = buffer[position + _HEADER_BYTES - 4 : position + _HEADER_BYTES]
            position += _HEADER_BYTES + int.from_bytes(length, sys.byteorder)
            seen += 1
        return seen

    def close(self) -> None:
        os.close(self._descriptor)


@dataclass
class Ended:
    """How a run ended: its status, what it said, how many events were seen."""

    status: int
    said: str
    events: int


Hurt = Callable[[subprocess.Popen], None]


@dataclass
class Command:
    """One pytest command on one reports folder; ``under`` are words to start it with."""

    folder: Path
    reports: Path
    arguments: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    under: tuple[str, ...] = ()

    def start(self, output: Path) -> subprocess.Popen:
        """Start it in a process group of its own."""
        with output.open("w") as file:
            return subprocess.Popen(
                [
                    *(*self.under, sys.executable, "-m", "pytest", "benchmarks"),
                    *("-p", "no:cacheprovider"),
                    *(f"--reports-dir={self.reports}", "--device=cpu", *self.arguments),
                ],
                cwd=self.folder,
                env=os.environ | self.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, *, kill_after: int | None = None, hurt: Hurt | None = None) -> Ended:
        """Run it to its end, or SIGKILL all its processes after so many events.

        With ``hurt`` that is done to the run instead, which then comes to its own end.
        """
        output = self.reports.with_suffix(".txt")
        watcher, process = Watcher(self.reports), self.start(output)
        try:
            events = watcher.wait(process, kill_after)
            if hurt is not None:
                hurt(process)
                watcher.wait(process, None)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            watcher.close()
        return Ended(process.returncode, output.read_text(), events)

    def complete(self) -> Ended:
        """Run it to its end, which must be a good one."""
        ended = self.run()
        assert ended.status == 0, ended.said
        return ended

    def status(self) -> str:
        """Return what ``benchsuite status`` says of the folder, which must be no error."""
        command = [sys.executable, "-m", "benchsuite", "status", f"--reports-dir={self.reports}"]
        local = [word for word in self.arguments if word.startswith("--local")]
        said = subprocess.run(
            [*command, *local], cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert said.returncode == 0, said.stdout + said.stderr
        return said.stdout


def run_together(commands: list[Command], moment: int, folder: Path) -> list[str]:
    """Run sessions on one reports folder, each begun ``moment`` events after the one before.

    All must end well; what each of them said is returned.
    """
    watcher = Watcher(commands[0].reports)
    outputs = [folder / f"session-{n}.txt" for n in range(len(commands))]
    processes: list[subprocess.Popen] = []
    for command, output in zip(commands, outputs, strict=True):
        if processes:
            watcher.wait(processes[0], moment)
        processes.append(command.start(output))
    statuses = [process.wait(LONGEST) for process in processes]
    watcher.close()
    said = [output.read_text() for output in outputs]
    assert not any(statuses), said
    return said


def heard(pipe: Path, process: subprocess.Popen) -> str:
    """Return the first words through a named pipe; none if the process is over before."""
    reading, ended = os.open(pipe, os.O_RDWR), os.pidfd_open(process.pid)
    ready, _, _ = select.select([reading, ended], [], [], LONGEST)
    words = os.read(reading, 1 << 16) if reading in ready else b""
    os.close(reading)
    os.close(ended)
    return words.decode()


def number(said: str, what: str) -> int:
    """Return the number that a session, or ``status``, says of something: ``"cached"``."""
    found = re.search(rf"(\d+) {what}", said)
    return int(found[1]) if found else 0


def record_files(reports: Path) -> dict[str, bytes]:
    """Return the files of the store's records by name; drafts are not records."""
    folder = reports / "store/records"
    return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.startswith(".draft-")}


def check_records(reports: Path) -> dict[str, str]:
    """Check every record file for completeness; return the good records' measured digests."""
    found: dict[str, str] = {}
    for name in record_files(reports):
        path = reports / "store/records" / name
        if path.suffix == ".json":
            record = read_file(path)
            assert record.passed
            if record.items:
                pyarrow.parquet.read_table(path.parent / record.items.file)
            cell = f"{record.cell.study}/{record.cell.id}"
            assert cell not in found, "counted twice"
            found[cell] = record.results_sha256
        else:
            assert path.suffix in (".parquet", ".log")
    return found


def check_whole(reports: Path, expected: dict[str, str]) -> None:
    """Check that a completed run left what an unbroken one leaves, and nothing else."""
    assert check_records(reports) == expected
    assert not list(reports.rglob(".draft-*"))
    assert not list((reports / "store/records").glob("*.rerun-*"))
    assert not list((reports / "store/running").glob("*.json"))
    assert not (reports / "store/moved_aside").exists()
    views = [json.loads(p.read_bytes()) for p in reports.glob("*/raw_runs/*.json")]
    shown = {f"{v['cell']['study']}/{v['cell']['id']}": v["results_sha256"] for v in views}
    assert shown == expected
    for folder in (reports / "store/artefacts").iterdir():
        assert folder.suffix == ".lock" or (folder / "artefact.json").is_file()


def kept(before: dict[str, bytes], reports: Path) -> bool:
    """Say whether every record that was there is, and its side file, byte for byte.

    A side file whose record was never written is no record's, and may go.
    """
    after = record_files(reports)
    names = [name for name in before if name.endswith(".json")]
    sides = [_side(before[name]) for name in names]
    return all(after.get(n) == before[n] for n in (*names, *filter(None, sides)))


def _side(record: bytes) -> str:
    items = json.loads(record)["items"]
    return items["file"] if items else ""


def damage(content: bytes, draw: random.Random) -> bytes:
    """Flip a bit of, delete or insert one byte."""
    where = draw.randrange(len(content))
    kind = draw.choice(("flip", "delete", "insert"))
    if kind == "flip":
        changed = bytes([content[where] ^ (1 << draw.randrange(8))])
        return content[:where] + changed + content[where + 1 :]
    if kind == "delete":
        return content[:where] + content[where + 1 :]
    return content[:where] + bytes([draw.randrange(256)]) + content[where:]


def hurt(path: Path, alike: list[Path], draw: random.Random) -> None:
    """Change a byte of a file, cut it, remove it, or swap it with one of its kind.

    A folder is removed or swapped.
    """
    kind = draw.choice(("remove", "swap") if path.is_dir() else ("byte", "cut", "remove", "swap"))
    if kind == "swap":
        other, between = draw.choice(alike), path.with_name("between")
        path.rename(between)
        if other != path:
            other.rename(path)
        between.rename(other)
    elif kind == "remove" and path.is_dir():
        shutil.rmtree(path)
    elif kind == "remove":
        path.unlink()
    elif not (content := path.read_bytes()):
        path.write_bytes(draw.randbytes(8))
    elif kind == "cut":
        path.write_bytes(content[: draw.randrange(len(content))])
    else:
        path.write_bytes(damage(content, draw))


def undamaged(before: dict[str, bytes], after: dict[str, bytes]) -> set[str]:
    """Return the records that say what they said, side file and all. The store is not asked."""

    def is_good(name: str) -> bool:
        side = _side(before[name])
        same = _meaning(after.get(name, b"")) == _meaning(before[name])
        return same and (not side or after.get(side) == before[side])

    names = (name for name in before if name.endswith(".json"))
    return {name for name in names if is_good(name)}


def _meaning(content: bytes) -> str | None:
    """Return what a JSON file says: blanks between its parts say nothing."""
    try:
        return json.dumps(json.loads(content.decode()))
    except ValueError:
        return None
