"""The quantizer study's tables, from records of chosen numbers."""

import csv
import json
from dataclasses import replace

import pytest

from benchsuite.records.record import Failure
from benchsuite.reporting import render_page, terminal_lines, write_report
from benchsuite.reporting.results import StudyResults
from benchsuite.reporting.status import status_rows
from benchsuite.studies.quantizers.report import accuracy, grouped, kind, latency, precision, sizes
from benchsuite.study import study
from tests.reporting.factory import record

PERPLEXITY = {
    "fp16": 8.0,
    "rtn_w8": 8.01,
    "gptq_w4": 8.3,
    "awq_w4": 8.4,
    "smoothquant_w8a8": 8.05,
    "quarot_w4a4kv4": 9.0,
    "zeroed_layer": 40.0,
}


def cells(methods=PERPLEXITY):
    return [
        cell
        for cell in study("quantizers").cells()
        if cell.model == "tiny_llama_1m" and cell.method in methods
    ]


def measured(cell, **changes):
    numbers = {
        "arc_macro_f1": 60 - PERPLEXITY[cell.method],
        "size_after_mb": 2.0 if cell.method == "fp16" else 0.5,
        "compression_ratio": 1.0 if cell.method == "fp16" else 4.0,
        "latency_seconds": 0.5 + cell.seed / 100,
        "inference_memory_bytes": 3e6,
        "flipped_ci95": [1.0 + cell.seed, 2.0 + cell.seed],
    }
    return record(cell, PERPLEXITY[cell.method], **(numbers | changes))


@pytest.fixture
def records():
    return [measured(cell) for cell in cells()]


def test_kinds_and_widths_are_ranked_apart(records):
    rows = {row["method"]: row for row in accuracy(grouped(records))}
    assert {m: (rows[m]["kind"], rows[m]["rank"]) for m in PERPLEXITY} == {
        "fp16": ("reference", None),
        "rtn_w8": ("weight-only 8 bit", 1),
        "gptq_w4": ("weight-only 4 bit", 1),
        "awq_w4": ("weight-only 4 bit", 2),
        "smoothquant_w8a8": ("W8A8", 1),
        "quarot_w4a4kv4": ("W4A4", 1),
        "zeroed_layer": ("control", None),
    }
    assert kind("quarot_w4a16") == "weight-only 4 bit"


def test_one_seed_of_a_method_that_draws_has_no_rank():
    """Six methods of one seed each were once ranked 1 to 6."""
    every = [c for c in cells(["rtn_w8", "gptq_w4", "awq_w4"]) if c.method != "gptq_w4"]
    one = next(c for c in cells(["gptq_w4"]))
    rows = {row["method"]: row for row in accuracy(grouped(map(measured, [*every, one])))}
    assert {m: row["rank"] for m, row in rows.items()} == {
        "rtn_w8": 1,
        "gptq_w4": None,
        "awq_w4": 1,
    }


def test_tables_say_whose_weights_and_times_these_are(records):
    assert {row["weights"] for row in accuracy(grouped(records))} == {"embedded"}
    busy = [measured(cell, weights="dequantized", contended=True) for cell in cells()]
    told = {(r["weights"], r["device"], r["contended"]) for r in sizes(grouped(busy))}
    assert told == {("dequantized", "cuda: NVIDIA H200", True)}
    assert {r["contended"] for r in sizes(grouped(records))} == {False}


def test_differences_are_points_against_the_original(records):
    rows = {row["method"]: row for row in accuracy(grouped(records))}
    assert rows["fp16"]["delta_arc_macro_f1"] == 0
    assert rows["awq_w4"]["delta_arc_macro_f1"] == pytest.approx(-0.4)
    assert rows["gptq_w4"]["n_seeds"] == 3
    assert rows["gptq_w4"]["flipped_ci95"] == [43, 46]
    assert rows["fp16"]["flipped_ci95"] is None


def test_a_score_that_was_hardly_read_says_so(tmp_path):
    rates = {"gptq_w4": 28.0, "awq_w4": 80.0, "zeroed_layer": 0.0}
    numbers = {"arc_accuracy": 5.0, "maths_mean_difference": 1e56, "maths_median_difference": 3.0}
    found = {
        cell.id: measured(cell, arc_parse_rate=rates.get(cell.method, 100.0), **numbers)
        for cell in cells()
    }
    row = next(r for r in accuracy(grouped(found.values())) if r["method"] == "gptq_w4")
    names = list(row)
    assert names[names.index("arc_accuracy") + 3] == "arc_parse_rate"
    assert (row["arc_parse_rate"], row["maths_median_difference"]) == (28, 3)
    assert "maths_mean_difference" not in row
    said = (
        "arc_macro_f1 and arc_accuracy [tiny_llama_1m]: less than 80 % of the answers could be "
        "read (gptq_w4 28.0 %); an unread answer counts as wrong"
    )
    told = [text for text, _ in terminal_lines(results(found)) if said in text]
    assert len(told) == 1
    assert said in render_page([results(found)], folder=tmp_path)
    readable = {i: r for i, r in found.items() if r.cell.method != "gptq_w4"}
    assert "could be read" not in str(terminal_lines(results(readable)))


def test_rehearsals_have_sizes_and_no_quality():
    random = [measured(cell, weights="random") for cell in cells()]
    assert accuracy(grouped(random)) == []
    assert {row["weights"] for row in sizes(grouped(random))} == {"rehearsal"}


