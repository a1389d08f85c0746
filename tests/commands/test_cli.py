"""The command line: what there is and what is done."""

import shlex
import signal
import sys
from pathlib import Path

import pytest

from benchsuite import __version__
from benchsuite.commands.collecting import pytest_words
from benchsuite.commands.listing import _aligned, _parameters
from benchsuite.commands.main import main
from benchsuite.study import study
from tests import forked

ROOT = Path(__file__).parents[2]


def test_list_shows_questions_axes_and_parameters(command):
    result = command("list")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["select_and_quantize: *", "*model*toy_a, toy_b", "*n_samples *8*", "*12 cells selected"]
    )


def test_list_prints_what_the_ini_file_sets(command, project):
    """It said the study's own value, which would not run."""
    (project.path / "pytest.ini").write_text("[pytest]\nbenchsuite_set = training.steps=3\n")
    result = command("list", "training")
    result.stdout.fnmatch_lines(["*parameter*selected*", "*steps *3*"])


def test_list_prints_what_the_selected_cells_will_run():
    words = ["list", "-k", "calibration and tiny_llama_1m and seed42 and (random or rtn)"]
    command = [sys.executable, "-m", "benchsuite", *words]
    done = forked.run(command, ROOT, heavy=False)
    assert not done.returncode, done.stderr
    shown = [line.split() for line in done.stdout.splitlines()]
    assert ["parameter", "selected"] in shown
    assert ["seq_len", "256", "tokens"] in [words[:3] for words in shown]
    assert ["calibration_corpus", "embedded_text"] in [words[:2] for words in shown]
    assert "scoring_model" not in done.stdout, "only cola_zero has it"
    assert "2 cells selected" in done.stdout


def test_list_of_a_study_prints_both_kinds_of_models():
    declared = study("calibration_selection")
    table = list(_aligned(_parameters(declared, [])))
    assert table[0].split() == ["parameter", "hub", "models", "embedded"]
    rows = {line.split()[0]: line for line in table}
    assert rows["seq_len"].split()[1:4] == ["2048", "256", "tokens"]
    assert rows["quant_bits"].split()[1:3] == ["4", "bits"]
    assert "one of 2, 3, 4, 5, 6, 7, 8" in rows["quant_bits"]
    assert rows["scoring_model"].endswith("only cola_zero")


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"benchsuite {__version__}\n"


def test_a_reader_that_has_seen_enough_ends_the_command_quietly(project):
    words = f"{shlex.quote(sys.executable)} -m benchsuite list"
    result = project.run("bash", "-c", f"{words} | head -1; exit ${{PIPESTATUS[0]}}")
    assert result.ret in (0, 128 + signal.SIGPIPE)
    assert result.outlines[0].startswith("select_and_quantize: ")
    assert not result.errlines


def test_many_missing_cells_are_counted_and_fewer_are_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # without benchmarks of its own: the shipped ones
    assert main(["status", "-m", "cell(study='calibration_selection')"]) == 0
    *missing, total = capsys.readouterr().out.splitlines()
    assert "missing  calibration_selection/tiny_llama_1m: 47 cells" in missing
    counts = [int(line.split()[-2]) for line in missing]
    assert total == f"{sum(counts)} missing"
    assert main(["status", "-m", "cell(study='calibration_selection', model='tiny_llama_1m')"]) == 0
    named = capsys.readouterr().out.splitlines()
    assert "missing  calibration_selection/tiny_llama_1m-random-seed42" in named
    assert len(named) == 48


def test_what_cannot_be_collected_is_named_with_its_reason(command, project):
    (project.path / "benchmarks/test_more.py").write_text("import nowhere_to_be_found\n")
    result = command("status")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*: benchmarks/test_more.py: ModuleNotFoundError: No module *"])
    (project.path / "conftest.py").write_text("x = = 1\n")
    result = command("status")
    result.stderr.fnmatch_lines(["*while loading conftest '*conftest.py': SyntaxError: *"])


