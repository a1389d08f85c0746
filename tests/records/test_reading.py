"""The one reader: what it lets through can be counted on, and what it does not is named."""

import copy
import json
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchsuite.errors import BenchsuiteError, CorruptRecord
from benchsuite.records.fingerprint import Fingerprint
from benchsuite.records.forms import as_text, flat, nested, sealed
from benchsuite.records.reading import LaterVersion, Misdeclared, read
from benchsuite.records.record import CellFacts, Record, Source, Times
from benchsuite.study import study

VERSION_1 = Path(__file__).parent / "data/version_1"
FILES = sorted(VERSION_1.glob("*.json"))
# Set aside: what version 1 has no key for, or wrote otherwise.
NOT_COMPARED = ("record_sha256", "cell", "downstream_tasks", "results_sha256", "timings")


def made():
    """A record of the store's own form, as an object."""
    cell = next(study("calibration_selection").cells())
    return Record(
        CellFacts.of(cell),
        Fingerprint("i", "c", "e"),
        environment={"device": "a", "threads": 1},
        source=Source("embedded", hub_id="benchsuite/tiny_llama_1m"),
        times=Times({"quant": 1.5}, {"selection": 2.5}, making=4.0),
        values={"perplexity": 5.5, "selection": {"layers": [1, 2]}},
        clocked={"latency_seconds": 0.25},
        started_at="2026-01-01",
        results_sha256="0f",
    )


def test_version_1_of_every_study_is_there_passed_failed_and_crashed():
    studies = {name for name, *_ in (path.name.split(".") for path in FILES)}
    assert studies >= {
        *("calibration_selection", "quantizers", "determinism", "uncertainty"),
        *("latent_training", "latent_reasoning"),
    }
    for name in studies - {"calibration_selection_with_tasks"}:
        assert {p.name.split(".")[1] for p in VERSION_1.glob(f"{name}.*")} == {
            *("passed", "failed", "crashed")
        }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_version_1_says_in_the_documents_keys_what_it_said(path):
    stored = json.loads(path.read_text())
    record = read(path.read_bytes())
    assert record.outcome == path.name.split(".")[1]
    again = flat(record)
    for key in stored.keys() - set(NOT_COMPARED) - {"downstream"}:
        assert again[key] == stored[key], key
    assert again["cell"]["axes"] == stored["cell"]["axes"]
    if record.passed:
        assert again["timings"] == stored["timings"]
        assert again["results_sha256"] == stored["results_sha256"]
        assert record.value("total_time_sec") == stored["total_time_sec"]
        assert record.failure is None
    else:
        assert record.failure.message
        assert "perplexity" not in record.values


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_record_is_the_same_in_both_forms(path):
    record = read(path.read_bytes())
    for form in (nested, flat):
        back = read(as_text(sealed(form(record))))
        assert vars(back) | {"sha256": ""} == vars(record) | {"sha256": ""}


def test_the_parameter_that_is_called_otherwise_now_makes_cells_of_todays_study():
    record = read((VERSION_1 / "calibration_selection_with_tasks.passed.json").read_bytes())
    assert record.cell.parameters["downstream_tasks"] is True
    assert record.cell.changed["downstream_tasks"] is True
    assert record.value("downstream.average") > 0
    declared = study("calibration_selection").cells(
        seeds=(42,), settings={k: v for k, v in record.cell.changed.items()}
    )
    assert record.cell.name in {cell.name for cell in declared}


@pytest.mark.parametrize("path", sorted(VERSION_1.glob("*.passed.json")), ids=lambda p: p.stem)
def test_no_value_of_a_shipped_study_has_the_name_of_a_parameter_or_an_axis(path):
    record = read(path.read_bytes())
    measured = {*record.values, *record.clocked}
    assert not measured & {*record.cell.axes, *record.cell.parameters}


def test_what_was_clocked_is_kept_apart_in_version_1_too():
    record = read((VERSION_1 / "quantizers.passed.json").read_bytes())
    assert record.clocked["latency_seconds"] == record.value("latency_seconds") > 0
    assert "latency_seconds" not in record.values
    assert record.times.of("original") > 0


def test_values_come_before_what_was_clocked_before_times():
    record = made()
    assert record.value("perplexity") == 5.5
    assert record.value("selection.layers") == [1, 2]
    assert record.value("latency_seconds") == 0.25
    assert record.value("quant_time_sec") == 1.5
    assert record.value("selection_time_sec") == 2.5
    assert record.value("total_time_sec") == 4.0
    assert record.value("peak_memory_bytes") is None
    assert record.value("absent") is record.value("perplexity.inside") is None


