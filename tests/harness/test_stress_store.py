"""The store in bad hands: flips everywhere, power cuts, copied disks, sessions of another host.

pytest tests/harness/test_stress_store.py -m stress
"""

import hashlib
import json
import os
import random
import shutil
import signal
import struct
import subprocess
from pathlib import Path

import pytest

from benchsuite.corpora.file_digests import FileDigests
from benchsuite.records.store import Store
from tests.conftest import PROJECT
from tests.harness import power
from tests.harness.rounds import (
    LONGEST,
    ROOT,
    Command,
    check_records,
    check_whole,
    damage,
    hurt,
    kept,
    number,
    record_files,
    run_together,
    undamaged,
)

pytestmark = pytest.mark.stress

ROUNDS, FLIPS = 25, 20  # 500 flips
CUTS = 25
COPIES = 10

# Models that are read from a folder.
FROM_A_FOLDER = {
    "embedded=True": "embedded=False",
    'reads={"model": ""}': 'reads={"model": "model"}',
}


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """The toy project run by two workers, the events of that run, and what it measured.

    Its models come from a folder, so that digests of files are remembered.
    """
    folder = tmp_path_factory.mktemp("toys")
    shutil.copytree(PROJECT, folder / "project")
    conftest = folder / "project/conftest.py"
    for was, becomes in FROM_A_FOLDER.items():
        assert conftest.read_text().count(was) == 1
        conftest.write_text(conftest.read_text().replace(was, becomes))
    model = folder / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "llama"}')
    (model / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    local = (f"--local={name}={model}" for name in ("toy_a", "toy_b"))
    command = Command(folder / "project", folder / "reports", ("-n", "2", *local))
    events = command.complete().events
    expected = check_records(command.reports)
    assert len(expected) == 72
    return command, events, expected


def again(command, reports, *arguments, **fields):
    return Command(command.folder, reports, (*command.arguments, *arguments), **fields)


def contents(reports):
    """What is in the artefacts, by path, but for the cards: these say when each was built."""
    files = (reports / "store/artefacts").glob("*/*")
    return {f"{p.parent.name}/{p.name}": p.read_bytes() for p in files if p.name != CARD}


# --- flips

CARD = "artefact.json"
KINDS = {
    "records": "store/records/*.json",
    "side files": "store/records/*.parquet",
    "artefacts": "store/artefacts/*/",
    "their cards": f"store/artefacts/*/{CARD}",
    "their contents": "store/artefacts/*/*",
    "their locks": "store/artefacts/*.lock",
    "markers": "store/running/*.json",
    "locks": "store/running/*.lock",
    "file digests": "store/file_digests.json",
    "digested": "store/digested/*.json",
    "views": "*/raw_runs/*.json",
    "sessions": "sessions/*/*",
}


def of_kind(reports, kind):
    found = sorted(p for p in reports.glob(KINDS[kind]) if not p.name.startswith(".draft-"))
    if kind == "artefacts":
        return [p for p in found if p.is_dir()]
    return [p for p in found if p.is_file() and (kind != "their contents" or p.name != CARD)]


@pytest.fixture(scope="module")
def cut_off(toys, tmp_path_factory):
    """The reports of a session that was killed while it measured a cell, late."""
    first, events, _ = toys
    command = again(first, tmp_path_factory.mktemp("cut_off") / "reports")
    running = Store(command.reports).running

    def kill_at_a_cell(process):
        while process.poll() is None:
            os.killpg(process.pid, signal.SIGSTOP)
            if running.markers():
                os.killpg(process.pid, signal.SIGKILL)
                return
            os.killpg(process.pid, signal.SIGCONT)

    ended = command.run(kill_after=events * 3 // 4, hurt=kill_at_a_cell)
    assert ended.status == -signal.SIGKILL, ended.said
    missing = [kind for kind in KINDS if not of_kind(command.reports, kind)]
    assert not missing, "there is nothing of this kind to be hurt"
    return command.reports


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_after_flips_everywhere_what_was_damaged_and_nothing_else_is_measured_again(
    toys, cut_off, seed, tmp_path
):
    first, _, expected = toys
    draw = random.Random(seed)
    command = again(first, tmp_path / "reports")
    shutil.copytree(cut_off, command.reports)
    before = record_files(command.reports)
    for _ in range(FLIPS):
        alike: list = []
        while not alike:
            alike = of_kind(command.reports, draw.choice(list(KINDS)))
        hurt(draw.choice(alike), alike, draw)
    good = undamaged(before, damaged := record_files(command.reports))
    if seed % 2:  # the session itself meets the damage in the others
        assert number(command.status(), "done") == len(good)
    ended = command.complete()
    assert number(ended.said, "cached") == len(good)
    assert number(ended.said, "passed") == len(expected) - len(good)
    after = record_files(command.reports)
    assert all(after[name] == damaged[name] for name in good)
    assert check_records(command.reports) == expected
    assert f"{len(expected)} done" in command.status()
    assert not Store(command.reports).running.markers()
    # Now every artefact is asked for.
    ended = again(first, command.reports, "--rerun").complete()
    equal = f"rerun: {len(expected)} of {len(expected)} cells bit-identical to their records"
    assert equal in ended.said
    assert contents(command.reports) == contents(first.reports)


def test_damaged_memories_of_digests_give_the_digests_of_the_files(cut_off, tmp_path):
    draw = random.Random(0)
    whole = (cut_off / "store/file_digests.json").read_bytes()
    files = [Path(path) for path in json.loads(whole)["files"]]
    expected = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    memory = tmp_path / "file_digests.json"
    for _ in range(ROUNDS * FLIPS):
        memory.write_bytes(damage(whole, draw))
        digests = FileDigests(memory)
        assert [digests.sha256(file) for file in files] == expected


# --- disks


@pytest.fixture(scope="module", params=["0", "2"])
def flushed(request, toys, tmp_path_factory):
    """A command whose disk is watched, and how often an unbroken run of it flushes something."""
    first, _, expected = toys
    folder = tmp_path_factory.mktemp("flushed")
    (folder / "image").mkdir()
    watched = again(first, folder / "reports", "-n", request.param, "-p", "tests.harness.power")
    watched.environment = {"PYTHONPATH": str(ROOT), power.IMAGE: str(folder / "image")}
    watched.complete()
    check_whole(watched.reports, expected)
    return watched, power.flushes(folder / "image"), expected


@pytest.mark.parametrize("seed", range(CUTS))
def test_a_power_cut_takes_nothing_that_was_said_to_be_kept(flushed, toys, seed, tmp_path):
    watched, flushes, expected = flushed
    image, lost = tmp_path / "image", tmp_path / "lost"
    image.mkdir()
    moment = str(random.Random(seed).randrange(1, flushes))
    settings = {**watched.environment, power.IMAGE: str(image), power.CUT: moment}
    process = Command(watched.folder, lost, watched.arguments, settings).start(tmp_path / "said")
    assert process.wait(LONGEST) == -signal.SIGKILL, "the run was over before its moment"
    command = again(toys[0], tmp_path / "reports")
    power.restore(image, lost, command.reports)
    Store(command.reports).prepare()
    before = record_files(command.reports)
    assert power.returned(image) <= before.keys()
    measured = check_records(command.reports)
    ended = command.complete()
    assert number(ended.said, "cached") == len(measured)
    assert kept(before, command.reports)
    check_whole(command.reports, expected)


@pytest.mark.parametrize("seed", range(COPIES))
def test_a_copy_of_the_disk_of_two_running_sessions_completes(toys, seed, tmp_path):
    first, events, expected = toys
    running, copy = again(first, tmp_path / "running"), again(first, tmp_path / "copy")
    second = running.start(tmp_path / "second.txt")

    def copy_the_disk(process):
        for one in (process, second):
            os.killpg(one.pid, signal.SIGSTOP)
        shutil.copytree(running.reports, copy.reports)
        for one in (process, second):
            os.killpg(one.pid, signal.SIGKILL)
        second.wait()

    running.run(kill_after=random.Random(seed).randrange(1, events), hurt=copy_the_disk)
    before = record_files(copy.reports)
    measured = check_records(copy.reports)
    ended = copy.complete()
    assert number(ended.said, "cached") == len(measured)
    assert kept(before, copy.reports)
    check_whole(copy.reports, expected)


# --- another host

ELSEWHERE = (
    *("unshare", "-r", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"),
    *("sh", "-c", 'hostname elsewhere && exec "$@"', "sh"),
)


@pytest.fixture(scope="module")
def elsewhere():
    """The words that start a command where host name and pids are others."""
    found = shutil.which("unshare") and subprocess.run([*ELSEWHERE, "true"], check=False)
    if not found or found.returncode:
        pytest.skip("this machine lets no user make a namespace")
    return ELSEWHERE


SLOW = "toy_b-same-seed1"
GATED = f"""
import pytest

@pytest.mark.study("two_models")
def test_two_models(cell, record, artefact):
    def build(folder):
        (folder / "begun").touch()
        open("gate").read()

    if cell.id == "{SLOW}":
        artefact({{"made": "slowly"}}, build)
    record.update(divergence=0.5)
"""


@pytest.mark.parametrize("slow_one", ["here", "elsewhere"])
def test_a_session_sweeps_nothing_of_one_that_runs_on_another_host(elsewhere, slow_one, tmp_path):
    shutil.copytree(PROJECT, tmp_path / "project")
    (tmp_path / "project/benchmarks/test_shapes.py").write_text(GATED)
    os.mkfifo(tmp_path / "project/gate")
    here, there = ((), elsewhere) if slow_one == "here" else (elsewhere, ())
    reports = tmp_path / "reports"
    slow = Command(tmp_path / "project", reports, ("-k", SLOW), under=here)
    quick = Command(tmp_path / "project", reports, ("-k", f"not {SLOW}"), under=there)
    process = slow.start(tmp_path / "slow.txt")
    while not list(reports.glob("store/artefacts/.draft-*/begun")):
        assert process.poll() is None, (tmp_path / "slow.txt").read_text()
    places = ("store/running/*", "store/artefacts/*", "store/artefacts/*/*")
    files = [path for place in places for path in reports.glob(place)]
    assert {path.suffix for path in files} >= {".json", ".lock"}
    assert number(quick.complete().said, "passed") == 11
    assert all(path.exists() for path in files)
    (tmp_path / "project/gate").write_text("")
    assert process.wait(LONGEST) == 0, (tmp_path / "slow.txt").read_text()
    found = check_records(reports)
    assert len(found) == 12
    check_whole(reports, found)


@pytest.mark.parametrize("seed", range(3))
def test_sessions_of_two_hosts_on_one_folder_measure_each_cell_once(
    elsewhere, toys, seed, tmp_path
):
    first, _, expected = toys
    commands = [again(first, tmp_path / "reports", under=words) for words in ((), elsewhere)]
    said = run_together(commands, random.Random(seed).randrange(1, 400), tmp_path)
    check_whole(commands[0].reports, expected)
    assert sum(number(text, "passed") for text in said) == len(expected)
