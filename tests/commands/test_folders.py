"""Reports folders by the command line: merged by ``report``, held against each other by ``diff``,
measured again by ``reproduce``."""

import json
import shutil

import pytest

from benchsuite.commands.main import main
from tests.reporting.factory import grid, record, stored


def test_an_edited_record_is_left_out_by_name(project, bench, command):
    bench("-k", "two_models and toy_a")
    path = next((project.path / "reports/store/records").glob("*.json"))
    path.write_text(path.read_text().replace('"outcome": "passed"', '"outcome": "passed "'))

    result = command("report", "reports", "--reports-dir=merged")

    assert result.ret == 0
    result.stdout.fnmatch_lines([f"left out *{path.name}: the record was changed*", "*index.html"])
    summary = json.loads((project.path / "merged/two_models/summary_stats.json").read_text())
    assert summary["_benchsuite"]["n_records"] == 5


def test_a_folder_without_records_among_others_is_named(project, bench, command):
    bench("-k", "two_models and toy_a")
    (project.path / "nothing").mkdir()

    result = command("report", "reports", "nothing", "--reports-dir=merged")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["nothing holds no records", "*index.html"])

    result = command("report", "reports", "nowhere", "--reports-dir=merged")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*nowhere is no folder. Name folders that a run had*"])


@pytest.fixture
def two(tmp_path, monkeypatch):
    """Two machines' folders, a and b, where the commands run."""
    monkeypatch.chdir(tmp_path)
    records = {cell.id: record(cell) for cell in grid("tiny_llama_1m", methods=["random"])}
    for name in ("a", "b"):
        stored(tmp_path / name / "store/records", records)
    return tmp_path


def test_a_report_over_named_folders_never_writes_into_one_of_them(two, capsys):
    before = sorted(two.rglob("*"))

    assert main(["report", "a", "b"]) == pytest.ExitCode.USAGE_ERROR
    assert "Write benchsuite report a b --reports-dir DIR" in capsys.readouterr().err
    assert sorted(two.rglob("*")) == before

    assert main(["report", "a", "b", "--reports-dir", "both"]) == 0
    assert "pytest --pyargs benchsuite.benchmarks -m" in (two / "both/index.html").read_text()
    shutil.rmtree(two / "both")
    assert sorted(two.rglob("*")) == before


def test_what_the_system_refuses_to_write_is_one_paragraph(two, capsys):
    (two / "file").touch()

    assert main(["report", "a", "--reports-dir", "file/under"]) == pytest.ExitCode.USAGE_ERROR

    said = capsys.readouterr().err
    assert said.startswith("benchsuite report: the reports folder cannot be written: Not a di")
    assert said.count("\n") == 1


def test_diff_of_equal_folders_is_0_and_of_a_broken_study_1(project, bench, command):
    bench("-k", "select_and_quantize")
    shutil.copytree(project.path / "reports", project.path / "last_night")
    assert command("diff", "last_night", "reports").ret == 0
    path = project.path / "benchmarks/test_shapes.py"
    path.write_text(path.read_text().replace("math.exp(sum(errors))", "9 + math.exp(sum(errors))"))
    bench("-k", "select_and_quantize")

    result = command("diff", "last_night", "reports")

    assert result.ret == 1
    result.stdout.fnmatch_lines(["worse: select_and_quantize/toy_a/first perplexity: *beyond*"])
    result.stdout.fnmatch_lines(["cells: 0 bit-identical, 12 changed"])


def test_diff_of_a_folder_without_records_is_one_paragraph(command):
    result = command("diff", ".", "nowhere")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["benchsuite diff: *holds no records*"])


@pytest.mark.stress
def test_reproduce_says_bit_identical_or_what_differs(project, bench, command):
    bench(
        "-k",
        "select_and_quantize and toy_a and drawn-seed2",
        "--set=select_and_quantize.n_samples=5",
    )
    (path,) = (project.path / "reports/select_and_quantize/raw_runs").glob("*.json")
    assert command("reproduce", str(path)).ret == 0

    record = json.loads(path.read_text())
    assert record["n_samples"] == 5
    body = project.path / "benchmarks/test_shapes.py"
    body.write_text(body.read_text().replace("0.05 + sum", "0.06 + sum"))
    result = command("reproduce", str(path), "--reports-dir=again")

    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "code: another digest*",
            f"perplexity: {record['perplexity']!r} before, *",
            "bits of weights_sha256: *",
            "toy_a-drawn-seed2: not the same bits*",
        ]
    )
    assert list((project.path / "again/store/records").glob("*.json"))


def test_reproduce_of_what_is_no_record_is_one_paragraph(project, command):
    (project.path / "x.json").write_text("[1]")

    result = command("reproduce", "x.json")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["benchsuite reproduce: x.json is not a whole record*"])
