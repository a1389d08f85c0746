"""Artefacts: built once, whole or not there, checked before they are used."""

import json
import os
import shutil

import pytest

from benchsuite.records import artefacts as module
from benchsuite.records import files
from benchsuite.records.store import Store

KEY = {"features": "of a model", 1: 2}


def build(folder):
    (folder / "weights.bin").write_bytes(bytes(range(256)) * 8)
    (folder / "inside").mkdir()
    (folder / "inside/note.txt").write_text("a note")


def again(tmp_path):
    """A store as another process would open it: nothing is checked yet."""
    store = Store(tmp_path / "reports")
    store.prepare()
    return store


def content(made):
    return {
        p.relative_to(made.path).as_posix(): p.read_bytes()
        for p in made.path.rglob("*")
        if p.is_file() and p.name != "artefact.json"
    }


def flip(path):
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)


DAMAGE = {
    "a bit flipped": lambda folder: flip(folder / "weights.bin"),
    "a file cut": lambda folder: os.truncate(folder / "weights.bin", 100),
    "a file emptied": lambda folder: os.truncate(folder / "inside/note.txt", 0),
    "a file removed": lambda folder: (folder / "inside/note.txt").unlink(),
    "a file added": lambda folder: (folder / "adapter.json").write_text("{}"),
    "the card cut": lambda folder: os.truncate(folder / "artefact.json", 50),
    "the card removed": lambda folder: (folder / "artefact.json").unlink(),
    "the card of an earlier version": lambda folder: (folder / "artefact.json").write_text(
        '{"seconds": 1.0}'
    ),
    "seconds that are a text": lambda folder: (folder / "artefact.json").write_text(
        (folder / "artefact.json").read_text().replace('"seconds": ', '"seconds": "1", "x": ')
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_artefact_is_built_again_and_said(tmp_path, what):
    made = again(tmp_path).artefacts.get(KEY, build)
    whole = content(made)
    DAMAGE[what](made.path)
    store = again(tmp_path)
    rebuilt = store.artefacts.get(KEY, build)
    assert rebuilt.built_now
    assert content(rebuilt) == whole
    (notice,) = store.notices
    assert notice.startswith(f"built again: artefact {made.path.name}: ")
    assert not again(tmp_path).artefacts.get(KEY, build).built_now


def test_artefacts_whose_folders_were_swapped_are_built_again(tmp_path):
    """Each is whole, and sealed: but for another key."""

    def other(folder):
        (folder / "weights.bin").write_bytes(b"others")

    keys = {"one": (KEY, build), "other": ({"features": "of another"}, other)}
    made = {name: again(tmp_path).artefacts.get(*key) for name, key in keys.items()}
    whole = {name: content(one) for name, one in made.items()}
    made["one"].path.rename(tmp_path / "aside")
    made["other"].path.rename(made["one"].path)
    (tmp_path / "aside").rename(made["other"].path)
    for name, key in keys.items():
        rebuilt = again(tmp_path).artefacts.get(*key)
        assert rebuilt.built_now
        assert content(rebuilt) == whole[name]


def test_a_file_in_the_place_of_an_artefact_is_replaced(tmp_path):
    made = again(tmp_path).artefacts.get(KEY, build)
    whole = content(made)
    shutil.rmtree(made.path)
    made.path.write_text("no folder")
    assert content(again(tmp_path).artefacts.get(KEY, build)) == whole


def test_every_bit_of_an_artefact_counts(tmp_path):
    made = again(tmp_path).artefacts.get(KEY, build)
    for name, whole in content(made).items():
        for where in range(0, len(whole), 97):
            (made.path / name).write_bytes(
                whole[:where] + bytes([whole[where] ^ 4]) + whole[where + 1 :]
            )
            assert again(tmp_path).artefacts.get(KEY, build).built_now


def test_an_artefact_is_checked_once_a_process_unless_another_builds_it_again(
    tmp_path, monkeypatch
):
    made = again(tmp_path).artefacts.get(KEY, build)
    store, read = again(tmp_path), []
    monkeypatch.setattr(module, "sha256", lambda path: read.append(path) or files.sha256(path))
    for _ in range(3):
        assert not store.artefacts.get(KEY, build).built_now
    assert len(read) == 2
    flip(made.path / "weights.bin")
    again(tmp_path).artefacts.get(KEY, build)
    read.clear()
    assert not store.artefacts.get(KEY, build).built_now
    assert len(read) == 2


def test_contents_and_their_folders_are_on_the_disk_before_the_seal(tmp_path, monkeypatch):
    told = []
    real_flush, real_write, real_rename = files.flush, module.write_whole, os.rename

    def flush(path):
        told.append(os.path.normpath(path))
        real_flush(path)

    monkeypatch.setattr(module, "flush", flush)
    monkeypatch.setattr(
        module, "write_whole", lambda path, text: told.append("seal") or real_write(path, text)
    )
    monkeypatch.setattr(module.os, "rename", lambda a, b: told.append("name") or real_rename(a, b))
    store = again(tmp_path)
    store.artefacts.get(KEY, build)
    before = [os.path.basename(path) for path in told[: told.index("seal")]]
    assert {"weights.bin", "note.txt", "inside"} <= set(before)
    assert before[-1].startswith(".draft-")
    assert told[-2:] == ["name", str(store.artefacts.folder)]


def test_a_record_and_its_name_are_on_the_disk_when_it_is_written(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(files.os, "fsync", lambda handle: flushed.append(os.fstat(handle).st_ino))
    path = tmp_path / "record.json"
    files.write_whole(path, b"{}", exclusive=True)
    assert flushed == [path.stat().st_ino, tmp_path.stat().st_ino]


def test_the_card_names_what_the_artefact_is_of(tmp_path):
    made = again(tmp_path).artefacts.get(KEY, build)
    card = json.loads((made.path / "artefact.json").read_text())
    assert card["key"] == {"features": "of a model", "1": 2}
    assert set(card["files"]) == {"weights.bin", "inside/note.txt"}
    assert card["seconds"] == made.seconds


def test_new_folders_are_on_the_disk_before_a_record_is_kept_in_them(tmp_path, monkeypatch):
    flushed, real = [], files.flush
    monkeypatch.setattr(files, "flush", lambda path: flushed.append(path) or real(path))
    reports = tmp_path / "deep/reports"
    Store(reports).prepare()
    new = [reports.parent, reports, reports / "store"]
    new += [reports / "store" / name for name in ("records", "running", "artefacts")]
    assert {folder.parent for folder in new} <= set(flushed)
