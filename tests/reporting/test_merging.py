"""Reports folders brought together: what joins, what differs, what is left out."""

import csv
import json
import os
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from benchsuite.commands.main import main
from benchsuite.records.store import Store
from benchsuite.reporting import write_report
from benchsuite.reporting.coverage import coverage_markdown
from benchsuite.reporting.merging import judged, read_sources
from benchsuite.study import study
from tests.reporting.factory import DOCUMENT, drawn, grid, record, stored


def folder(path, records):
    """Keep records as a store does."""
    stored(path / "store/records", records)
    return path


def test_two_machines_are_merged_and_the_first_wins_where_they_differ(tmp_path):
    cells = grid("llama2_7b", methods=["random", "cola_zero"])
    records = drawn(cells)
    first, rest = dict(list(records.items())[:6]), dict(list(records.items())[5:])
    other = {**rest, cells[5].id: record(cells[5], 6.5)}
    a, b = folder(tmp_path / "a", first), folder(tmp_path / "b", other)

    sources, (merged,) = judged([a, b], tmp_path)

    assert len(merged.records) == 10
    assert merged.records[cells[5].id].values == records[cells[5].id].values
    (conflict,) = merged.conflicts
    assert cells[5].id in conflict
    assert "6.5" in conflict
    assert merged.links[cells[9].id].startswith("b/store/records/")
    claim = next(j for j in merged.judgements if j.claim.method == "cola_zero" and j.claim.other)
    assert claim.evidence["n"] == 5
    assert sources.agreeing == 0


def test_exported_views_alone_are_merged(tmp_path):
    records = drawn(grid("llama2_7b", methods=["random"]))
    stored(tmp_path / "calibration_selection/raw_runs", records)

    _, (found,) = judged([tmp_path])

    measured = {i: r.values["perplexity"] for i, r in found.records.items()}
    assert measured == {i: r.values["perplexity"] for i, r in records.items()}
    assert all(r.times == records[i].times for i, r in found.records.items())


def test_evidence_that_was_changed_is_left_out_by_name(tmp_path):
    (cell, *_) = grid("llama2_7b", methods=["random"])
    store = Store(tmp_path)
    store.prepare()
    kept = store.write(record(cell), {"chunk_nll": np.arange(3.0)})
    sources = read_sources([tmp_path])
    assert sources.columns(kept)["chunk_nll"].tolist() == [0, 1, 2]

    side = store.records / kept.items.file
    side.write_bytes(side.read_bytes()[:-1] + b"x")

    assert sources.columns(kept) == {}
    assert sources.notes == [f"left out {side}: changed after it was written"]


def test_a_cell_that_failed_on_one_machine_and_passed_on_another_is_done(tmp_path):
    (cell, *_) = cells = grid("llama2_7b", methods=["random"])
    a = tmp_path / "a"
    store = Store(a)
    store.prepare()
    store.write(record(cell, failure=("quant", "out of memory")))
    b = folder(tmp_path / "b", drawn(cells))

    assert [found.record.cell.id for found in read_sources([a]).failed.values()] == [cell.id]
    for order in ([a, b], [b, a]):
        sources = read_sources(order)
        assert sources.failed == {}
        assert len(sources.good) == len(cells)


def test_of_many_files_that_cannot_be_read_three_are_named_and_the_rest_counted(tmp_path):
    one = folder(tmp_path / "a", drawn(grid("llama2_7b", methods=["random"])))
    for number in range(5):
        (one / f"store/records/{number}.json").write_text("{")

    notes = read_sources([one]).notes

    assert len(notes) == 4
    assert notes[-1] == f"left out 2 further files of {one}"


def test_equal_bits_agree(tmp_path):
    records = drawn(grid("llama2_7b", methods=["random"]))
    a, b = folder(tmp_path / "a", records), folder(tmp_path / "b", records)

    sources = read_sources([a, b])

    assert (sources.agreeing, sources.conflicts) == (5, [])


def test_the_documents_own_files_join_the_study(tmp_path):
    files = {f"seed{s}": DOCUMENT | {"seed": s, "perplexity": 5.7 + s / 1000} for s in (42, 43)}
    files["other"] = DOCUMENT | {"method": "of_another_world"}
    stored(tmp_path / "metrics/raw_runs", files)

    sources, (found,) = judged([tmp_path])

    assert found.study.name == "calibration_selection"
    assert set(found.records) == {"llama2_7b-cola_zero-seed42", "llama2_7b-cola_zero-seed43"}
    assert "llama2_7b-random-seed42" in found.missing
    assert len(sources.notes) == 1