WRONG = {
    "items is a text": ("items", "x"),
    "cell is a list": ("cell", [1]),
    "cell.axes is a text": ("cell.axes", "x"),
    "a seed is a text": ("cell.axes.seed", "1"),
    "a seed is true": ("cell.axes.seed", True),
    "a name leads out": ("cell.name", "../../../x"),
    "a study is an absolute path": ("cell.study", "/tmp/x"),
    "a name is hidden": ("cell.name", ".x"),
    "a name has a control character": ("cell.id", "a\x1b[31m"),
    "a model leads out": ("cell.axes.model", "a/b"),
    "a fingerprint of something else": ("fingerprint.inputs", "other"),
    "times are a list": ("times", []),
    "seconds are a text": ("times.spent.quant", "1"),
    "seconds are true": ("times.spent.quant", True),
    "contended is null": ("times.contended", None),
    "values are null": ("values", None),
    "the metric is beyond doubles": ("values.perplexity", 10**400),
    "a number far inside is beyond doubles": ("values.selection.layers", [[10**309]]),
    "half of a surrogate pair": ("values.note", "\ud83d"),
    "half of a surrogate pair as a key": ("values", {"\ud83d": 1}),
    "no outcome": ("outcome", None),
    "an unknown outcome": ("outcome", "fine"),
    "failed without a failure": ("outcome", "failed"),
    "an environment that is a text": ("environment", "cuda"),
    "a stand-in that is a number": ("source.stand_in", 1),
    "memory that is a fraction": ("peak_memory_bytes", 0.5),
    "a version that is a text": ("schema_version", "2"),
    "no version": ("schema_version", None),
    "items in another folder": (
        "items",
        {"file": "../x.parquet", "columns": ["a"], "sha256": None},
    ),
    "columns that are numbers": ("items", {"file": "x.parquet", "columns": [1], "sha256": None}),
    "nested without end": ("values.deep", json.loads("[" * 500 + "]" * 500)),
}


def changed(body, where, value):
    body = copy.deepcopy(body)
    *way, last = where.split(".")
    inside = body
    for name in way:
        inside = inside[name]
    inside[last] = value
    return body


@pytest.mark.parametrize("what", WRONG)
def test_a_sealed_record_that_is_malformed_is_named(what):
    body = changed(nested(made()), *WRONG[what])
    with pytest.raises(CorruptRecord, match="malformed"):
        read(as_text(sealed(body)))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_a_number_that_json_does_not_have_is_named(number):
    text = as_text(sealed(nested(made()))).replace(b"5.5", number.encode())
    with pytest.raises(CorruptRecord, match="malformed"):
        read(text)


@pytest.mark.parametrize(("value", "kind"), [("5.5", "a text"), ([5.5], "a list")])
def test_a_record_whose_study_makes_a_metric_of_another_value_is_not_called_damaged(value, kind):
    body = changed(nested(made()), "values.perplexity", value)
    with pytest.raises(Misdeclared, match=f"perplexity is {kind}, and as a metric of study"):
        read(as_text(sealed(body)))


def test_a_record_of_a_later_version_is_not_called_damaged():
    body = nested(made()) | {"schema_version": 3, "new": {}}
    with pytest.raises(LaterVersion, match="later version"):
        read(as_text(sealed(body)))


# --- whatever is there instead of a record

SLOW = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def measured(record):
    return record.values, record.times, record.cell


@SLOW
@given(st.integers(0, 10**9), st.sampled_from(FILES))
def test_flipped_bytes_never_raise_and_never_give_another_number(seed, path):
    whole, draw = path.read_bytes(), random.Random(seed)
    damaged = bytearray(whole)
    for _ in range(draw.choice((1, 1, 2, 5))):
        damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
    try:
        record = read(bytes(damaged))
    except BenchsuiteError:
        return
    assert measured(record) == measured(read(whole))


@SLOW
@given(st.data(), st.sampled_from(FILES))
def test_a_truncated_record_is_never_read(data, path):
    whole = path.read_bytes()
    with pytest.raises(CorruptRecord):
        read(whole[: data.draw(st.integers(0, len(whole) - 1))])


@SLOW
@given(JSON)
def test_any_json_is_refused_by_name_sealed_or_not(value):
    for body in (value, sealed(value) if isinstance(value, dict) and _can_be_written(value) else 0):
        with pytest.raises(BenchsuiteError):
            read(json.dumps(body).encode())


def _can_be_written(value):
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


@SLOW
@given(st.sampled_from(sorted(WRONG)), JSON)
def test_any_json_in_the_place_of_a_field_is_read_or_named(what, value):
    body = changed(nested(made()), WRONG[what][0], value)
    try:
        text = as_text(sealed(body))
    except ValueError:  # JSON has no such number
        return
    try:
        record = read(text)
    except BenchsuiteError:
        return
    number = record.value("perplexity")
    assert number is None or isinstance(number, int | float)
    assert read(as_text(sealed(flat(record)))).values == record.values


@SLOW
@given(st.dictionaries(st.text(min_size=1), JSON, max_size=5))
def test_values_come_back_as_they_were_converted(values):
    from benchsuite.records.building import RecordBuilder

    cell = next(study("latent_training").cells())
    builder = RecordBuilder(cell, Fingerprint("i", "c", "e"), {})
    try:
        builder.update(**values)
        record = builder.finish("passed")
    except BenchsuiteError:
        return
    text = as_text(sealed(nested(record)))
    assert vars(read(text)) | {"sha256": ""} == vars(record)
