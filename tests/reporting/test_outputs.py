"""What the report leaves for other programs: JUnit, YAML, figures, the list of records."""

import csv
import io
import warnings
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
import yaml

from benchsuite.reporting import (
    render_page,
    summarise,
    to_csv,
    to_junit,
    to_latex,
    to_markdown,
    to_yaml,
)
from benchsuite.reporting.coverage import coverage, coverage_markdown
from benchsuite.reporting.figures.seeds import write_figures
from benchsuite.reporting.page.model import MOST_DOTS
from benchsuite.reporting.report import records_csv
from benchsuite.study import ACCURACY, Metric
from tests.reporting.factory import MEANS, drawn, grid, record, results

THREE = ["gptq_default", "random", "cola_zero"]


def made(**options):
    return results(grid("llama2_7b", methods=THREE), **options)


def test_claims_are_junit_cases():
    cells = grid("llama2_7b", methods=THREE)
    one = results(cells, drawn(cells, means=MEANS | {"cola_zero": 7.0}))

    (suite,) = ET.fromstring(to_junit([one]))

    outcomes = [j.outcome for j in one.judgements]
    assert int(suite.get("tests")) == len(outcomes)
    assert int(suite.get("failures")) == outcomes.count("violated") > 0
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    assert "cola_zero has lower perplexity than random" in failed
    assert len(suite.findall("testcase/skipped")) == int(suite.get("skipped"))


def test_junit_survives_what_xml_has_no_place_for():
    one = made()
    one.judgements = [replace(one.judgements[0], sentence="a\x00b<&>\x1b", outcome="violated")]

    (suite,) = ET.fromstring(to_junit([one]))

    assert suite.find("testcase/failure").get("message") == "violated: a\ufffdb<&>\ufffd"


def test_yaml_has_the_latent_documents_keys():
    one = made()
    told = yaml.safe_load(to_yaml(summarise(one.study, one.cells, one.records)))

    row = told["llama-2-7b-hf"]["random"]
    values = [r.values["perplexity"] for i, r in one.records.items() if "-random-" in i]
    assert row["perplexity_mean"] == pytest.approx(sum(values) / 5)
    assert set(row) == {"perplexity_mean", "perplexity_std", "n_seeds"}
    assert row["n_seeds"] == 5


def test_further_metrics_reach_every_output():
    one = made()
    further = Metric("peak_memory_bytes")
    one.study = replace(one.study, metrics=(one.study.ranked_by, further))

    told = yaml.safe_load(to_yaml(summarise(one.study, one.cells, one.records)))
    page = render_page([one])

    assert told["llama-2-7b-hf"]["random"]["peak_memory_bytes_mean"] == 17 * 2**30
    assert "Further metrics" in page


def test_a_further_metric_says_of_how_many_seeds_it_is_where_some_hold_none():
    one = made()
    further = Metric("peak_memory_bytes", format=".0f")
    one.study = replace(one.study, metrics=(one.study.ranked_by, further))
    without = next(i for i in one.records if i.startswith("llama2_7b-random-"))
    one.records[without] = replace(one.records[without], peak_memory_bytes=None)

    told = yaml.safe_load(to_yaml(summarise(one.study, one.cells, one.records)))
    row = told["llama-2-7b-hf"]["random"]
    assert (row["n_seeds"], row["peak_memory_bytes_n_seeds"]) == (5, 4)
    assert "n_seeds" in told["llama-2-7b-hf"]["cola_zero"]
    assert "peak_memory_bytes_n_seeds" not in told["llama-2-7b-hf"]["cola_zero"]
    assert render_page([one]).count(f"{17 * 2**30} ± 0 (n = 4)") == 1


def test_a_title_of_many_settings_has_room(tmp_path):
    """One method, and a dozen settings that are named above it: the axes collapsed to nothing."""
    settings = {name: 7 for name in ("n_calibration_samples", "seq_len", "evaluation_tokens")}
    settings |= {"pool_documents": 50, "quant_bits": 3, "group_size": 16, "damp_percent": 0.5}
    settings |= {"calibration_corpus": "c4", "evaluation_corpus": "c4", "desc_act": True}
    cells = grid("llama2_7b", methods=["random"], seeds=(1,), settings=settings)
    one = results(cells, {c.id: record(c) for c in cells})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(write_figures(one, tmp_path)) == 2