def test_other_parameters_are_results_of_their_own(tmp_path):
    four = drawn(grid("llama2_7b", methods=["random"]))
    three = drawn(grid("llama2_7b", methods=["random"], settings={"quant_bits": 3}))
    both = folder(folder(tmp_path, four) / "x", three).parent

    _, found = judged([both])

    assert sorted(len(r.records) for r in found) == [5, 5]
    assert {c.parameters["quant_bits"] for r in found for c in r.cells} == {3, 4}


def test_a_given_checkpoint_is_never_shown_as_what_the_study_made(tmp_path):
    (cell, *_) = grid("llama2_7b", methods=["random"])
    given = folder(tmp_path / "given", {cell.id: record(cell, 6.5, weights="checkpoint")})
    made = folder(tmp_path / "made", {cell.id: record(cell, 5.5)})

    for order in ([given, made], [made, given]):
        _, found = judged(order)

        assert not any(one.conflicts for one in found)
        shown = [
            (r.source.weights, r.values["perplexity"]) for f in found for r in f.records.values()
        ]
        assert shown == [("hub", 5.5), ("checkpoint", 6.5)]


def test_a_setting_of_one_method_shows_the_others_once(tmp_path):
    settings = {"iterations": 50, "n_questions": 64}
    wanted = ("adaround_w4", "rtn_w4")  # rounding to nearest has no iterations
    cells = [
        cell
        for cell in study("quantizers").cells(settings=settings)
        if (cell.model, cell.seed) == ("tiny_llama_1m", 42) and cell.method in wanted
    ]

    _, (found,) = judged([folder(tmp_path, {cell.id: record(cell) for cell in cells})])

    assert sorted(r.cell.method for r in found.records.values()) == sorted(wanted)


def test_a_parameter_that_json_made_a_list_is_no_change(tmp_path):
    (cell, *_) = study("determinism").cells()
    assert isinstance(cell.parameters["others"], tuple)

    _, (found,) = judged([folder(tmp_path, {cell.id: record(cell, l2_max=0.0)})])

    assert cell in found.cells
    assert list(found.records) == [cell.id]


def of_weights(cells, digest, weights="local", perplexity=5.7):
    """Return records of some cells that say which weights they measured."""
    made = {cell.id: record(cell, perplexity) for cell in cells}
    source = {"weights": weights, "weights_digest": digest}
    return {i: replace(r, source=replace(r.source, **source)) for i, r in made.items()}


@pytest.mark.parametrize(
    ("weights", "digest"),
    [("local", f"{'2' * 64}:float32"), ("dequantized", None), ("embedded", "2" * 64)],
)
def test_other_weights_under_one_name_are_never_in_one_comparison(tmp_path, weights, digest):
    cells = grid("llama2_7b", methods=["random", "cola_zero"])
    ours, theirs = ([c for c in cells if c.method == m] for m in ("random", "cola_zero"))
    first = folder(tmp_path / "a", of_weights(ours, f"{'1' * 64}:bfloat16"))
    second = folder(tmp_path / "b", of_weights(theirs, digest, weights, 9.0))

    _, found = judged([first, second])

    assert [{r.cell.method for r in one.records.values()} for one in found] == [
        {"random"},
        {"cola_zero"},
    ]
    assert all(j.outcome == "not_run" for one in found for j in one.judgements if j.claim.other)
    assert found[0].notes == []
    assert "never compared with them: llama2_7b: " in found[1].notes[0]


def test_the_dtype_of_a_device_and_an_unknown_digest_are_no_other_weights(tmp_path):
    cells = grid("llama2_7b", methods=["random", "cola_zero", "stratified"])
    halves = [[c for c in cells if c.method == m] for m in ("random", "cola_zero", "stratified")]
    named = [of_weights(halves[0], f"{'1' * 64}:bfloat16"), of_weights(halves[1], None)]
    named.append(of_weights(halves[2], f"{'1' * 64}:float32"))
    folders = [folder(tmp_path / str(i), found) for i, found in enumerate(named)]

    _, (found,) = judged(folders)

    assert len(found.records) == 15


def test_a_folder_that_is_named_twice_confirms_nothing(tmp_path):
    one = folder(tmp_path / "a", drawn(grid("llama2_7b", methods=["random"])))
    (tmp_path / "link").symlink_to(one)

    assert read_sources([one, tmp_path / "link", f"{one}/"]).agreeing == 0


