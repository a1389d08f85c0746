"""What file systems take, and what the store makes of it."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchsuite.errors import CorruptRecord
from benchsuite.records.files import fitting_name, refuse_endless, write_whole
from benchsuite.records.limits import LARGEST_FILE
from benchsuite.records.store import Store

SET_MUCH = "smollm2_135m_q4__rtn_w4_asym__seed42__" + "__".join(
    f"parameter_{i}-{i}" for i in range(30)
)


@given(st.text(min_size=1), st.text(min_size=1))
def test_names_fit_and_stay_apart(one, other):
    kept = fitting_name(one * 50)
    assert len(kept.encode()) <= 200
    assert (kept == fitting_name(other * 50)) == (one * 50 == other * 50)


def test_a_short_name_stays_and_a_long_one_can_be_written(tmp_path):
    assert fitting_name("llama-2-7b-hf__random__seed42") == "llama-2-7b-hf__random__seed42"
    path = Store(tmp_path).view_path("quantizers", SET_MUCH, "hub")
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    assert path.name.startswith("smollm2_135m_q4__rtn_w4_asym__seed42__parameter_0-0__")


@pytest.fixture
def plain_disk(monkeypatch):
    """A file system as exFAT is, and as drives of cloud storage are mounted."""
    flush = os.fsync

    def no_links(*paths):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    def files_only(handle):
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        flush(handle)

    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(os, "fsync", files_only)


def test_a_file_system_without_links_takes_a_name_once(plain_disk, tmp_path):
    write_whole(tmp_path / "record.json", b"first", exclusive=True)
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "record.json", b"second", exclusive=True)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("record.json", b"first")]


def test_a_disk_that_fails_is_no_file_system_without_flushing(monkeypatch, tmp_path):
    def fails(handle):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="Input/output error"):
        write_whole(tmp_path / "record.json", b"", durable=True)


def test_what_has_no_end_is_not_begun(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(LARGEST_FILE + 1)
    for name in ("pipe", "device", "huge"):
        with pytest.raises(CorruptRecord):
            refuse_endless(tmp_path / name)
    with pytest.raises(IsADirectoryError):
        refuse_endless(tmp_path)
