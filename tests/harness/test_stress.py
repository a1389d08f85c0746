"""Long rounds of violence: SIGKILL at random moments, damaged files, sessions at once.

    pytest tests/harness/test_stress.py -m stress

Moments are counted in file system events under the reports folder, so that a kill can fall
between any two steps of a write. Everything random is drawn from seeds given here.
"""

import random
import re
import shutil
import signal

import pytest

from benchsuite.records.reading import read
from benchsuite.records.store import Store
from tests.conftest import PROJECT
from tests.harness.rounds import (
    ROOT,
    Command,
    check_records,
    check_whole,
    damage,
    kept,
    number,
    record_files,
    run_together,
)

pytestmark = pytest.mark.stress

MOMENTS = 25
IN_A_ROW = 10

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
    assert number(ended.said, "cached") == len(measured)


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
    for _ in range(IN_A_ROW):
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


# --- several sessions


@pytest.mark.parametrize("sessions", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_sessions_of_two_workers_on_one_folder_measure_each_cell_once(
    seed, sessions, toys, tmp_path
):
    unbroken, _, expected = toys
    command = Command(unbroken.folder, tmp_path / "reports", ("-n", "2", "-v"))
    moment = random.Random(seed).randrange(1, 400 // sessions)
    said = run_together([command] * sessions, moment, tmp_path)
    check_whole(command.reports, expected)
    assert sum(number(text, "passed") for text in said) == len(expected)


# --- damage


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
        store.notices.clear()
        record = store.read(path.stem)
        if record is None:
            assert not path.exists()
            assert store.notices[0].startswith(f"moved aside: {path.name}")
        else:
            assert record == read(whole)
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
    command = Command(reports.parent, reports, ())
    said = command.status()
    last = next(line for line in said.splitlines() if re.match(r"\d+ (done|missing)", line))
    assert sum(map(int, re.findall(r"\d+", last))) == len(expected)
    assert "moved aside: " in said
    command.complete()
    assert check_records(reports) == expected