def test_a_pipe_in_the_place_of_a_record_is_left_out(tmp_path):
    one = folder(tmp_path / "a", drawn(grid("llama2_7b", methods=["random"])))
    os.mkfifo(one / "store/records/feed.json")

    assert "it is a pipe" in read_sources([one]).notes[0]


def test_a_given_checkpoint_never_takes_the_place_of_the_models_own(tmp_path):
    """It once did in summary_stats.json, and the quantizers' tables averaged the two."""
    cells = [
        cell
        for cell in study("quantizers").cells()
        if cell.model == "tiny_llama_1m" and cell.method in ("fp16", "gptq_w4")
    ]
    own = {c.id: record(c, 8.0 if c.method == "fp16" else 8.3) for c in cells}
    given = {
        i: replace(
            found,
            source=replace(found.source, weights="checkpoint"),
            fingerprint=replace(found.fingerprint, inputs=f"given {i}"),
            values={**found.values, "perplexity": 20.0},
        )
        for i, found in own.items()
        if found.cell.method == "gptq_w4"
    }
    a, b = folder(tmp_path / "a", own), folder(tmp_path / "b", given)

    assert main(["report", str(a), str(b), "--reports-dir", str(tmp_path / "out")]) == 0

    out = tmp_path / "out/quantizers"
    summary = json.loads((out / "summary_stats.json").read_text())
    means = {
        model: {m: found["ppl"]["mean"] for m, found in methods.items() if "ppl" in found}
        for model, methods in summary.items()
        if model != "_benchsuite"
    }
    assert means == {
        "tiny_llama_1m": {"fp16": 8.0, "gptq_w4": pytest.approx(8.3)},
        "tiny_llama_1m (checkpoint)": {"gptq_w4": 20.0},
    }
    judged_of = {j["model"] for j in summary["_benchsuite"]["judgements"]}
    assert judged_of == {"tiny_llama_1m", "tiny_llama_1m (checkpoint)"}
    for place, value, n in (("", 8.3, 3), ("other_weights/checkpoint/", 20.0, 3)):
        rows = list(csv.DictReader((out / f"{place}accuracy.csv").open()))
        (row,) = (r for r in rows if r["method"] == "gptq_w4")
        assert (float(row["perplexity"]), int(row["n_seeds"])) == (pytest.approx(value), n)
        assert (out / f"{place}figures/tiny_llama_1m.svg").is_file()
    kinds = [row["kind"] for row in csv.DictReader((out / "records.csv").open())]
    assert kinds == ["real"] * 4 + ["real, checkpoint"] * 3
    classes = {c.get("classname") for c in ET.parse(tmp_path / "out/claims.xml").iter("testcase")}
    assert classes == {f"quantizers.{model}" for model in means}
    heads = re.findall(r"<h2[^>]*>.*?</h2>", (tmp_path / "out/index.html").read_text(), re.DOTALL)
    assert ["checkpoint" in head for head in heads if "quantizers" in head] == [False, True]
    assert "| gptq_w4 | a given checkpoint (3) |" in coverage_markdown(judged([b])[1])


def test_a_record_that_two_settings_have_is_counted_once(tmp_path):
    methods = ["random", "cola_zero"]
    plain = grid("llama2_7b", methods=methods)
    scored = grid("llama2_7b", methods=["cola_zero"], settings={"scoring_model": "qwen3_0_6b"})
    a, b = folder(tmp_path / "a", drawn(plain)), folder(tmp_path / "b", drawn(scored))

    write_report(tmp_path / "out", judged([a, b])[1])

    out = tmp_path / "out/calibration_selection"
    rows = list(csv.DictReader((out / "records.csv").open()))
    assert len(rows) == len({row["cell"] for row in rows}) == 15
    status = {row["method"]: row for row in csv.DictReader((out / "status.csv").open())}
    assert (status["random"]["done"], status["cola_zero"]["done"]) == ("5", "10")
    summary = json.loads((out / "summary_stats.json").read_text())
    assert {
        model: sorted(m for m in found if "_vs_" not in m)
        for model, found in summary.items()
        if model != "_benchsuite"
    } == {
        "llama-2-7b-hf": ["cola_zero", "random"],
        "llama-2-7b-hf__scoring_model-qwen3_0_6b": ["cola_zero", "random"],
    }
