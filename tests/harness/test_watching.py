"""What is made of a journal and of markers, and how it looks on a screen of any size."""

import os
import random
import re
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from benchsuite.commands import screen
from benchsuite.harness import progress
from benchsuite.harness.watching import Now, View, Watching
from benchsuite.records.files import Owner
from benchsuite.records.fingerprint import Fingerprint
from benchsuite.records.gpu_use import GpuUse, Use
from benchsuite.records.journal import NAME, Ended, Journal, Plan, Reader, new_folder
from benchsuite.records.record import CellFacts
from benchsuite.records.running import Marker, Running
from benchsuite.study import study
from tests.harness import rounds

ITEMS = tuple(
    f"b.py::test_b[{model}-{method}-seed{seed}]"
    for model in ("toy_a", "toy_b")
    for method in ("plain", "odd")
    for seed in range(3)
)


def plan(**others):
    told = {
        "owner": Owner.me(),
        "run": "abc",
        "began": time.time(),
        "words": ("benchmarks", "-n", "2"),
        "workers": 2,
        "goes_on": False,
        "items": ITEMS,
    }
    return Plan(**told | others)


def marker(nodeid=ITEMS[0], **others):
    facts = CellFacts.of(next(study("calibration_selection").cells()))
    told = {
        "nodeid": nodeid,
        "benchmark": "b.py",
        "cell": facts,
        "fingerprint": Fingerprint("i", "c", "e"),
        "environment": {},
        "device": "cpu",
        "owner": Owner.me(),
        "started_at": "2026-11-27T12:00:00.000+00:00",
    }
    return Marker(**told | others)


@pytest.fixture
def session(tmp_path):
    """A session's folder in a reports folder."""
    folder = tmp_path / "sessions/20261127T120000Z-abcdef"
    folder.mkdir(parents=True)
    return folder


def look(tmp_path):
    (view,) = Watching(tmp_path).look()
    return view


def test_what_is_left_is_shared_by_the_workers_and_counts_models_seen_alone(session, tmp_path):
    journal = Journal(session, plan())
    assert (look(tmp_path).left, look(tmp_path).untold) == (None, 12)
    journal.item(Ended(ITEMS[0], "passed", 30.0, "gw0"))
    journal.item(Ended(ITEMS[1], "passed", 10.0, "gw0"))
    # Four cells of toy_a wait, of ten seconds each: the first of the model had loaded it too.
    assert (look(tmp_path).left, look(tmp_path).untold) == (20.0, 6)
    journal.item(Ended(ITEMS[6], "skipped", 0.0, "gw1"))
    assert (look(tmp_path).left, look(tmp_path).untold) == (20.0, 0)
    journal.item(Ended(ITEMS[7], "cached", 100.0, "gw1"))
    assert look(tmp_path).left == pytest.approx(220.0)


def test_a_session_of_a_dead_process_is_cut_off_and_one_that_goes_on_comes_before_it(tmp_path):
    dead = Owner.of(str(Owner.me()).rpartition("-")[0] + "-1")
    for name, owner in (("20261127T110000Z-a", Owner.me()), ("20261127T120000Z-b", dead)):
        folder = tmp_path / "sessions" / name
        folder.mkdir(parents=True)
        Journal(folder, plan(owner=owner, words=(name,)))
    watching = Watching(tmp_path)
    assert [view.plan.words for view in watching.look()] == [("20261127T110000Z-a",)]
    assert watching.goes_on()
    (tmp_path / "sessions/20261127T110000Z-a" / NAME).unlink()
    (view,) = Watching(tmp_path).look()
    assert view.state == "cut off"


def test_of_the_sessions_of_one_second_the_last_to_begin_is_shown(tmp_path):
    began = datetime(2026, 11, 27, 12, tzinfo=UTC)
    for part in range(50):
        folder = new_folder(tmp_path, began + timedelta(milliseconds=20 * part))
        folder.mkdir(parents=True)
        journal = Journal(folder, plan(words=(f"{part}",)))
        journal.end(0)
        assert look(tmp_path).plan.words == (f"{part}",)


