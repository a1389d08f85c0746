"""Who is running: what a live session has is left alone, what a dead one left is swept."""

import multiprocessing
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchsuite.records import files, running
from benchsuite.records.files import OLD, Owner, abandoned_drafts, alive
from benchsuite.records.fingerprint import Fingerprint
from benchsuite.records.record import CellFacts
from benchsuite.records.store import Store
from benchsuite.study import study

FINGERPRINT = Fingerprint("i", "c", "e")
VALUE = FINGERPRINT.value
ME = Owner.me()
OTHER_HOST = replace(ME, host="0" * 12)
BEFORE_THE_BOOT = replace(ME, boot="0" * 12)
# A process that had this pid before this one.
REUSED = replace(ME, started=ME.started - 1)


@pytest.fixture
def dead():
    """The owner of a process that is over."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = files._started(process.pid)
    process.communicate(b"")
    return replace(ME, pid=process.pid, started=started)


def begin(store, monkeypatch, owner, fingerprint=FINGERPRINT, device="cpu"):
    cell = next(study("calibration_selection").cells())
    monkeypatch.setattr(running.Owner, "me", classmethod(lambda cls: owner))
    facts, file = CellFacts.of(cell), Path("test.py")
    store.running.begin("test.py::test", file, facts, fingerprint, {}, device)
    monkeypatch.undo()
    return cell.id


def silent(path, seconds):
    """Let a path look as if nothing had touched it for so long."""
    os.utime(path, (time.time() - seconds,) * 2)


def test_a_process_is_alive_by_its_pid_and_its_start(dead):
    assert alive(ME.pid, ME.started)
    assert not alive(ME.pid, ME.started - 1)
    assert not alive(dead.pid, dead.started)
    assert Owner.of(str(ME)) == ME
    assert Owner.of("stop") is None


@pytest.mark.parametrize("owner", [ME, OTHER_HOST], ids=["mine", "of another host"])
def test_what_a_live_session_has_is_left_alone(store, monkeypatch, owner):
    begin(store, monkeypatch, owner)
    drafts = [
        folder / f".draft-{owner}-{'0' * 32}"
        for folder in (store.records, store.artefacts.folder, store.reports)
    ]
    for draft in drafts:
        draft.mkdir()
        (draft / "weights").write_text("half")
    (store.running.folder / "stop-abc").write_text(str(owner))
    assert store.sweep() == []
    assert len(store.running.markers()) == 1
    assert all((draft / "weights").exists() for draft in drafts)
    assert (store.running.folder / "stop-abc").exists()


@pytest.mark.parametrize("which", ["dead", "of another boot", "of a pid used again", "silent"])
def test_what_a_dead_session_left_is_swept(store, monkeypatch, dead, which):
    owner = {
        "dead": dead,
        "of another boot": BEFORE_THE_BOOT,
        "of a pid used again": REUSED,
        "silent": OTHER_HOST,
    }[which]
    cell_id = begin(store, monkeypatch, owner)
    folder = store.running.folder
    draft = store.artefacts.folder / f".draft-{owner}-{'0' * 32}"
    draft.mkdir()
    (draft / "weights").write_text("half")
    (folder / "stop-abc").write_text(str(owner))
    for name in (f"{VALUE}.crowded", f"{VALUE}.lock", "f00.lock", "f01.crowded"):
        (folder / name).touch()
    (store.artefacts.folder / "f02.lock").touch()
    if which == "silent":
        for path in (draft / "weights", draft, folder / "stop-abc", folder / f"{VALUE}.json"):
            silent(path, OLD + 60)
    assert store.sweep() == [cell_id]
    assert list(folder.iterdir()) == []
    assert list(store.artefacts.folder.iterdir()) == []


def test_five_hundred_sessions_worth_of_leftovers_are_swept(store, dead):
    folder = store.running.folder
    for n in range(500):
        (folder / f"stop-{n}").write_text(str(dead))
        (folder / f"{n:040x}.crowded").touch()
        (folder / f"{n:040x}.lock").touch()
        (folder / f".probe-{n}").touch()
        silent(folder / f".probe-{n}", OLD)
        (store.records / f"{n:040x}.0123abcd.parquet").touch()
        (store.records / f".draft-{dead}-{n:032x}").touch()
    store.sweep()
    assert list(folder.iterdir()) == []
    assert list(store.records.iterdir()) == []


def test_a_lock_that_somebody_holds_is_left_alone(store):
    lock = store.running.lock(VALUE)
    with lock:
        store.sweep()
        assert os.path.exists(lock.lock_file)
    store.sweep()
    assert not os.path.exists(lock.lock_file)


def _build(root, started, go):
    def build(folder):
        (folder / "weights").write_text("whole")
        started.set()
        go.wait()

    Store(root).artefacts.get({"slow": 1}, build)


def test_another_hosts_sweep_does_not_touch_a_running_build(store, monkeypatch):
    started, go = multiprocessing.Event(), multiprocessing.Event()
    process = multiprocessing.Process(target=_build, args=(store.reports, started, go))
    process.start()
    started.wait()
    for name, value in (("host", "a" * 12), ("_boot", "b" * 12)):
        monkeypatch.setattr(files, name, lambda value=value: value)
    Store(store.reports).sweep()
    monkeypatch.undo()
    go.set()
    process.join()
    assert process.exitcode == 0
    assert not store.artefacts.get({"slow": 1}, lambda folder: None).built_now
    assert abandoned_drafts(store.reports) == []


def test_a_cell_that_was_cut_off_is_not_told_as_running(store, monkeypatch, dead):
    for name, owner in {"mine": ME, "dead": dead, "far": OTHER_HOST}.items():
        begin(store, monkeypatch, owner, Fingerprint(name, "c", "e"))
    names = {marker.fingerprint.inputs for marker in store.running.living()}
    assert names == {"mine", "far"}
    silent(store.running._marker(Fingerprint("far", "c", "e").value), OLD + 60)
    assert [marker.fingerprint.inputs for marker in store.running.living()] == ["mine"]


def test_only_live_cells_on_the_same_device_crowd_each_other(store, monkeypatch, dead):
    init = replace(ME, pid=1, started=files._started(1))
    others = {
        "beside": (init, "cpu"),
        "elsewhere": (init, "gpu-1"),
        "dead": (dead, "cpu"),
        "reused": (replace(init, started=init.started + 1), "cpu"),
        "far": (OTHER_HOST, "cpu"),
    }
    for name, (owner, device) in others.items():
        begin(store, monkeypatch, owner, Fingerprint(name, "c", "e"), device)
        store.running._crowded(Fingerprint(name, "c", "e").value).unlink(missing_ok=True)
    begin(store, monkeypatch, ME)
    assert store.running.was_crowded(VALUE)
    crowded = {n for n in others if store.running.was_crowded(Fingerprint(n, "c", "e").value)}
    assert crowded == {"beside"}


def test_a_stage_of_any_name_leaves_its_marker_readable(store, monkeypatch):
    begin(store, monkeypatch, ME)
    store.running.stage(VALUE, "half \ud83d\n\x1b[31m")
    (marker,) = store.running.markers()
    assert marker.stage == "half \ufffd\n\x1b[31m"
