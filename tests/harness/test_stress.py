"""Long rounds of violence: SIGKILL at random moments, damaged files, two sessions at once.

    pytest tests/harness/test_stress.py -m stress

Moments are counted in file system events under the reports folder, so that a kill can fall
between any two steps of a write. Everything random is drawn from seeds given here.
"""

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
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet
import pytest

from benchsuite.record import verify
from benchsuite.store import Store
from tests.harness.conftest import PROJECT

pytestmark = pytest.mark.stress

ROOT = Path(__file__).parents[2]
MOMENTS = 10
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


@dataclass
class Command:
    """One pytest command on one reports folder."""

    folder: Path
    reports: Path
    arguments: tuple[str, ...]

    def start(self, output: Path) -> subprocess.Popen:
        """Start it in a process group of its own."""
        with output.open("w") as file:
            return subprocess.Popen(
                [
                    *(sys.executable, "-m", "pytest", "benchmarks", "-p", "no:cacheprovider"),
                    *(f"--reports-dir={self.reports}", "--device=cpu", *self.arguments),
                ],
                cwd=self.folder,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, *, kill_after: int | None = None) -> Ended:
        """Run it to its end, or SIGKILL all its processes after so many events."""
        output = self.reports.with_suffix(".txt")
        watcher, process = Watcher(self.reports), self.start(output)
        try:
            events = watcher.wait(process, kill_after)
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


def record_files(reports: Path) -> dict[str, bytes]:
    """Return the files of the store's records by name; drafts are not records."""
    folder = reports / "store/records"
    return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.startswith(".draft-")}


def check_records(reports: Path) -> dict[str, str]:
    """Check every record file for completeness; return the good records' measured digests."""
    found: dict[str, str] = {}
    for name, content in record_files(reports).items():
        path = reports / "store/records" / name
        if path.suffix == ".json":
            record = verify(json.loads(content), path)
            assert record["outcome"] == "passed"
            if record["items"]:
                pyarrow.parquet.read_table(path.parent / record["items"]["file"])
            cell = f"{record['cell']['study']}/{record['cell']['id']}"
            assert cell not in found, "counted twice"
            found[cell] = record["results_sha256"]
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
    """Say whether every file that was there is still there byte for byte."""
    after = record_files(reports)
    return all(after.get(name) == content for name, content in before.items())


# --- SIGKILL


@pytest.fixture(scope="module", params=["0", "2"])
def toys(request, tmp_path_factory):
    """The toy project, the number of events of an unbroken run, and what it measured."""
    folder = tmp_path_factory.mktemp("toys")
    shutil.copytree(PROJECT, folder / "project")
    command = Command(folder / "project", folder / "unbroken", ("-n", request.param))
    events = command.complete().events
    expected = check_records(command.reports)
    assert len(expected) == 72
    return command, events, expected


@pytest.mark.parametrize("seed", range(MOMENTS))
def test_toys_killed_once_complete_with_nothing_lost(toys, seed, tmp_path):
    unbroken, events, expected = toys
    command = Command(unbroken.folder, tmp_path / "reports", unbroken.arguments)
    moment = random.Random(seed).randrange(1, events)
    killed = command.run(kill_after=moment)
    assert killed.status == -signal.SIGKILL, "the run was over before its moment"
    before = record_files(command.reports)
    measured = check_records(command.reports)
    ended = command.complete()
    assert kept(before, command.reports)
    check_whole(command.reports, expected)
    # What was complete is not measured again.
    cached = re.search(r"(\d+) cached", ended.said)
    assert int(cached[1] if cached else 0) == len(measured)


