"""The command line: what there is and what is done."""

import shlex
import sys

import pytest


@pytest.fixture
def command(project):
    """Run ``benchsuite`` in the project."""
    return lambda *args: project.run(sys.executable, "-m", "benchsuite", *args)


def test_list_shows_questions_axes_and_parameters(command):
    result = command("list")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["select_and_quantize: *", "*model*toy_a, toy_b", "*n_samples*8*", "*12 cells selected"]
    )


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


def test_a_wrong_expression_is_one_paragraph(command):
    result = command("status", "-k", "and and")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "Traceback" not in result.stderr.str()


def test_an_unknown_option_is_named_and_not_pytests_usage(command):
    result = command("estimate", "--foo")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*could not collect the cells: unrecognized arguments: --foo."])


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
            "no cell is named 'toya'. Did you mean 'toy_a'[?]",
            "no cell has seed 7. The seeds are 1, 2, 3; --seeds takes others",
        ]
    )


def test_the_printed_command_repeats_the_options_that_mean_these_cells(command, bench, tmp_path):
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
            "1 cells on one worker: *",
            "3 cells have no basis for an upper bound: rehearse one first",
        ]
    )
