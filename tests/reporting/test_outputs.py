"""What the report leaves for other programs: JUnit, YAML, figures, the list of records."""

import csv
import io
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
import yaml

from benchsuite.reporting import render_page, summarise, to_junit, to_yaml
from benchsuite.reporting.coverage import coverage, coverage_markdown
from benchsuite.reporting.figures.seeds import write_figures
from benchsuite.reporting.page import MOST_DOTS
from benchsuite.reporting.report import records_csv
from tests.reporting.factory import MEANS, drawn, grid, results

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
    one.study = replace(one.study, metrics=("peak_memory_bytes",))

    told = yaml.safe_load(to_yaml(summarise(one.study, one.cells, one.records)))
    page = render_page([one])

    assert told["llama-2-7b-hf"]["random"]["peak_memory_bytes_mean"] == 17 * 2**30
    assert "Further metrics" in page


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