@pytest.mark.parametrize("name", [pytest.param("claims", marks=pytest.mark.stress), "report"])
def test_records_whose_benchmark_is_not_here_are_not_passed_over(command, bench, project, name):
    bench("-k", "two_models and toy_a")
    (project.path / "benchmarks/test_shapes.py").rename(project.path / "test_shapes.py")
    page = (project.path / "reports/index.html").read_text()
    (project.path / "benchmarks/test_other.py").write_text(
        "import pytest\n@pytest.mark.study('training')\ndef test_other(cell): pass\n"
    )
    result = command(name)
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["*: the benchmark of two_models is not here, and reports has no *"]
    )
    assert (project.path / "reports/index.html").read_text() == page
    assert command(name, "test_shapes.py").ret == 0


@pytest.mark.stress
def test_a_record_whose_benchmark_lies_elsewhere_asks_for_its_file(command, bench, project):
    """And is measured as it was, whatever the ini file has said since."""
    bench("-k", "training and toy_a and direct-seed1")
    (record,) = project.path.glob("reports/training/raw_runs/*.json")
    (project.path / "benchmarks").rename(project.path / "elsewhere")
    (project.path / "pytest.ini").write_text("[pytest]\nbenchsuite_set = training.steps=3\n")
    result = command("reproduce", str(record))
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*have no cell toy_a-direct-seed1 of study training. Name the*"])
    result = command("reproduce", str(record), "elsewhere")
    result.stdout.fnmatch_lines(["toy_a-direct-seed1: bit-identical *"])


BELOW = """
from benchsuite.study import Study, register_study
axes = {"model": ("toy_a",), "method": ("a",)}
register_study(Study("below", "?", axes, (1,), {"sizes": (1, 2)}, reads={"model": ""}))
"""