def test_latencies_of_two_devices_stand_in_two_rows():
    first, *_ = cells(["gptq_w4"])
    gpu = measured(first)
    cpu = measured(first, environment={**gpu.environment, "device": "c", "device_kind": "cpu"})
    rows = latency(grouped([gpu, cpu]))
    assert [row["device"] for row in rows] == ["cuda: NVIDIA H200", "cpu: c"]


def test_vllm_stands_beside_our_own_latency_where_it_was_measured():
    (served, *_), (alone, *_) = cells(["gptq_w4"]), cells(["awq_w4"])
    served = measured(served, vllm_tokens_per_second=250.0, vllm_memory_bytes=3e9)
    rows = {row["method"]: row for row in latency(grouped([served, measured(alone)]))}
    assert rows["gptq_w4"]["vllm_tokens_per_second"] == 250
    assert rows["gptq_w4"]["vllm_memory_mb"] == 3000
    assert rows["awq_w4"]["vllm_tokens_per_second"] is None


def test_the_time_of_a_token_stands_beside_its_limit_with_the_path_that_all_seeds_took():
    first, second, *_ = cells(["gptq_w4"])
    known = {"token_seconds": 0.002, "token_limit_seconds": 0.001}
    same = [measured(cell, **known, decoding_path="graphs") for cell in (first, second)]
    (row,) = latency(grouped(same))
    assert (row["token_seconds"], row["token_limit_seconds"]) == (0.002, 0.001)
    assert row["decoding_path"] == "graphs"
    other = measured(second, **known, decoding_path="eager")
    assert latency(grouped([same[0], other]))[0]["decoding_path"] is None


def results(found, **fields):
    grid = cells()
    missing = [c.id for c in grid if c.id not in found and c.id not in fields.get("failed", {})]
    return StudyResults(study("quantizers"), grid, found, missing=missing, **fields)


def test_the_files_and_the_page_show_the_tables(tmp_path, records):
    found = results({r.cell.id: r for r in records})
    write_report(tmp_path, [found])
    with open(tmp_path / "quantizers/accuracy.csv", newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert float(rows["awq_w4"]["delta_arc_macro_f1"]) == pytest.approx(-0.4)
    tables = json.loads((tmp_path / "quantizers/document_tables.json").read_text())
    assert set(tables) == {"sizes", "accuracy", "latency"}
    assert (
        "| weight-only 4 bit | 2 | awq_w4 |"
        in (tmp_path / "quantizers/document_tables.md").read_text()
    )
    page = render_page([found], folder=tmp_path)
    assert "<td>awq_w4</td>" in page
    assert "<td>weight-only 4 bit</td><td>2</td><td>awq_w4</td>" in page


def test_the_status_tracker_says_what_is_missing_and_why_something_failed(records):
    done = {r.cell.id: r for r in records if r.cell.method in ("fp16", "gptq_w4")}
    lost = next(i for i in done if "gptq_w4" in i)
    message = "Traceback\nout of memory"
    failed = {lost: replace(done[lost], outcome="failed", failure=Failure(message, "quant"))}
    del done[lost]
    rows = {row["method"]: row for row in status_rows([results(done, failed=failed)])}
    assert rows["fp16"]["status"] == "complete"
    assert rows["awq_w4"] == {
        "model": "tiny_llama_1m",
        "method": "awq_w4",
        "status": "not started",
        "done": 0,
        "failed": 0,
        "stale": 0,
        "missing": 3,
        "note": "",
    }
    assert rows["gptq_w4"]["status"] == "failed"
    assert (rows["gptq_w4"]["done"], rows["gptq_w4"]["note"]) == (2, "out of memory")


def test_the_original_is_named_by_the_dtype_that_it_is_stored_in(records):
    rows = {row["method"]: row for row in sizes(grouped(records))}
    assert (rows["fp16"]["precision"], rows["gptq_w4"]["precision"]) == ("BF16", "INT4")


def test_floating_point_codes_are_named_so_and_stand_in_the_kind_of_their_arithmetic():
    named = {"fp8_block": "FP8", "nvfp4_gptq_w4a16": "FP4", "mxfp4_w4a4": "FP4", "hqq_w8": "INT8"}
    assert {name: precision(name) for name in named} == named
    kinds = {"fp8_block": "W8A8", "nvfp4_gptq_w4a16": "weight-only 4 bit", "mxfp4_w4a4": "W4A4"}
    assert {name: kind(name) for name in kinds} == kinds


def test_a_setting_of_few_methods_keeps_its_original():
    """With another strength SmoothQuant stood without the original, and its losses were blank."""
    settings = {"alpha": 0.5}
    chosen = [
        cell
        for cell in study("quantizers").cells(settings=settings)
        if cell.model == "tiny_llama_1m" and cell.method in ("fp16", "smoothquant_w8a8")
    ]
    rows = accuracy(grouped(map(measured, chosen)))
    assert [(row["model"], row["method"], row["n_seeds"]) for row in rows] == [
        ("tiny_llama_1m__alpha-0.5", "fp16", 1),
        ("tiny_llama_1m__alpha-0.5", "smoothquant_w8a8", 3),
    ]
    assert rows[1]["delta_arc_macro_f1"] == pytest.approx(-0.05)
