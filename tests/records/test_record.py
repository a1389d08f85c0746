"""The record of a cell while it grows."""

from pathlib import Path

import pytest

from benchsuite.models import resident
from benchsuite.records import building
from benchsuite.records.building import RecordBuilder

BYTES = 400 * 2**20


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
def test_peak_memory_is_the_cells_own_not_that_of_an_earlier_one(builder):
    held = bytearray(BYTES)
    held[::4096] = b"x" * len(held[::4096])
    del held
    before = resident.peak_bytes()
    own = RecordBuilder(builder.cell, builder.fingerprint, {"device_kind": "cpu"})
    peak = own.finish("passed").peak_memory_bytes
    assert peak is not None
    assert peak < before - BYTES // 2


def test_a_peak_that_may_be_an_earlier_cells_is_not_stated(builder, monkeypatch):
    monkeypatch.setattr(resident, "lower_mark", lambda: False)
    monkeypatch.setattr(building, "_cuda", lambda: None)
    own = RecordBuilder(builder.cell, builder.fingerprint, {"device_kind": "cpu"})
    assert own.finish("passed").peak_memory_bytes is None


def test_peak_memory_outlives_a_stage_that_resets_the_mark(builder):
    with builder.stage("quant"):
        held = bytearray(BYTES)
        held[::4096] = b"x" * len(held[::4096])
    del held
    with builder.stage("latency"):
        resident.lower_mark()  # as a stage does that measures its own memory
    peak = builder.finish("passed").peak_memory_bytes
    resident.lower_mark()
    with builder.stage("after"):
        pass
    assert peak > BYTES
    assert builder.finish("passed").peak_memory_bytes == peak
