"""Faults that a machine makes, one at a time: lost processes, odd clocks, notice, cut files.

pytest tests/harness/test_stress_faults.py -m stress
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
from datetime import datetime, timedelta

import psutil
import pytest

from benchsuite.catalog import Sources
from benchsuite.corpora import load_text
from benchsuite.errors import BenchsuiteError
from benchsuite.models import load
from benchsuite.records.forms import as_text, sealed
from benchsuite.records.store import Store
from tests.conftest import PROJECT
from tests.harness.rounds import Command, check_records, check_whole, damage, kept, record_files
from tests.models import tiny

pytestmark = pytest.mark.stress

ROUNDS = 25


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The toy project run by two workers, the events of that run, and what it measured."""
    folder = tmp_path_factory.mktemp("unbroken")
    shutil.copytree(PROJECT, folder / "project")
    command = Command(folder / "project", folder / "reports", ("-n", "2"))
    events = command.complete().events
    return command, events, check_records(command.reports)


def again(command, reports, *arguments, **environment):
    return Command(command.folder, reports, arguments or command.arguments, environment)


# --- one process of several is lost


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_the_controller_killed_alone_takes_its_workers_along_and_nothing_is_lost(
    unbroken, seed, tmp_path
):
    first, events, expected = unbroken
    command = again(first, tmp_path / "reports")
    workers = []

    def kill_the_controller(process):
        workers.extend(psutil.Process(process.pid).children())
        process.kill()

    moment = random.Random(seed).randrange(1, events)
    assert command.run(kill_after=moment, hurt=kill_the_controller).status == -signal.SIGKILL
    psutil.wait_procs(workers, timeout=60)
    assert not [worker for worker in workers if worker.is_running()]
    before = record_files(command.reports)
    command.complete()
    assert kept(before, command.reports)
    check_whole(command.reports, expected)


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_a_worker_killed_fails_its_cell_once_and_the_next_run_completes_it(
    unbroken, seed, tmp_path
):
    first, events, expected = unbroken
    command = again(first, tmp_path / "reports")
    draw = random.Random(seed)

    def kill_a_worker(process):
        workers = psutil.Process(process.pid).children()
        if workers:  # a moment before the first, or after the last one, hurts nobody
            draw.choice(workers).kill()

    ended = command.run(kill_after=draw.randrange(1, events), hurt=kill_a_worker)
    assert ended.status in (0, 1), ended.said
    assert "INTERNALERROR" not in ended.said
    for path in (command.reports / "store/records").glob("*.failed-*.json"):
        assert json.loads(path.read_text())["outcome"] == "crashed"
        path.unlink()  # told; the rest must be what an unbroken run leaves
    before = record_files(command.reports)
    assert check_records(command.reports).items() <= expected.items()
    command.complete()
    assert kept(before, command.reports)
    check_whole(command.reports, expected)


# --- the notice that a cluster gives

HANGS = """
import pytest

@pytest.mark.study("two_models")
def test_two_models(cell, record):
    if cell.model == "toy_b":
        open("never").read()
    record.update(divergence=0.5)
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_cell_that_outlasts_the_notice_is_abandoned_cleanly(workers, tmp_path):
    shutil.copytree(PROJECT, tmp_path / "project")
    (tmp_path / "project/benchmarks/test_shapes.py").write_text(HANGS)
    os.mkfifo(tmp_path / "project/never")
    command = Command(tmp_path / "project", tmp_path / "reports", ("-n", workers))

    def terminate_at_the_hanging_cell(process):
        markers = Store(command.reports).running.markers
        while not any(m.cell.model == "toy_b" for m in markers()):
            assert process.poll() is None
        process.terminate()

    ended = command.run(kill_after=1, hurt=terminate_at_the_hanging_cell)
    assert ended.status == pytest.ExitCode.INTERRUPTED, ended.said
    assert "to go on: pytest benchmarks" in ended.said
    assert not Store(command.reports).running.markers()
    assert all("toy_b" not in cell for cell in check_records(command.reports))


# --- a clock that jumps back

CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
int clock_gettime(clockid_t which, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    static long calls;
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(which, now);
    if (which == CLOCK_REALTIME) now->tv_sec -= 3600 * (__sync_fetch_and_add(&calls, 1) / 50);
    return status;
}
"""