def test_a_journal_cut_in_mid_line_is_read_as_far_as_it_goes(session):
    journal = Journal(session, plan())
    reader = Reader(session / NAME)
    assert reader.news() == []
    journal.item(Ended(ITEMS[3], "failed", 1.0, "gw0", "half \ud83d of it"))
    with open(session / NAME, "ab") as file:
        file.write(b'{"nodeid": 4, "outc')
    (seen,) = reader.news()
    assert (seen.nodeid, seen.reason) == (ITEMS[3], "half \ufffd of it")
    assert reader.news() == []
    journal.end(1)
    journal.end(2)
    assert reader.news() == []
    assert reader.status == 2


def test_a_disk_that_takes_nothing_costs_those_who_watch_alone(session):
    os.symlink("/dev/full", session / NAME)
    journal = Journal(session, plan())
    journal.item(Ended(ITEMS[0], "passed", 1.0, ""))
    journal.end(0)
    running = Running(session)
    os.symlink("/dev/full", session / "abc.json")
    running.step("abc", "quant", "layers", 1, 2, 0.0)
    running.step("absent", "quant", "layers", 1, 2, 0.0)


def test_steps_are_noted_with_their_stage_at_most_once_a_second(tmp_path, request, monkeypatch):
    running, value = Running(tmp_path), marker().fingerprint
    told = marker()
    running.begin(
        told.nodeid, Path("b.py"), told.cell, value, {}, "cpu", run="abc", worker="gw1", gpus=["u"]
    )

    def tell(step, done, total, since):
        running.step(value.value, "quant", step, done, total, since)

    for between, expected in ((1e9, (0, 0)), (0.0, (32, 32))):
        monkeypatch.setattr(progress, "_SECONDS_BETWEEN_NOTES", between)
        shown = progress.Progress(request.config, "cell", tell)
        for layer in range(33):
            shown("layers", layer, 32)
        (seen,) = running.markers()
        assert (seen.done, seen.total) == expected
    assert (seen.stage, seen.step, seen.worker, seen.gpus) == ("quant", "layers", "gw1", ("u",))
    assert abs(seen.since - time.time()) < 60
    running.stage(value.value, "evaluation")
    with open(tmp_path / f"{value.value}.json", "ab") as file:
        file.write(b'\n{"stage": "ev')
    (seen,) = running.markers()
    assert (seen.stage, seen.total) == ("evaluation", 0)


# --- on a screen


def view(n_running=2, n_failed=3, n_tests=1, **others):
    now = [
        Now(
            marker(
                f"b.py::test_{i % n_tests}[toy_a-{'long_' * (i % 9)}method-seed{i}]",
                worker=f"gw{i}",
                gpus=("GPU-a",),
                stage="quant",
                step="quantize",
                done=i,
                total=320,
            ),
            elapsed=100.0 * i,
            left=50.0,
            step_left=None,
        )
        for i in range(n_running)
    ]
    failed = [
        Ended(ITEMS[i % 12], "failed", 1.0, "gw0", "no \x1b[2J " * 9) for i in range(n_failed)
    ]
    counts = Counter(running=n_running, failed=n_failed, passed=400, cached=200, waiting=300)
    groups = {f"b.py::test_{i}": Counter(passed=3, waiting=4) for i in range(n_tests)}
    told = {
        "plan": plan(),
        "state": "running",
        "status": None,
        "elapsed": 4000.0,
        "left": 7300.0,
        "untold": 7,
        "counts": counts,
        "groups": groups,
        "running": now,
        "failed": failed,
    }
    return View(**told | others)


USE = {"GPU-a": Use(3, 87, 12 << 30, 80 << 30)}


def texts(views, width=None, height=None):
    return [line.text for line in screen.lines(views, USE, width, height)]


