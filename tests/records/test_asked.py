"""What items were, kept once beside the records that name them."""

import pytest

from benchsuite.records import asked

TOLD = {"task": "arc", "digest": "d", "n": 2}
VALUE = {"questions": {"q1": {"prompt": "é \ud800 2+2?", "gold": "4"}}}


def test_what_is_kept_is_found_by_what_a_record_says_of_it(tmp_path):
    assert asked.kept(tmp_path, asked.set_key(TOLD)) is None
    asked.keep(tmp_path, asked.set_key(TOLD), VALUE)
    again = {"n": 2, "digest": "d", "task": "arc"}
    found = asked.kept(tmp_path, asked.set_key(again))
    assert found["questions"]["q1"]["gold"] == "4"
    assert found["questions"]["q1"]["prompt"].startswith("é ")
    assert asked.kept(tmp_path, asked.set_key(TOLD | {"n": 3})) is None


def test_it_is_written_once(tmp_path):
    key = asked.text_key(["00000-a", "00001-b"])
    asked.keep(tmp_path, key, {"00000-a": "first"})
    asked.keep(tmp_path, key, {"00000-a": "second"})
    assert asked.kept(tmp_path, key) == {"00000-a": "first"}


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"of": {"chunks": []}, "value": 1}'])
def test_a_damaged_file_is_as_none(tmp_path, damage):
    key = asked.text_key(["00000-a"])
    asked.keep(tmp_path, key, {"00000-a": "text"})
    (file,) = (tmp_path / "asked").iterdir()
    file.write_bytes(damage)
    assert asked.kept(tmp_path, key) is None


def test_a_store_that_takes_nothing_stops_no_cell(tmp_path):
    (tmp_path / "asked").write_text("in the way")
    asked.keep(tmp_path, asked.text_key(["a"]), {})
    assert not asked.is_kept(tmp_path, asked.text_key(["a"]))