def test_figures_show_every_seed_and_are_the_same_bytes_again(tmp_path):
    one = made()

    first = write_figures(one, tmp_path / "a")
    again = write_figures(one, tmp_path / "b")

    assert [path.name for path in first] == ["llama-2-7b-hf.png", "llama-2-7b-hf.svg"]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in again]
    drawing = first[1].read_text()
    assert drawing.count("<use ") >= 15


def test_records_without_the_metric_have_no_figure(tmp_path):
    cells = grid("llama2_7b", methods=["random"])
    records = drawn(cells, change=lambda cell: {"values": {"perplexity": None}})
    one = results(cells, records, judge=False)

    assert write_figures(one, tmp_path) == []


def test_every_record_is_a_row_with_its_file():
    one = made()
    rows = list(csv.DictReader(io.StringIO(records_csv([one]))))

    assert len(rows) == 15
    assert float(rows[0]["perplexity"]) == next(iter(one.records.values())).values["perplexity"]
    assert all(row["file"].startswith("store/records/") for row in rows)


def test_a_page_of_many_records_draws_all_dots_and_lists_none():
    cells = grid("llama2_7b", methods=["random", "cola_zero"], seeds=range(MOST_DOTS // 2 + 1))
    page = render_page([results(cells, judge=False)])

    assert "<circle" not in page
    assert page.count("h0") == len(cells)
    assert "calibration_selection/records.csv" in page
    assert len(page) < 60 * len(cells)


def test_coverage_tells_measured_from_rehearsed_from_never_run():
    cells = grid("llama2_7b", methods=["random", "cola_zero"])

    def change(cell):
        return {"weights": "random"} if cell.method == "cola_zero" else {}

    one = results(cells, drawn(cells, change=change))

    table = coverage([one])["calibration_selection"]["llama2_7b"]
    assert table["random"] == "measured (5)"
    assert table["cola_zero"] == "rehearsed (5)"
    assert table["stratified"] == "never run"
    text = coverage_markdown([one])
    assert "| method | tiny_llama_1m |" in text
    assert text.count("never run") == sum(
        said == "never run"
        for methods in coverage([one])["calibration_selection"].values()
        for said in methods.values()
    )


@pytest.mark.parametrize("weights", [None, "unknown"])
def test_a_record_that_names_no_weights_measures_no_hub_model(weights):
    cells = grid("llama2_7b", "tiny_llama_1m", methods=["random"])
    one = results(cells, drawn(cells, change=lambda cell: {"weights": weights}))

    table = coverage([one])["calibration_selection"]
    assert table["llama2_7b"]["random"] == "weights not stated (5)"
    assert table["tiny_llama_1m"]["random"] == "measured (5)"


@pytest.mark.parametrize(("scale", "stored"), [(1, 1.0), (100, 0.01)])
def test_one_right_answer_of_a_hundred_is_one_percent(scale, stored, tmp_path):
    cells = grid("llama2_7b", methods=["random"], seeds=(1,))
    one = results(cells, {c.id: record(c, accuracy=stored) for c in cells})
    shown = replace(ACCURACY, scale=scale)
    one.study = replace(one.study, metrics=(shown,), claims=())

    page = render_page([one])
    summary = summarise(one.study, one.cells, one.records)

    assert "<b>1.0 %</b>" in page
    assert "accuracy (%)" in page
    (svg, *_) = [p for p in write_figures(one, tmp_path) if p.suffix == ".svg"]
    assert svg.stat().st_size
    assert "| method | n | accuracy (%) |" in to_markdown(summary)
    assert "| random | 1 | 1.0 |" in to_markdown(summary)
    assert r"accuracy (\%)" in to_latex(summary)
    (row,) = csv.DictReader(io.StringIO(to_csv(summary)))
    assert (row["metric"], float(row["mean"])) == (shown.stored_heading, stored)
    (row,) = csv.DictReader(io.StringIO(records_csv([one])))
    assert float(row[shown.stored_heading]) == stored


def test_a_table_has_the_stages_that_the_study_counts():
    one = made()
    one.study = replace(one.study, making=("quant",))
    assert summarise(one.study, one.cells, one.records)["_benchsuite"]["making"] == ["quant"]
    page = render_page([one])
    assert '<th class="num">quant</th><th class="num">making</th>' in page
    assert '<th class="num">selection</th>' not in page


def test_parts_of_a_metric_are_no_column():
    one = made()
    assert "downstream" not in records_csv([one]).splitlines()[0]
    assert "Further metrics" not in render_page([one])
