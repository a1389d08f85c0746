"""Every study's shape goes through records, cache, resume, xdist and claims."""

import itertools
import json

import pytest

from tests.conftest import measured

ALL = 72


def test_a_second_run_is_wholly_cached_and_workers_measure_the_same(bench, records, project):
    bench("-n", "0").assert_outcomes(passed=ALL)
    assert len(measured(records())) == ALL
    again = bench()
    again.stdout.fnmatch_lines([f"*{ALL} cached*"])
    assert again.ret == 0
    bench("--rerun", "-n", "2").stdout.fnmatch_lines([f"*{ALL} of {ALL} cells bit-identical*"])


def test_one_cell_alone_equals_the_cell_in_the_crowd(bench, records, project):
    bench("-k", "toy_b-drawn-seed2").assert_outcomes(passed=1)
    (alone,) = measured(records()).values()
    bench("-k", "select_and_quantize", "--reports-dir", "other")
    path = project.path / "other/select_and_quantize/raw_runs/toy_b__drawn__seed2.json"
    assert json.loads(path.read_text())["results_sha256"] == alone


def test_selection_by_keyword_and_by_exact_mark(bench):
    bench("-k", "toy_a and nll").assert_outcomes(passed=3, deselected=ALL - 3)
    exact = bench("-m", "cell(model='toy_a', method='nll', seed=2)", "--rerun")
    exact.assert_outcomes(passed=1, deselected=ALL - 1)


def test_a_record_holds_the_documents_keys_and_the_provenance(bench, records):
    bench("-k", "toy_a-drawn-seed1")
    (record,) = records("select_and_quantize").values()
    assert record["model"] == "toys/toy_a"
    assert record["method"] == "drawn"
    assert record["seed"] == 1
    assert record["n_samples"] == 8
    assert record["selection_time_sec"] + record["quant_time_sec"] == record["total_time_sec"]
    assert record["perplexity"] > 1
    assert record["environment"]["threads"] == 1
    assert record["timings"]["contended"] is False
    assert record["outcome"] == "passed"
    assert record["items"]["columns"] == ["error"]


def test_an_artefact_is_built_once_for_all_cells_that_need_it(bench, project):
    bench("-n", "2", "-k", "generate_and_score")
    built = list((project.path / "reports/store/artefacts").glob("*/artefact.json"))
    assert len(built) == 2  # one per model, shared by both methods and three seeds


def test_evaluation_without_training_first_trains(bench, project):
    bench("-k", "trained_evaluation and toy_a-direct-seed1").assert_outcomes(passed=1)
    bench("-k", "training and toy_a-direct-seed1").assert_outcomes(passed=1)
    built = list((project.path / "reports/store/artefacts").glob("*/artefact.json"))
    assert len(built) == 1


def test_seeds_and_settings_enter_file_name_and_fingerprint(bench, project):
    args = ("-k", "drawn and toy_a", "--seeds", "7", "--set", "select_and_quantize.n_samples=4")
    bench(*args).assert_outcomes(passed=1)
    names = [p.name for p in (project.path / "reports/select_and_quantize/raw_runs").iterdir()]
    assert names == ["toy_a__drawn__seed7__n_samples-4.json"]
    bench(*args[:4]).assert_outcomes(passed=1)
    bench(*args).stdout.fnmatch_lines(["*1 cached*"])


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--set", "select_and_quantize.n_sample=4"), "*Did you mean 'n_samples'*"),
        (("--set", "select_and_quantise.n_samples=4"), "*Did you mean 'select_and_quantize'*"),
        (("--set", "select_and_quantize.n_samples=many"), "*is a str*"),
        (("--set", "n_samples"), "*--set STUDY.PARAMETER=VALUE*"),
        (("--seeds", "1,two"), "*--seeds '1,two' cannot be read*"),
        (("--device", "gpu"), "*unknown value of --device: 'gpu'*"),
        (("--local", "toy_c=."), "*Did you mean 'toy_*"),
        (("--local", "toy_a=not/here"), "*there is no */not/here*"),
        (("--cell-threads", "0"), "*is not a positive integer*"),
    ],
)
def test_a_wrong_option_is_one_paragraph_and_exit_status_4(bench, args, said):
    result = bench(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([said])
    assert "Traceback" not in result.stderr.str()


@pytest.mark.usefixtures("fresh_interpreter")
def test_help_and_collection_import_no_torch(project):
    project.makeconftest(
        (project.path / "conftest.py").read_text() + "\nimport atexit, sys\n"
        "atexit.register(lambda: print('TORCH', 'torch' in sys.modules, flush=True))\n"
    )
    for args in (("--help",), ("benchmarks", "--collect-only", "-q")):
        result = project.runpytest_subprocess(*args)
        result.stdout.fnmatch_lines(["TORCH False"])


def test_the_manifest_says_which_worker_had_a_cell_and_when(bench, project):
    bench("-n", "2", "-k", "generate_and_score")
    (path,) = (project.path / "reports/sessions").glob("*/manifest.json")
    manifest = json.loads(path.read_text())
    cells = manifest["cells"].values()
    assert {cell["worker"] for cell in cells} <= {"gw0", "gw1"}
    assert all(manifest["began"] < cell["began"] <= cell["ended"] for cell in cells)
    assert all(cell["ended"] <= manifest["ended"] for cell in cells)
    assert all(cell["call_seconds"] <= cell["ended"] - cell["began"] for cell in cells)
    for worker in ("gw0", "gw1"):
        mine = sorted((c["began"], c["ended"]) for c in cells if c["worker"] == worker)
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(mine))
