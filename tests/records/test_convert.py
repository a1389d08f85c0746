"""What users hand to a record: converted to what JSON keeps, or refused by name."""

import datetime
import decimal
import enum
import pathlib

import numpy as np
import pandas as pd
import pytest
import torch

from benchsuite.errors import BenchsuiteError
from benchsuite.records.building import RecordBuilder
from benchsuite.records.fingerprint import Fingerprint
from benchsuite.records.record import Failure
from benchsuite.study import study


class Colour(enum.Enum):
    RED = "red"


CONVERTED = {
    "a numpy number": (np.float32(1.5), 1.5),
    "a numpy whole number": (np.int64(3), 3),
    "a numpy truth value": (np.bool_(True), True),
    "a numpy text": (np.str_("a"), "a"),
    "a numpy date": (np.datetime64("2020-01-01"), "2020-01-01"),
    "an array": (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
    "an array of objects": (np.array([1, "a", None], dtype=object), [1, "a", None]),
    "a masked array": (np.ma.array([1.0, 2.0], mask=[False, True]), [1.0, None]),
    "a tensor of one number": (torch.tensor(1.5), 1.5),
    "a tensor": (torch.arange(3), [0, 1, 2]),
    "bfloat16": (torch.tensor([1.5], dtype=torch.bfloat16), [1.5]),
    "truth values": (torch.tensor([True, False]), [True, False]),
    "a sparse tensor": (torch.eye(2).to_sparse(), [[1.0, 0.0], [0.0, 1.0]]),
    "whole numbers as keys": ({n: n for n in (1, 10, 2)}, {"1": 1, "10": 10, "2": 2}),
    "numpy keys": ({np.int64(1): 2}, {"1": 2}),
    "true and nothing as keys": ({True: 1, None: 2}, {"true": 1, "null": 2}),
    "keys of two kinds": ({0: 0.1, "all": 0.2}, {"0": 0.1, "all": 0.2}),
    "a set": ({"b", "a", "c"}, ["a", "b", "c"]),
    "a tuple": ((1, (2,)), [1, [2]]),
    "a range": (range(3), [0, 1, 2]),
    "a path": (pathlib.Path("a/b"), "a/b"),
    "a date": (datetime.date(2020, 1, 2), "2020-01-02"),
    "a moment": (datetime.datetime(2020, 1, 2, 3), "2020-01-02T03:00:00"),
    "a decimal": (decimal.Decimal("1.5"), 1.5),
    "an enumeration": (Colour.RED, "red"),
    "half of a surrogate pair": ("half \ud83d", "half \ufffd"),
    "half a pair as a key": ({"\ud83d": 1}, {"\ufffd": 1}),
    "a large whole number": (10**30, 10**30),
    "nested": ({"a": [np.float64(1.0), (np.int32(2),)]}, {"a": [1.0, [2]]}),
}

ENDLESS: list = []
ENDLESS.append(ENDLESS)

REFUSED = {
    "bytes": b"a",
    "a complex number": 1j,
    "a complex tensor": torch.tensor([1j]),
    "a tensor without numbers": torch.empty(2, device="meta"),
    "an object": object(),
    "a generator": (n for n in range(3)),
    "a whole number beyond doubles": 10**400,
    "a pair as a key": {("a", 1): 2},
    "keys that are one as texts": {1: 1, "1": 2},
    "an array of bytes": np.array([b"a"]),
    "a list inside itself": ENDLESS,
    "a class": Colour,
}


@pytest.mark.parametrize("what", CONVERTED)
def test_it_is_converted(builder, what):
    given, expected = CONVERTED[what]
    builder.update(x=given)
    found = builder.finish("passed").values["x"]
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused_in_one_paragraph_that_names_the_key(builder, what):
    for add in (builder.update, builder.clock):
        with pytest.raises(BenchsuiteError) as error:
            add(perhaps={"inner": REFUSED[what]})
        assert "perhaps" in str(error.value)
        assert builder.cell.id in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [np.array([1.0, np.nan]), [1.0, float("inf")]])
def test_what_is_not_finite_fails_the_cell_by_name_and_is_kept_as_null(builder, value):
    builder.update(x=value)
    with pytest.raises(BenchsuiteError, match=r"x\[1\] is not a finite number"):
        builder.finish("passed")
    assert builder.finish("failed", failure=Failure("no", "a")).values["x"] == [1.0, None]


def test_a_metric_that_is_a_text_fails_the_cell_and_leaves_its_record_whole(builder):
    builder.update(size_mb=3.0)
    with pytest.raises(BenchsuiteError, match="perplexity is a text, and as a metric of study"):
        builder.update(perplexity="5.5")
    assert builder.finish("failed", failure=Failure("no", "a")).values == {"size_mb": 3.0}


