import json
import subprocess
import sys
from dataclasses import replace

import pytest

from benchsuite.errors import UsageError
from benchsuite.reporting import load_items, load_records, terminal_lines, write_report
from benchsuite.reporting.report import write_text
from tests.reporting.factory import DOCUMENT, drawn, grid, results, stored

FILES = {f"summary{end}" for end in ("_stats.json", ".csv", ".yaml", ".tex", ".md")}
FILES |= {"records.csv", "status.csv", "status.md"}


def test_it_writes_the_documents_files_and_the_page(tmp_path):
    page = write_report(tmp_path, [results(grid("llama2_7b"))])

    assert page == tmp_path / "index.html"
    written = {p.name for p in (tmp_path / "calibration_selection").iterdir()}
    assert written == FILES
    summary = json.loads((tmp_path / "calibration_selection/summary_stats.json").read_text())
    assert summary["llama-2-7b-hf"]["random"]["ppl"]["n"] == 5


def test_writing_again_replaces_and_leaves_no_drafts(tmp_path):
    cells = grid("llama2_7b")
    write_report(tmp_path, [results(cells, drawn(cells, rng_seed=1))])
    write_report(tmp_path, [results(cells, drawn(cells, rng_seed=2))])

    assert not [p for p in tmp_path.rglob("*") if p.name.startswith(".")]


def test_results_of_one_study_are_merged(tmp_path):
    four, three = grid("llama2_7b"), grid("llama2_7b", settings={"quant_bits": 3})
    write_report(tmp_path, [results(four), results(three)])

    summary = json.loads((tmp_path / "calibration_selection/summary_stats.json").read_text())
    assert {"llama-2-7b-hf", "llama-2-7b-hf__quant_bits-3"} < set(summary)
    assert summary["_benchsuite"]["n_cells"] == 90


def test_no_torch_and_no_pytest_are_imported():
    code = (
        "import sys, benchsuite.reporting as r; r.write_report; r.terminal_lines; r.judge_study;"
        "r.check_summary; r.summarise;"
        "print([m for m in ('torch', 'transformers', 'pytest', 'pandas') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == "[]"


def test_records_load_as_a_frame(tmp_path):
    records = drawn(grid("llama2_7b", methods=["random"]))
    stored(tmp_path / "store/records", records)
    stored(tmp_path / "calibration_selection/raw_runs", records)

    frame = load_records(tmp_path)

    assert len(frame) == 5
    measured = {r.cell.seed: r.values["perplexity"] for r in records.values()}
    assert dict(zip(frame["seed"], frame["perplexity"], strict=True)) == measured
    assert set(frame["environment.device_kind"]) == {"cuda"}
    assert set(frame["cell.study"]) == {"calibration_selection"}
    assert frame.attrs["unreadable"] == []


def test_the_documents_own_files_load_too(tmp_path):
    stored(tmp_path / "metrics/raw_runs", {"a": DOCUMENT, "b": DOCUMENT | {"seed": 43}})
    (tmp_path / "metrics/raw_runs/broken.json").write_text('{"model": ')
    (tmp_path / "metrics/raw_runs/other.json").write_text("[1, 2]")

    frame = load_records(tmp_path / "metrics/raw_runs")

    assert frame["seed"].tolist() == [42, 43]
    assert frame["outcome"].tolist() == ["passed", "passed"]
    assert len(frame.attrs["unreadable"]) == 2


def test_several_folders_are_one_frame(tmp_path):
    for machine, rng_seed in (("a", 1), ("b", 2)):
        records = drawn(grid("llama2_7b", methods=["random"]), rng_seed=rng_seed)
        stored(tmp_path / machine / "store/records", records)

    assert len(load_records(tmp_path / "a", tmp_path / "b")) == 10


def write_seeds(records, folder, columns):
    """Write the records' seeds, as a study's own reporter would."""
    path = folder / "figures" / "seeds.txt"
    write_text(path, " ".join(str(record.cell.seed) for record in records))
    return [path]


def refuse(records, folder, columns):
    """Fail, as a study's own reporter may."""
    raise ValueError("no such column")


def with_reporter(name, cells):
    made = results(cells)
    made.study = replace(made.study, reporter=f"{__name__}:{name}")
    return made


def test_a_study_writes_further_files_and_the_page_links_them(tmp_path):
    cells = grid("llama2_7b", methods=["random"])
    page = write_report(tmp_path, [with_reporter("write_seeds", cells)])

    link = "calibration_selection/figures/seeds.txt"
    assert (tmp_path / link).read_text() == "42 43 44 45 46"
    assert f'<a href="{link}">' in page.read_text()


def test_a_reporter_that_fails_is_told_and_stops_nothing(tmp_path):
    made = with_reporter("refuse", grid("llama2_7b", methods=["random"]))
    page = write_report(tmp_path, [made])

    assert "refuse wrote no files: ValueError: no such column" in page.read_text()
    assert any("no such column" in text for text, _ in terminal_lines(made))


@pytest.mark.parametrize("load", [load_records, load_items])
@pytest.mark.parametrize("named", ["reprots", "", " "])
def test_a_mistyped_folder_is_no_empty_frame(load, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="there is no folder"):
        load(named)
    with pytest.raises(UsageError, match="there is no folder reports"):
        load()