def test_a_study_of_a_conftest_further_down_is_found_where_its_folder_is_named(
    command, bench, project
):
    """And warnings that the project takes for errors end no command."""
    (project.path / "below").mkdir()
    (project.path / "below/conftest.py").write_text(BELOW)
    (project.path / "below/test_below.py").write_text(
        "import pytest\n@pytest.mark.study('below')\n"
        "def test_below(cell, record): record.update(perplexity=sum(cell['sizes']))\n"
    )
    (project.path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    words = ("below", "--set", "below.sizes=(3,4)")
    project.runpytest_subprocess(*words).assert_outcomes(passed=1)
    (record,) = project.path.glob("reports/below/raw_runs/*.json")

    command("status", *words).stdout.fnmatch_lines(["1 done"])
    again = command("reproduce", str(record), "below")
    again.stdout.fnmatch_lines(["toy_a-a-seed1: bit-identical *"])
    alone = command("reproduce", str(record))
    assert alone.ret == 4
    alone.stderr.fnmatch_lines(["*unknown study: 'below'. Known: *. One of your own: run this wh*"])


def test_a_blank_before_the_reports_folder_is_as_good_as_an_equals_sign(command, bench, project):
    bench("-k", "two_models and toy_a and same", "--reports-dir", "mine")
    for name in ("status", "claims", "report"):
        result = command(name, "-k", "two_models", "--reports-dir", "mine")
        assert result.ret == 0, result.stderr.str()
    assert not (project.path / "reports").exists()


def test_status_counts_done_failed_stale_and_missing(command, bench, project):
    bench("-k", "two_models and toy_a")
    result = command("status", "-k", "two_models")
    result.stdout.fnmatch_lines(["missing  two_models/toy_b-same-seed1", "6 done, 6 missing"])
    path = project.path / "benchmarks/test_shapes.py"
    path.write_text(path.read_text().replace("0.75, 0.26", "0.75, 0.27"))
    again = command("status", "-k", "two_models and toy_a")
    again.stdout.fnmatch_lines(
        ["stale    two_models/toy_a-same-seed1: changed code (test_shapes.py)", "6 stale"]
    )


def test_claims_judges_without_running(command, bench):
    bench("-k", "select_and_quantize")
    result = command("claims", "-k", "select_and_quantize")
    result.stdout.fnmatch_lines(["*held: first is bit-identical over seeds*"])


def test_an_export_knows_the_projects_own_studies(command, bench, project):
    bench("-k", "select_and_quantize and toy_a")
    result = command("export", "--to", "paper")
    assert result.ret == 0, result.stderr.str()
    result.stdout.fnmatch_lines(["* files; begin with paper/README.md"])
    assert (project.path / "paper/select_and_quantize/toy_a.tex").is_file()
    card = (project.path / "paper/README.md").read_text()
    assert "**select_and_quantize**" in card


def test_a_selection_of_any_length_is_no_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    long = " or ".join(f"cell(method='rtn_w{i}')" for i in range(30))
    assert pytest_words(["-m", long]) == ["--pyargs", "benchsuite.benchmarks", "-m", long]


def test_a_wrong_expression_is_one_paragraph(command):
    result = command("status", "-k", "and and")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "Traceback" not in result.stderr.str()


def test_an_unknown_option_is_named_and_not_pytests_usage(command):
    result = command("estimate", "--foo")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*could not collect the cells: unrecognized arguments: --foo. *"])


def test_a_reports_folder_that_exists_elsewhere_is_no_folder_of_tests(command, bench, tmp_path):
    bench("-k", "two_models and toy_a and same", f"--reports-dir={tmp_path}")
    result = command("status", "-k", "two_models and toy_a and same", "--reports-dir", tmp_path)
    assert result.ret == 0, result.stderr.str()
    result.stdout.fnmatch_lines(["3 done"])


def test_a_name_and_a_seed_that_choose_nothing_are_told(bench):
    result = bench("-m", "cell(model='toya')", "-k", "two_models and seed7")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(
        [
            "no cell has model='toya'. Did you mean 'toy_a'[?]",
            "no cell has seed 7. The seeds are 1, 2, 3; --seeds takes others",
        ]
    )


def test_the_printed_command_repeats_the_options_that_mean_these_cells(command, bench):
    said = bench("-k", "toy_a and two_models and same", "--reports-dir=elsewhere", "--device=cpu")
    said.stdout.fnmatch_lines(["*3 missing*", "*--reports-dir elsewhere --device cpu"])
    printed = next(line for line in said.outlines if "--reports-dir elsewhere" in line)
    words = shlex.split(printed.strip())
    assert words[:2] == ["pytest", "benchmarks"]
    bench(*words[2:])
    result = command("status", "-k", "two_models", "--reports-dir=elsewhere", "--device=cpu")
    result.stdout.fnmatch_lines(["*6 done, 6 missing"])


def test_estimate_names_what_is_finished_what_has_a_basis_and_what_has_none(command, bench):
    bench("-k", "two_models and same and (seed1 or seed2)")
    result = command("estimate", "-k", "two_models and toy_a")
    assert result.ret == 0, result.stderr.str()
    result.stdout.fnmatch_lines(
        [
            "  two_models toy_a other: 3 x unknown time, at least 0.0 GiB  [[]no basis]",
            "  two_models toy_a same: 1 x * s to * s, *GiB  [[]2 records of this model and method]",
            "2 cells are finished and cost nothing",
            "1 cell on one worker: *",
            "3 cells have no basis for an upper bound: rehearse one first",
        ]
    )
    again = command("estimate", "-k", "two_models and toy_a", "--rerun").stdout.str()
    assert "two_models toy_a same: 3 x " in again
    assert "cost nothing" not in again


def test_a_plan_of_the_shipped_cells_names_the_command_that_runs_it(folder, capsys):
    assert main(["plan", "-k", "tiny_llama_1m and rtn_w3 and seed42", "--out", "my plan.json"]) == 0
    told = capsys.readouterr().out
    assert told.endswith(
        'run it with: pytest --pyargs benchsuite.benchmarks "--plan=my plan.json"\n'
    )
