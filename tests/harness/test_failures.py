"""A failing cell fails alone: a clear message, a failed record, and the suite goes on."""

import pytest

from benchsuite.harness.explaining import explain
from benchsuite.study import study
from tests.harness.shaky import BODY, CONFTEST, stored


@pytest.fixture
def shaky(pytester):
    """Run a study one of whose eight cells does ``mischief``."""

    def run(mischief: str, *args: str) -> pytest.RunResult:
        pytester.makeconftest(CONFTEST)
        pytester.makepyfile(test_shaky=BODY.replace("{mischief}", mischief))
        return pytester.runpytest_subprocess("test_shaky.py", *args)

    run.pytester = pytester
    return run


RAISES = {
    "assertion": ("assert 2 + 2 == 5", "*assert (2 + 2) == 5*"),
    "ours": (
        "raise BenchsuiteError('the corpus is empty', 'wiki.txt', 'give another')",
        "*toy_a-odd-seed2: the corpus is empty (wiki.txt). Give another*",
    ),
    "memory": ("raise MemoryError", "*out of memory in stage 'quant'*Choose a smaller model*"),
    "file": ("open('/nowhere/x')", "*missing file /nowhere/x*"),
    "nan": ("record.update(loss=float('nan'))", "*loss is not a finite number*"),
}


@pytest.mark.parametrize(("kind", "workers"), [*((kind, "0") for kind in RAISES), ("ours", "2")])
def test_one_failure_leaves_the_others_and_a_failed_record(shaky, kind, workers):
    mischief, said = RAISES[kind]
    result = shaky(mischief, "-n", workers)
    result.assert_outcomes(passed=7, failed=1)
    result.stdout.fnmatch_lines([said])
    (failed,) = stored(shaky.pytester, "*.failed-1.json")
    assert failed["outcome"] == "failed"
    assert failed["error"]["stage"] in ("quant", "between stages")
    assert failed["cell"]["id"] == "toy_a-odd-seed2"
    assert len(stored(shaky.pytester, "*.json")) == 8


def test_last_failed_reruns_only_what_failed_and_a_failure_is_never_reused(shaky):
    shaky("assert False")
    again = shaky("assert False", "--lf")
    again.assert_outcomes(failed=1)
    assert len(stored(shaky.pytester, "*.failed-*.json")) == 2
    shaky.pytester.makepyfile(test_shaky=BODY.replace("{mischief}", "pass"))
    mended = shaky.pytester.runpytest_subprocess("test_shaky.py", "--lf", "-n", "2")
    mended.assert_outcomes(passed=1)
    assert len(stored(shaky.pytester, "*.failed-*.json")) == 2


@pytest.mark.parametrize("root", [pytest.param("", marks=pytest.mark.stress), "elsewhere"])
def test_a_crashing_cell_fails_once_and_takes_nobody_along(shaky, root):
    """Also where node ids are no paths below the root, as those of the packaged cells."""
    shaky.pytester.mkdir("elsewhere")
    apart = [f"--rootdir={root}", "--confcutdir=.", "--reports-dir=reports"] if root else []
    result = shaky("os._exit(3)", "-n", "2", *apart)
    result.assert_outcomes(passed=7, failed=1)
    result.stdout.fnmatch_lines(["shaky: 7 of 8 cells*", "  1 failed: toy_a-odd-seed2"])
    result.stdout.fnmatch_lines(["*toy_a-odd-seed2: the worker process died*"])
    (crashed,) = stored(shaky.pytester, "*.failed-*.json")
    assert crashed["outcome"] == "crashed"
    assert crashed["error"]["stage"] == "quant"
    assert not list((shaky.pytester.path / "reports/store/running").glob("*.json"))


def test_cells_that_a_stop_kept_from_beginning_count_as_missing(shaky):
    result = shaky("assert False", "-x")
    result.stdout.fnmatch_lines(["shaky: 3 of 8 cells*", "  1 failed: *", "  4 missing: *"])


WAITS = """
        if cell.model == "toy_b":
            while not list(__import__("pathlib").Path("reports/store/running").glob("stop-*")):
                pass
        else:
            assert False
"""


def test_stopping_at_the_first_failure_starts_nothing_after_the_running_cells(shaky):
    shaky.pytester.makeconftest(CONFTEST)
    body = BODY[: BODY.index("        if cell.id")] + WAITS.lstrip("\n")
    shaky.pytester.makepyfile(test_shaky=body)
    result = shaky.pytester.runpytest_subprocess("test_shaky.py", "-n", "2", "-x")
    result.assert_outcomes(failed=1, passed=1)


CANNOT = "raise CellCannotRun('toy_a needs 14 GiB on a CUDA GPU; none found', fix='get one')"


def test_a_cell_that_cannot_run_is_skipped_with_reason_and_fix(shaky):
    result = shaky(CANNOT, "-rs")
    result.assert_outcomes(passed=7, skipped=1)
    result.stdout.fnmatch_lines(["*toy_a needs 14 GiB on a CUDA GPU; none found. Get one*"])
    assert not stored(shaky.pytester, "*.failed-*.json")


def test_a_cell_that_fails_as_expected_leaves_a_failed_record(shaky):
    result = shaky("pytest.xfail('a known fault')")
    result.assert_outcomes(passed=7, xfailed=1)
    result.stdout.fnmatch_lines(["shaky: 7 of 8 cells*", "  1 failed: toy_a-odd-seed2"])
    (failed,) = stored(shaky.pytester, "*.failed-1.json")
    assert "a known fault" in failed["error"]["message"]


