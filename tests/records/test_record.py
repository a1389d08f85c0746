"""The record of a cell while it grows."""

import contextlib
from pathlib import Path

import pytest

from benchsuite.records.building import RecordBuilder
from benchsuite.records.fingerprint import Fingerprint
from benchsuite.study import study

BYTES = 400 * 2**20


@pytest.fixture
def builder():
    cell = next(study("calibration_selection").cells())
    return RecordBuilder(cell, Fingerprint("i", "c", "e"), {"device_kind": "cpu"})


def reset_mark():
    """Do what a stage does that measures its own memory."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def test_peak_memory_outlives_a_stage_that_resets_the_mark(builder):
    with builder.stage("quant"):
        held = bytearray(BYTES)
        held[::4096] = b"x" * len(held[::4096])
    del held
    with builder.stage("latency"):
        reset_mark()
    peak = builder.finish("passed").peak_memory_bytes
    reset_mark()
    with builder.stage("after"):
        pass
    assert peak > BYTES
    assert builder.finish("passed").peak_memory_bytes == peak
