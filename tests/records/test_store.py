"""The store: whole files or none, nothing overwritten, artefacts built once."""

import errno
import json
import multiprocessing
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchsuite.errors import BenchsuiteError
from benchsuite.records.building import RecordBuilder
from benchsuite.records.fingerprint import Fingerprint
from benchsuite.records.forms import as_text, sealed
from benchsuite.records.record import CellFacts, Failure
from benchsuite.records.store import Store, unwritable
from benchsuite.study import Metric, register_study, study
from benchsuite.study.cell import Cell

CELL = Cell(
    "calibration_selection",
    {"model": "tiny_llama_1m", "method": "random", "seed": 42},
    {"seq_len": 256},
    {"seq_len": 256},
)
FINGERPRINT = Fingerprint("i", "c", "e")
VALUE = FINGERPRINT.value


def builder(value=1.5):
    made = RecordBuilder(CELL, FINGERPRINT, {"device_kind": "cpu"})
    made.provenance(weights="embedded")
    made.update(perplexity=value)
    return made


def test_a_second_measurement_becomes_a_rerun_and_a_failure_never_replaces_a_good_record(store):
    store.write(builder().finish("passed"))
    store.write(builder(2.5).finish("passed"))
    store.write(builder(3.5).finish("failed", failure=Failure("no", "quant")))
    assert store.read(VALUE).values["perplexity"] == 1.5
    names = sorted(p.name.partition(".")[2] for p in store.records.glob("*.json"))
    assert names == ["failed-1.json", "json", "rerun-1.json"]
    assert [f.values["perplexity"] for f in store.failures(VALUE)] == [3.5]
    assert len(list(store.all_records())) == 3


def test_per_item_evidence_comes_back_as_it_was(store):
    made = builder()
    nll = np.random.default_rng(0).normal(size=50)
    made.items(chunk_nll=nll, answer=[f"a{i}" for i in range(50)])
    store.write(made.finish("passed"), made.columns)
    columns = store.columns(store.read(VALUE))
    assert np.array_equal(columns["chunk_nll"], nll)
    assert columns["answer"][7] == "a7"


@pytest.mark.parametrize("cut", range(0, 1000, 37))
def test_a_record_truncated_anywhere_is_moved_aside(store, cut):
    store.write(builder().finish("passed"))
    path = store.records / f"{VALUE}.json"
    path.write_bytes(path.read_bytes()[:cut])
    assert store.read(VALUE) is None
    assert not path.exists()
    assert store.notices[0].startswith(f"moved aside: {path.name}")


def test_a_record_whose_side_file_was_changed_is_moved_aside_with_it(store):
    made = builder()
    made.items(chunk_nll=np.arange(50.0))
    stored = store.write(made.finish("passed"), made.columns)
    side = store.records / stored.items.file
    side.write_bytes(side.read_bytes()[:-1])
    assert store.read(VALUE) is None
    assert "side file" in store.notices[0]
    assert list(store.records.iterdir()) == []
    assert len(list(store.aside.iterdir())) == 2


def begin(store, device="cpu"):
    store.running.begin(
        "test_it.py::test[a]", Path("test_it.py"), CellFacts.of(CELL), FINGERPRINT, {}, device
    )


def test_a_marker_tells_the_last_stage_and_a_damaged_one_tells_nothing(store):
    begin(store)
    assert [m.stage for m in store.running.markers()] == ["setup"]
    for stage in ("selection", "quant"):
        store.running.stage(VALUE, stage)
        assert [m.stage for m in store.running.markers()] == [stage]
    path = store.running.folder / f"{VALUE}.json"
    whole = path.read_bytes()
    for where in range(0, whole.index(b"\n"), 7):
        path.write_bytes(whole[:where] + b"0" + whole[where + 1 :])
        assert [m for m in store.running.markers() if m.owner.pid != os.getpid()] == []
        assert store.sweep() == []
    store.running.end(VALUE)
    store.running.stage(VALUE, "evaluation")
    assert list(store.running.folder.iterdir()) == []


def test_equal_measurements_have_equal_results_whatever_their_times():
    one, two = builder(), builder()
    with one.stage("quant"):
        sum(range(10_000))
    assert one.finish("passed").results_sha256 == two.finish("passed").results_sha256
    assert builder(1.5 + 2e-16).results_digest() != one.results_digest()


def test_items_of_two_kinds_keep_their_own_lengths(store):
    made = builder()
    made.items(chunk_nll=np.arange(3.0))
    made.items(correct=[True, False, True, True, False], answer=list("abcde"))
    stored = store.write(made.finish("passed"), made.columns)
    columns = store.columns(stored)
    assert columns["chunk_nll"].tolist() == [0, 1, 2]
    assert columns["correct"].dtype == bool
    assert columns["correct"].tolist() == [True, False, True, True, False]
    assert "".join(columns["answer"]) == "abcde"


def test_a_column_of_another_length_is_refused():
    made = builder()
    with pytest.raises(BenchsuiteError, match="unequal length"):
        made.items(a=[1, 2], b=[1])


