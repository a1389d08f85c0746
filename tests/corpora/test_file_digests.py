import hashlib
import os
import shutil
import time

import pytest

from benchsuite.corpora.file_digests import FileDigests


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def later(monkeypatch):
    """An hour after the files were written."""
    monkeypatch.setattr(time, "time_ns", lambda: int(time.time() * 1e9) + 3_600 * 10**9)


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "file"
    file.write_text("one")
    return file


def tick(file):
    """Return when the file system's clock, some milliseconds coarse, has left a file's time."""
    probe = file.with_name("probe")
    probe.touch()
    while probe.stat().st_ctime_ns <= file.stat().st_ctime_ns:
        probe.touch()


def in_place(file, other):
    file.write_text("two")


def as_a_copy_that_keeps_times(file, other):
    shutil.copystat(file, other)
    times = os.stat(file)
    file.write_text("two")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def as_another_file_of_that_name(file, other):
    times = os.stat(file)
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    os.replace(other, file)


@pytest.mark.parametrize(
    "change", [in_place, as_a_copy_that_keeps_times, as_another_file_of_that_name]
)
def test_a_changed_file_of_the_same_size_is_read_again(file, tmp_path, later, change):
    other = tmp_path / "other"
    other.write_text("two")
    digests = FileDigests()
    assert digests.sha256(file) == sha256("one")
    tick(file)
    change(file, other)
    assert digests.sha256(file) == sha256("two")


def test_a_file_is_read_once_while_it_stays(file, later, monkeypatch):
    digests = FileDigests()
    first = digests.sha256(file)
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert digests.sha256(file) == first


def test_a_file_just_written_is_not_remembered(file, tmp_path):
    """A clock that has not ticked cannot tell a second writing from the first."""
    digests = FileDigests(tmp_path / "memory.json")
    assert digests.sha256(file) == sha256("one")
    digests.save()
    assert not (tmp_path / "memory.json").exists()


def test_what_one_process_learned_the_next_one_knows(file, tmp_path, later, monkeypatch):
    memory = tmp_path / "deep" / "memory.json"
    first = FileDigests(memory)
    first.sha256(file)
    first.save()
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert FileDigests(memory).sha256(file) == sha256("one")


@pytest.mark.parametrize("damaged", [b"{", b"[1]", b"7", b"\xff", b'{"x": 3}'])
def test_a_damaged_memory_is_no_harm(file, tmp_path, damaged):
    memory = tmp_path / "memory.json"
    memory.write_bytes(damaged)
    assert FileDigests(memory).sha256(file) == sha256("one")


def test_a_digit_changed_in_the_memory_is_not_believed(file, tmp_path, later):
    memory = tmp_path / "memory.json"
    first = FileDigests(memory)
    first.sha256(file)
    first.save()
    whole, digest = memory.read_text(), sha256("one")
    for where in range(0, len(digest), 9):
        other = digest[:where] + "f0"[digest[where] == "f"] + digest[where + 1 :]
        memory.write_text(whole.replace(digest, other))
        assert FileDigests(memory).sha256(file) == digest


def test_a_memory_that_cannot_be_written_is_no_harm(file, tmp_path, later):
    (tmp_path / "a file").touch()
    digests = FileDigests(tmp_path / "a file/memory.json")
    assert digests.sha256(file) == sha256("one")
    digests.save()