REAL = (
    *("-k", "calibration_selection and tiny_llama_1m and (random or gptq_default)"),
    "--set=calibration_selection.n_calibration_samples=8",
    "--set=calibration_selection.seq_len=64",
    "--set=calibration_selection.evaluation_tokens=4096",
)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_real_study_killed_ten_times_in_a_row_completes(workers, tmp_path):
    arguments = (*REAL, "-n", workers)
    unbroken = Command(ROOT, tmp_path / "unbroken", arguments)
    events = unbroken.complete().events
    expected = check_records(unbroken.reports)
    assert len(expected) == 10
    draw = random.Random(int(workers))
    command = Command(ROOT, tmp_path / "reports", arguments)
    before: dict[str, bytes] = {}
    for _ in range(MOMENTS):
        # A fifth of the whole at most: so every kill meets work that is left.
        killed = command.run(kill_after=draw.randrange(1, events // 5))
        assert kept(before, command.reports)
        before = record_files(command.reports)
        assert check_records(command.reports).items() <= expected.items()
        if killed.status != -signal.SIGKILL:
            break
    command.complete()
    assert kept(before, command.reports)
    check_whole(command.reports, expected)


# --- two sessions


@pytest.mark.parametrize("seed", range(3))
def test_two_sessions_of_two_workers_on_one_folder_measure_each_cell_once(seed, toys, tmp_path):
    unbroken, _, expected = toys
    reports = tmp_path / "reports"
    first = Command(unbroken.folder, reports, ("-n", "2"))
    second = Command(unbroken.folder, reports, ("-n", "2", "-v"))
    watcher, one = Watcher(reports), first.start(tmp_path / "first.txt")
    watcher.wait(one, random.Random(seed).randrange(1, 400))
    other = second.start(tmp_path / "second.txt")
    statuses = one.wait(LONGEST), other.wait(LONGEST)
    watcher.close()
    said = [(tmp_path / name).read_text() for name in ("first.txt", "second.txt")]
    assert statuses == (0, 0), said
    check_whole(reports, expected)
    passed = [re.search(r"(\d+) passed", text) for text in said]
    assert sum(int(match[1]) for match in passed if match) == len(expected)


# --- damage


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


@pytest.fixture(scope="module")
def measured_toys(tmp_path_factory):
    """The toy project, run."""
    folder = tmp_path_factory.mktemp("damaged")
    shutil.copytree(PROJECT, folder, dirs_exist_ok=True)
    Command(folder, folder / "reports", ()).complete()
    return folder


def test_a_thousand_damaged_records_are_moved_aside_or_say_the_same(measured_toys, tmp_path):
    draw = random.Random(0)
    shutil.copytree(measured_toys / "reports", tmp_path / "reports")
    store = Store(tmp_path / "reports")
    paths = sorted(store.records.glob("*.json"))
    for _ in range(1000):
        path = draw.choice(paths)
        whole = path.read_bytes()
        path.write_bytes(damage(whole, draw))
        store.moved_aside.clear()
        record = store.read(path.stem)
        if record is None:
            assert not path.exists()
            assert store.moved_aside[0].startswith(path.name)
        else:
            assert record == json.loads(whole)
        path.write_bytes(whole)


@pytest.mark.parametrize("seed", range(5))
def test_status_and_the_next_run_survive_damage_everywhere(measured_toys, seed, tmp_path):
    draw = random.Random(seed)
    shutil.copytree(measured_toys, tmp_path / "project")
    reports = tmp_path / "project/reports"
    expected = check_records(reports)
    kinds = ("store/records/*", "*/raw_runs/*.json", "store/running/*", "*.html", "*/summary*")
    files = sorted(p for kind in kinds for p in reports.glob(kind) if p.stat().st_size)
    hurt = draw.sample(files, len(files) // 2)
    for path in hurt:
        path.write_bytes(damage(path.read_bytes(), draw))
    command = [sys.executable, "-m", "benchsuite.cli", "status"]
    said = subprocess.run(command, cwd=reports.parent, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    last = next(line for line in said.stdout.splitlines() if re.match(r"\d+ (done|missing)", line))
    assert sum(map(int, re.findall(r"\d+", last))) == len(expected)
    assert "moved aside: " in said.stdout
    Command(reports.parent, reports, ()).complete()
    assert check_records(reports) == expected
