"""An empty store, and a record under way."""

import pytest

from benchsuite.records.building import RecordBuilder
from benchsuite.records.fingerprint import Fingerprint
from benchsuite.records.store import Store
from benchsuite.study import study


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "reports")
    made.prepare()
    return made


@pytest.fixture
def builder():
    cell = next(study("calibration_selection").cells())
    return RecordBuilder(cell, Fingerprint("i", "c", "e"), {"device_kind": "cpu"})