@pytest.fixture(scope="module")
def sessions():
    """Screens to fill: nothing that runs, a little, hundreds, and several sessions at once."""
    little, much = view(2, 3, 1), view(300, 900, 6)
    return [[view(0, 0, 1)], [little], [view(300, 0, 1)], [much], [little] * 2, [much] * 3]


@pytest.mark.parametrize("height", [1, 2, 5, 12, 40])
@pytest.mark.parametrize("width", [10, 50, 100])
def test_nothing_is_wider_or_longer_than_the_screen(sessions, width, height):
    for views in sessions:
        shown = screen.lines(views, USE, width, height)
        assert len(shown) <= height
        for line in shown:
            plain = re.sub(r"^\x1b\[\d+m|\x1b\[0m$", "", line.painted(width))
            assert len(plain) <= width
            assert "\x1b" not in plain


def test_a_screen_with_room_shows_all_and_a_small_one_how_much_is_left_out():
    shown = texts([view(300, 900, 6)], 120, 40)
    assert [text for text in shown if text.strip().startswith("and ")] == [
        "  and 270 more",
        "  and 898 more",
    ]
    assert len(texts([view(300, 900, 6)])) > 1200
    whole = "\n".join(texts([view(2, 1, 2)], 120, 40))
    assert "600 of 903 cells done (200 cached), 2 running, 1 failed, 300 waiting" in whole
    assert "1 h 6 min so far, about 2 h 1 min left without 7 cells of models not seen yet" in whole
    assert "gw0  0 toy_a-method-seed0" in whole
    assert "quant: quantize 1/320" not in whole
    assert "quantize 1/320" in whole
    assert "1 min 40 s  ~50 s left  GPU 3: 87 %, 12.0 of 80 GiB" in whole
    assert "  0  3 of 7" in whole


def test_a_narrow_screen_shows_gpus_by_themselves_and_keeps_the_cell():
    wide, narrow = "\n".join(texts([view()], 132, 30)), "\n".join(texts([view()], 60, 30))
    assert "GPU 3: 87 %" in wide
    assert "GPUs\n  gw0 GPU 3: 87 %, 12.0 of 80 GiB\n  gw1 GPU 3" in narrow
    assert "toy_a-method" in narrow
    assert "~50 s left" in narrow


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (0.2, "0 s"),
        (59.7, "1 min"),
        (754, "12 min 34 s"),
        (86399, "23 h 59 min"),
        (180000, "2 d 2 h"),
    ],
)
def test_times_have_two_units_at_most(number, told):
    assert screen.seconds(number) == told


def test_nvidia_smi_is_asked_and_one_that_hangs_or_fails_tells_nothing(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for script, expected in (
        ("echo '3, GPU-a, 87, 12288, 81920'; echo '4, GPU-b, [N/A], [N/A], [N/A]'",
         {**USE, "GPU-b": Use(4, 0, 0, 0)}),
        ("echo 'NVIDIA-SMI has failed'; exit 9", {}),
    ):  # fmt: skip
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        assert GpuUse().once() == expected
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    hanging = GpuUse()
    assert hanging.latest() == hanging.latest() == {}
    hanging.close()


def test_a_damaged_journal_or_marker_stops_nobody_who_watches(session, tmp_path):
    journal, running = Journal(session, plan()), Running(tmp_path / "store/running")
    running.folder.mkdir(parents=True)
    told = marker()
    running.begin(ITEMS[2], Path("b.py"), told.cell, told.fingerprint, {}, "cpu", run="abc")
    running.step(told.fingerprint.value, "quant", "layers", 1, 32, time.time())
    for item in ITEMS[:2]:
        journal.item(Ended(item, "passed", 3.0, "gw0"))
    draw = random.Random(0)
    for path in (session / NAME, running.folder / f"{told.fingerprint.value}.json"):
        content = path.read_bytes()
        for _ in range(100):
            path.write_bytes(rounds.damage(content, draw))
            screen.lines(Watching(tmp_path).look(), {}, 80, 24)
        path.write_bytes(content)
    assert look(tmp_path).counts == Counter(passed=2, running=1, waiting=9)