def test_a_clock_that_jumps_back_an_hour_again_and_again_changes_no_result(unbroken, tmp_path):
    if not shutil.which("cc"):
        pytest.skip("no C compiler for the clock")
    (tmp_path / "clock.c").write_text(CLOCK)
    library = tmp_path / "clock.so"
    build = ["cc", "-shared", "-fPIC", "-o", library, tmp_path / "clock.c", "-ldl"]
    subprocess.run(build, check=True)
    first, _, expected = unbroken
    command = again(first, tmp_path / "reports", "-n", "0", LD_PRELOAD=str(library))
    command.complete()
    check_whole(command.reports, expected)
    records = [json.loads(p.read_text()) for p in command.reports.glob("store/records/*.json")]
    started = [datetime.fromisoformat(record["started_at"]) for record in records]
    assert max(started) - min(started) > timedelta(hours=2), "the clock did not jump"
    assert all(seconds >= 0 for r in records for seconds in r["times"]["spent"].values())
    assert "72 cached" in command.complete().said


# --- cut and damaged files


def test_a_record_cut_at_every_byte_is_moved_aside(unbroken, tmp_path):
    first, _, _ = unbroken
    store = Store(tmp_path / "reports")
    store.prepare()
    source = next(p for p in sorted((first.reports / "store/records").glob("*.json")))
    record = json.loads(source.read_bytes()) | {"items": None}
    path = store.records / source.name
    content = as_text(sealed(record))
    for cut in range(len(content)):
        path.write_bytes(content[:cut])
        assert store.read(path.stem) is None, f"cut at byte {cut}"
        assert not path.exists()
    path.write_bytes(content)
    assert store.read(path.stem) is not None


def test_a_thousand_damaged_model_and_data_files_are_read_or_named(tmp_path):
    draw = random.Random(0)
    model = tiny.checkpoint(tmp_path / "model")
    data = tmp_path / "data"
    data.mkdir()
    (data / "test.jsonl").write_text("".join(f'{{"text": "row {i}"}}\n' for i in range(40)))
    files = [*(p for p in model.iterdir() if p.stat().st_size), data / "test.jsonl"]
    told = []
    for _ in range(1000):
        path = draw.choice(files)
        whole = path.read_bytes()
        head = 4096 if path.suffix == ".safetensors" else len(whole)
        path.write_bytes(damage(whole[:head], draw) + whole[head:])
        try:
            if path.parent == model:
                load(tiny.entry(), tiny.at(model))
            else:
                load_text("wikitext2", "test", Sources(local={"wikitext2": data}))
        except BenchsuiteError as error:
            told.append((path.parent, str(error)))
        path.write_bytes(whole)
    assert len(told) > 100
    assert all("\n" not in message and str(folder) in message for folder, message in told)


# --- out of memory


def test_a_cell_out_of_memory_fails_alone(tmp_path):
    shutil.copytree(PROJECT, tmp_path / "project")
    body = tmp_path / "project/benchmarks/test_shapes.py"
    greedy = '    if cell.id == "toy_a-first-seed2":\n        bytearray(1 << 44)\n'
    marker = '    with record.stage("selection"):\n'
    body.write_text(body.read_text().replace(marker, greedy + marker, 1))
    command = Command(tmp_path / "project", tmp_path / "reports", ("-n", "2"))
    ended = command.run()
    assert ended.status == 1
    assert re.search(r"toy_a-first-seed2: out of memory in stage", ended.said)
    assert len(list((command.reports / "store/records").glob("*.failed-*.json"))) == 1
    said = command.status()
    assert "71 done, 1 failed" in said or "1 failed, 71 done" in said