LACKING = """
from dataclasses import replace
from benchsuite.study import register, study

register(replace(study("shaky"), packages=lambda cell: ("torch", "no-such-library")))
"""


def test_a_cell_whose_library_is_missing_is_skipped_with_the_install_command(pytester):
    pytester.makeconftest(CONFTEST + LACKING)
    pytester.makepyfile(test_shaky=BODY.replace("{mischief}", "pass"))
    result = pytester.runpytest_subprocess("test_shaky.py", "-rs")
    result.assert_outcomes(skipped=8)
    said = "*needs no-such-library, not installed. Run pip install no-such-library*"
    result.stdout.fnmatch_lines([said])


@pytest.mark.parametrize("workers", [pytest.param("0", marks=pytest.mark.stress), "2"])
def test_the_reasons_of_skips_are_told_once_each_where_pytest_tells_none(pytester, workers):
    pytester.makeconftest(CONFTEST + LACKING)
    pytester.makepyfile(test_shaky=BODY.replace("{mischief}", "pass"))
    result = pytester.runpytest_subprocess("test_shaky.py", "-n", workers)
    result.stdout.fnmatch_lines(["*= benchsuite =*", "4 skipped: odd needs no-such-library, not*"])
    result.stdout.fnmatch_lines(["4 skipped: plain needs no-such-library, not*", "report: *"])
    told = pytester.runpytest_subprocess("test_shaky.py", "-n", workers, "-rs")
    told.stdout.no_fnmatch_line("4 skipped: *")


def test_strict_cells_turns_the_skip_into_a_failure(shaky):
    shaky(CANNOT, "--strict-cells").assert_outcomes(passed=7, failed=1)


@pytest.mark.parametrize("workers", ["0", pytest.param("2", marks=pytest.mark.stress)])
def test_a_skipped_cell_does_not_vanish_from_last_failed(shaky, workers):
    shaky("assert False")
    shaky(CANNOT, "--lf", "-n", workers).assert_outcomes(skipped=1)
    shaky("assert False", "--lf", "-n", workers).assert_outcomes(failed=1)


DAMAGES = (
    lambda text: text[: len(text) // 2],
    lambda text: text.replace('"perplexity": 1.5', '"perplexity": 1.4'),
    lambda text: "",
    lambda text: "[" * 100_000,
    lambda text: text.replace('"items": null', '"items": {"file": "gone.parquet"}'),
)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_damaged_record_is_named_moved_aside_and_measured_again(shaky, workers):
    """With workers, one of them moves it aside, and the controller tells."""
    shaky("pass")
    folder = shaky.pytester.path / "reports/store/records"
    damaged = sorted(folder.glob("*.json"))[: len(DAMAGES)]
    for path, damage in zip(damaged, DAMAGES, strict=True):
        before = path.read_text()
        path.write_text(damage(before))
        assert path.read_text() != before
    result = shaky("pass", "-n", workers)
    for path in damaged:
        result.stdout.fnmatch_lines([f"*moved aside: {path.name}*"])
    result.stdout.fnmatch_lines(["*5 passed, 3 cached*"])
    assert result.ret == 0
    assert len(list((shaky.pytester.path / "reports/store/moved_aside").iterdir())) == 5
    shaky("pass").stdout.fnmatch_lines(["*8 cached*"])


def test_changed_code_makes_records_stale_and_keeps_them(shaky):
    shaky("pass")
    result = shaky("record.update(more=1)")
    stale = "*stale records, measured again: changed code (test_shaky.py) (8)*"
    result.stdout.fnmatch_lines([stale, "*8 stale*"])
    assert len(stored(shaky.pytester, "*.json")) == 16


def test_a_changed_docstring_or_comment_changes_nothing(shaky):
    shaky("pass")
    body = BODY.replace("{mischief}", "pass  # why").replace("One cell.", "One fine cell.")
    shaky.pytester.makepyfile(test_shaky=body)
    result = shaky.pytester.runpytest_subprocess("test_shaky.py")
    result.stdout.fnmatch_lines(["*8 cached*"])


def test_an_unwritable_reports_folder_is_a_usage_error(shaky):
    (shaky.pytester.path / "blocked").write_text("a file, not a folder")
    result = shaky("pass", "--reports-dir", "blocked")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*the reports folder cannot be written*--reports-dir*"])


def test_an_error_that_cannot_say_what_it_is_ends_no_session():
    class Mute(RuntimeError):
        def __str__(self):
            raise ValueError

    class MuteMemory(Mute, MemoryError):
        pass

    cell = next(iter(study("quantizers").cells()))
    assert explain(Mute(), cell, "quant") is None
    assert "out of memory in stage 'quant' (MuteMemory)" in explain(MuteMemory(), cell, "quant")


def test_out_of_memory_names_only_parameters_that_the_study_has():
    said = {}
    for name in ("calibration_selection", "latent_reasoning"):
        cell = next(iter(study(name).cells()))
        said[name] = explain(MemoryError(), cell, "quantize")
    assert "Lower n_calibration_samples or seq_len" in said["calibration_selection"]
    assert "seq_len" not in said["latent_reasoning"]
    assert "Choose a smaller model" in said["latent_reasoning"]