def _build_slowly(root, queue):
    store = Store(root)

    def build(folder):
        (folder / "x").write_text("x" * 100_000)
        queue.put("built")

    made = store.artefacts.get({"same": "key"}, build)
    assert len((made.path / "x").read_text()) == 100_000


def test_an_artefact_wanted_by_many_processes_is_built_once(store):
    queue = multiprocessing.Queue()
    processes = [
        multiprocessing.Process(target=_build_slowly, args=(store.reports, queue)) for _ in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert queue.get() == "built"
    assert queue.empty()


def test_a_failed_build_leaves_nothing_and_is_tried_again(store):
    def fail(folder):
        (folder / "half").write_text("half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        store.artefacts.get({"k": 1}, fail)
    assert [p for p in store.artefacts.folder.iterdir() if not p.name.endswith(".lock")] == []
    made = store.artefacts.get({"k": 1}, lambda folder: (folder / "whole").write_text("whole"))
    assert made.built_now
    assert not store.artefacts.get({"k": 1}, fail).built_now


def test_the_view_can_be_deleted_and_made_again(store):
    stored = store.write(builder().finish("passed"))
    store.export(CELL, stored)
    path = store.view_path("calibration_selection", stored.cell.name, "embedded")
    before = json.loads(path.read_text())
    shutil.rmtree(store.reports / "calibration_selection")
    store.export(CELL, store.read(VALUE))
    assert json.loads(path.read_text()) == before


def test_rehearsals_are_exported_apart(store):
    made = builder()
    made.provenance(weights="random")
    store.export(CELL, store.write(made.finish("passed")))
    assert list((store.reports / "rehearsal").rglob("*.json"))
    assert not (store.reports / "calibration_selection").exists()


# --- records that cannot be trusted


def resealed(store, **changes):
    """Write a good record, change fields of its object and seal it again."""
    store.write(builder().finish("passed"))
    path = store.records / f"{VALUE}.json"
    body = json.loads(path.read_bytes())
    path.write_bytes(as_text(sealed(body | changes)))
    return path


@pytest.mark.parametrize("name", ["../../precious.txt", "/{precious}", "..", "precious.txt"])
def test_a_record_cannot_name_a_file_of_others(store, tmp_path, name):
    precious = tmp_path / "precious.txt"
    precious.write_text("keep me")
    beside = store.records / "precious.txt"
    beside.write_text("keep me too")
    side = {"file": name.format(precious=precious), "columns": ["a"], "sha256": "0f"}
    resealed(store, items=side)
    assert store.read(VALUE) is None
    assert precious.read_text() == "keep me"
    assert beside.read_text() == "keep me too"
    assert "malformed: items.file" in store.notices[0]


@pytest.mark.parametrize("field", ["name", "study", "id"])
def test_a_record_cannot_say_where_it_is_shown(store, tmp_path, field):
    record = builder().finish("passed")
    cell = {**vars(record.cell), field: "../../../outside"}
    resealed(store, cell=cell)
    assert store.read(VALUE) is None
    store.export(CELL, record)
    shown = [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("raw_runs/*")]
    assert shown == [f"reports/calibration_selection/raw_runs/{CELL.name}.json"]


def test_a_record_under_another_ones_name_is_moved_aside(store):
    stored = store.write(builder().finish("passed"))
    other = Fingerprint("other", "c", "e").value
    shutil.copy(store.records / f"{VALUE}.json", store.records / f"{other}.json")
    assert store.read(other) is None
    assert "its fingerprint is not its file's name" in store.notices[0]
    assert store.read(VALUE) == stored


def test_a_failed_attempt_under_a_good_records_name_is_moved_aside(store):
    store.write(builder().finish("failed", failure=Failure("no", "quant")))
    os.rename(store.records / f"{VALUE}.failed-1.json", store.records / f"{VALUE}.json")
    assert store.read(VALUE) is None
    assert "its outcome is failed" in store.notices[0]


@pytest.mark.parametrize(
    "change",
    [
        *({"items": "x"}, {"cell": [1]}, {"values": None}, {"environment": 1}),
        {"outcome": "failed", "failure": None},
    ],
)
def test_a_malformed_record_is_moved_aside_with_the_reason_and_measured_again(store, change):
    path = resealed(store, **change)
    assert list(store.all_records()) == []
    assert not path.exists()
    assert "malformed" in store.notices[0]
    assert store.write(builder(2.5).finish("passed")) == store.read(VALUE)


def test_the_view_is_an_index_and_nothing_in_it_is_believed(store):
    stored = store.write(builder().finish("passed"))
    store.export(CELL, stored)
    path = store.view_path(CELL.study, CELL.name, "embedded")
    body = json.loads(path.read_bytes())
    assert store.exported(CELL, "embedded") == stored
    path.write_bytes(as_text(sealed(body | {"perplexity": 9.9})))
    assert store.exported(CELL, "embedded") == stored
    for value in ("../../x", "0" * 40, 1, None, ["a"]):
        fingerprint = {**body["fingerprint"], "value": value}
        path.write_text(json.dumps(body | {"fingerprint": fingerprint}))
        assert store.exported(CELL, "embedded") is None
    path.write_text(json.dumps(body | {"fingerprint": [VALUE]}))
    assert store.exported(CELL, "embedded") is None
    path.write_text("{")
    assert store.exported(CELL, "embedded") is None


def test_the_view_of_another_cells_record_is_no_view_of_this_one(store):
    stored = store.write(builder().finish("passed"))
    other = replace(CELL, axes={**CELL.axes, "seed": 43})
    store.export(other, stored)
    assert store.exported(other, "embedded") is None


# --- what cannot be read, or not be moved


def refusing(monkeypatch, name, code, only=lambda path: True):
    real = getattr(os, name)

    def refuse(path, *args, **options):
        if only(str(path)):
            raise OSError(code, os.strerror(code), str(path))
        return real(path, *args, **options)

    monkeypatch.setattr(os, name, refuse)


def test_an_unreadable_record_is_named_stays_and_costs_nothing_else(store, monkeypatch):
    stored = store.write(builder().finish("passed"))
    locked = store.records / f"{Fingerprint('other', 'c', 'e').value}.json"
    locked.write_text("{}")
    real = Path.read_bytes

    def read_bytes(path):
        if path == locked:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(BenchsuiteError, match="cannot be read: Permission denied"):
        store.read(locked.stem)
    assert list(store.all_records()) == [stored]
    assert locked.exists()
    assert str(locked) in store.notices[0]


def test_a_folder_in_the_place_of_a_record_is_moved_aside(store):
    (store.records / f"{VALUE}.json").mkdir()
    assert store.read(VALUE) is None
    assert "a folder in the place of a record" in store.notices[0]
    stored = store.write(builder().finish("passed"))
    assert store.read(VALUE) == stored


def test_a_damaged_record_that_cannot_be_moved_is_named_and_not_used(store, monkeypatch):
    path = resealed(store, items="x")
    refusing(monkeypatch, "replace", errno.EROFS)
    assert store.read(VALUE) is None
    assert path.exists()
    assert "it cannot be moved: Read-only file system" in store.notices[0]


def test_a_record_of_a_later_version_stays_where_it_is(store):
    path = resealed(store, schema_version=3)
    with pytest.raises(BenchsuiteError, match="a later version of benchsuite wrote it"):
        store.read(VALUE)
    assert path.exists()


def test_a_record_whose_study_is_declared_otherwise_now_stays_where_it_is(store):
    made = builder()
    made.update(verdict="fine")
    written = store.write(made.finish("passed"))
    was = study(written.cell.study)
    register_study(replace(was, metrics=(*was.metrics, Metric("verdict"))))
    try:
        with pytest.raises(BenchsuiteError, match="verdict is a text, and as a metric of study"):
            store.read(VALUE)
        assert list(store.all_records()) == []
        assert "verdict is a text" in store.notices[0]
    finally:
        register_study(was)
    assert store.read(VALUE) == written


def test_whole_numbers_as_keys_are_sealed_as_they_are_read_back(store):
    made = builder()
    made.update(error_by_layer={layer: 0.1 * layer for layer in range(12)})
    stored = store.write(made.finish("passed"))
    assert store.read(VALUE) == stored
    assert stored.value("error_by_layer.11") == 0.1 * 11
    assert store.notices == []


def test_side_files_of_a_record_that_was_never_written_are_swept_and_others_stay(store):
    made = builder()
    made.items(a=[1.0])
    stored = store.write(made.finish("passed"), made.columns, log="a line")
    other = Fingerprint("other", "c", "e").value
    orphans = [f"{other}.0123abcd.parquet", f"{other}.log", f"{VALUE}.rerun-1.log"]
    for name in (*orphans, "mine.txt"):
        (store.records / name).write_text("x")
    begin(store)
    store.sweep()
    assert all((store.records / name).exists() for name in orphans)
    store.running.end(VALUE)
    store.sweep()
    left = {path.name for path in store.records.iterdir()}
    assert left == {f"{VALUE}.json", f"{VALUE}.log", stored.items.file, "mine.txt"}


def test_a_folder_is_replaced_whole_or_stays_as_it_was(store, tmp_path):
    final = tmp_path / "models/one"
    store.replace_folder(final, lambda folder: (folder / "a").write_text("first"))
    store.replace_folder(final, lambda folder: (folder / "b").write_text("second"))
    assert [path.name for path in final.iterdir()] == ["b"]

    def broken(folder):
        (folder / "c").write_text("half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        store.replace_folder(final, broken)
    assert [path.name for path in final.parent.rglob("*")] == ["one", "b"]


@pytest.mark.parametrize("name", ["one.json", ".draft-1-2"])
def test_what_cannot_be_written_is_named_without_the_draft(tmp_path, name):
    error = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / name))
    named = tmp_path if name.startswith(".draft-") else tmp_path / name
    assert f"No space left on device ({named})" in str(unwritable(tmp_path, error))
