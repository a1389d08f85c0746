"""Words and settings that pytest refuses, or that only show: no session is begun for them."""

import pytest

from benchsuite.harness import settings
from benchsuite.harness.options import OPTIONS

WRONG = ("-k", "first and")


def made(project):
    return (project.path / "reports").exists()


@pytest.mark.parametrize("workers", ["0", "2"])
def test_an_expression_that_cannot_be_read_leaves_nothing_behind(bench, project, workers):
    result = bench("-n", workers, *WRONG)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: Wrong expression passed to '-k': first and: *"])
    assert not made(project)


def test_a_path_that_workers_cannot_be_told_is_named(bench, project):
    result = bench("-n", "2", "--reports-dir=rep\udcff")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --reports-dir=rep?udcff is no UTF-8, and -n cannot *"])


def test_what_only_workers_see_to_be_wrong_is_said_in_their_words(bench, project):
    result = bench("-n", "2", "benchmarks/test_nowhere.py")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: file or directory not found: *test_nowhere.py*"])
    assert not made(project)


def test_where_one_file_cannot_be_collected_nothing_is_begun(bench, project):
    (project.path / "benchmarks/test_more.py").write_text("import nowhere_to_be_found\n")
    result = bench("-k", "two_models and toy_a and seed1")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert not made(project)
    result = bench("-k", "two_models and toy_a and seed1", "--continue-on-collection-errors")
    result.stdout.fnmatch_lines(["two_models: 2 of *"])


@pytest.mark.parametrize("words", [["--fixtures"], ["--setup-plan", "-k", "two_models"]])
def test_what_only_shows_begins_no_session(bench, project, words):
    result = bench(*words)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*record*"])
    assert not made(project)


def test_without_a_terminal_the_cells_are_measured_and_reported(bench, project):
    result = bench("-p", "no:terminal", "-k", "two_models and toy_a and same-seed1")
    assert result.ret == 0, result.stderr.str()
    assert (project.path / "reports/index.html").exists()


def test_an_unknown_study_is_one_paragraph(project):
    project.makepyfile(test_own='@__import__("pytest").mark.study("two_model")\ndef test(cell): 0')
    result = project.runpytest_subprocess("test_own.py")
    result.stdout.fnmatch_lines(["unknown study: 'two_model'. Did you mean 'two_models'?*"])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*plugin.py*")


INI = """
[pytest]
benchsuite_set = training.steps=7 engine_process.repetitions=4 generate_and_score.n_questions=5
benchsuite_local = toy_a=weights
"""


def test_settings_stay_beside_what_is_typed_and_give_way_to_it(project, monkeypatch):
    """From any folder: their paths lie below the root."""
    (project.path / "pytest.ini").write_text(INI)
    project.mkdir("weights")
    typed = ["--set", "training.steps=9", "--set", "select_and_quantize.n_samples=6"]
    chosen = "toy_b and seed1 and not two_models"
    inside = f"--rootdir={project.path}"
    project.runpytest_subprocess("benchmarks", "-k", chosen, *typed).assert_outcomes(passed=10)
    views = {path.stem for path in project.path.glob("reports/*/raw_runs/*.json")}
    changed = ("n_samples-6", "n_questions-5", "repetitions-4", "steps-9")
    assert all(any(view.endswith(f"__{one}") for view in views) for one in changed)
    assert len([view for view in views if "steps-9" in view]) == 2
    monkeypatch.chdir(project.mkdir("below"))
    again = project.runpytest_subprocess("../benchmarks", inside, "-k", "toy_b-same-seed1")
    again.assert_outcomes(passed=1)


def test_an_empty_folder_in_the_settings_is_not_the_project_itself(bench, project):
    result = bench("-o", "benchsuite_reports_dir= ")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: the setting benchsuite_reports_dir is empty *"])


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "benchsuite_seeds = [1, 2]",
            "seeds is [[]1, 2] (*pyproject.toml). Give one text, as --s*",
        ),
        ('benchsuite_reports_dir = ["a"]', "reports_dir is [[]'a'] (*). Give one text, as --rep*"),
        ("benchsuite_local = [1]", "local is [[]1] (*). Give a list of texts, as --local takes*"),
        ("benchsuite_set = [['a.b=1']]", "set is [[][[]'a.b=1']] (*). Give a list of texts*"),
    ],
)
def test_a_setting_of_toml_that_is_no_text_is_named(bench, project, line, told):
    (project.path / "pytest.ini").unlink(missing_ok=True)
    (project.path / "pyproject.toml").write_text(f"[tool.pytest.ini_options]\n{line}\n")
    result = bench()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: the setting benchsuite_{told}"])
    assert not made(project)


def test_the_settings_that_are_lists_are_those_of_options_that_repeat():
    repeat = {option.name for option in OPTIONS if option.ini_type == "args"}
    assert repeat == set(settings.REPEATED)
