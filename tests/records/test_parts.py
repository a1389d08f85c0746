"""What lies behind a digest: it names what made a record stale, or nothing that is wrong."""

import pytest

from benchsuite.records import parts
from benchsuite.records.fingerprint import digest

BEFORE, NOW = {"gptq": "a1", "awq": "b1"}, {"gptq": "a2", "awq": "b1"}


@pytest.fixture
def kept(tmp_path):
    """The file that keeps ``BEFORE``."""
    parts.keep(tmp_path, {"code": (digest(BEFORE), BEFORE)})
    return tmp_path / f"digested/{digest(BEFORE)}.json"


def test_what_changed_is_named(kept, tmp_path):
    assert parts.differences(tmp_path, "code", digest(BEFORE), NOW) == "code (gptq)"


@pytest.mark.parametrize("damaged", [b'{"gptq": "a2", "awq": "b2"}', b"{", b"\xff", b"null", b""])
def test_a_damaged_file_names_nothing_and_is_kept_anew(kept, tmp_path, damaged):
    kept.write_bytes(damaged)
    assert parts.differences(tmp_path, "code", digest(BEFORE), NOW) == "code"
    parts.keep(tmp_path, {"code": (digest(BEFORE), BEFORE)})
    assert parts.differences(tmp_path, "code", digest(BEFORE), NOW) == "code (gptq)"