def test_items_that_are_texts_make_no_metric(builder):
    with pytest.raises(BenchsuiteError, match="'chunk_nll' holds texts, and the metric perplexity"):
        builder.items(chunk=["a", "b"], chunk_nll=["1.5", "2.5"])
    builder.items(chunk=["a", "b"], chunk_nll=[1.5, 2.5])


def test_a_text_is_no_truth_of_a_claim():
    cell = next(study("determinism").with_models("tiny_llama_1m").cells())
    told = RecordBuilder(cell, Fingerprint("i", "c", "e"), {})
    with pytest.raises(BenchsuiteError, match="bit_exact is a text, and as a metric of study"):
        told.update(bit_exact="failed")
    told.update(bit_exact=False)


COLUMNS = {
    "texts": (["a", "half \ud83d"], ["a", "half \ufffd"]),
    "numbers with a gap": ([1.0, None], [1.0, np.nan]),
    "whole numbers": ([1, 2], [1, 2]),
    "bfloat16": (torch.tensor([1.5], dtype=torch.bfloat16), [1.5]),
    "tensors of one number": ([torch.tensor(1.5), torch.tensor(2.0)], [1.5, 2.0]),
    "a pandas column": (pd.Series([1.0, 2.0]), [1.0, 2.0]),
    "objects that are numbers": (np.array([1, 2], dtype=object), [1, 2]),
    "bytes of the other order": (np.arange(2, dtype=">i4"), [0, 1]),
    "nothing": ([], []),
}


@pytest.mark.parametrize("what", COLUMNS)
def test_a_column_is_converted(builder, what):
    given, expected = COLUMNS[what]
    builder.items(x=given)
    np.testing.assert_array_equal(builder.columns["x"], expected)


@pytest.mark.parametrize(
    "values",
    [
        *(["a", None], [1, "a"], [True, 2], np.zeros((3, 2)), [[1], [2]], "abc", {"a": 1}),
        *([b"a"], [1j], [2**70], np.float64(1.0), [object()]),
    ],
)
def test_a_column_that_cannot_be_kept_is_named(builder, values):
    with pytest.raises(BenchsuiteError, match="column answer"):
        builder.items(answer=values)


# --- a name means one thing


def test_a_name_that_is_taken_is_refused_and_the_same_value_again_is_fine(builder):
    builder.update(divergence=1.5, table={1: 2})
    builder.update(divergence=1.5, table={"1": 2})
    builder.clock(latency=0.5)
    builder.items(chunk=[1, 2])
    builder.items(chunk=[1, 2])
    builder.time("selection", 2.0)
    with builder.stage("quant"):
        pass
    for add, name, value, said in (
        (builder.update, "divergence", 2.5, "is 1.5 already"),
        (builder.update, "seed", 7, "an axis"),
        (builder.update, "method", "x", "an axis"),
        (builder.update, "quant_bits", 3, "a parameter"),
        (builder.update, "outcome", "fine", "a key of every record"),
        (builder.update, "quant_time_sec", 1.0, "the time of a stage"),
        (builder.update, "latency", 1.0, "a fact of record.clock"),
        (builder.clock, "divergence", 1.5, "a value of record.update"),
        (builder.items, "chunk", [1, 3], "has other items already"),
    ):
        with pytest.raises(BenchsuiteError, match=said) as error:
            add(**{name: value})
        assert repr(name) in str(error.value)
    with pytest.raises(BenchsuiteError, match=r"'selection' is 2\.0 already"):
        builder.time("selection", 3.0)
    builder.update(original_time_sec=1.0)
    with pytest.raises(BenchsuiteError, match="original_time_sec"), builder.stage("original"):
        pass


def test_the_total_leaves_out_what_only_judges(builder):
    with builder.stage("quant"):
        pass
    with builder.stage("evaluation"):
        pass
    builder.time("selection", 2.0)
    builder.time("selection_spent", 9.0)
    record = builder.finish("passed")
    assert record.times.making == record.times.spent["quant"] + 2.0
    assert record.value("total_time_sec") == record.times.making


def test_provenance_takes_nothing_else(builder):
    with pytest.raises(BenchsuiteError, match="says nothing of the weights"):
        builder.provenance(wieghts="hub")
    builder.provenance(weights="embedded")
    builder.provenance(weights="checkpoint", weights_digest="0f")
    assert builder.finish("passed").source.weights == "checkpoint"
