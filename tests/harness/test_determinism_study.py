"""The detector finds what is planted: an engine of known noise through the study's own cells."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests import forked
from tests.conftest import read_flat
from tests.reporting.factory import undescribed

ROOT = Path(__file__).parents[2]
SIZE = 0.0125

CONFTEST = """
from dataclasses import replace
from pathlib import Path

from benchsuite.determinism import Variant, register_variant
from benchsuite.engines import EngineEntry, register_engine
from benchsuite.study import register, study

pytest_plugins = ["benchsuite.fixtures.engines", "benchsuite.fixtures.record"]
here = Path(__file__).parent
entry = EngineEntry("noisy_engine", (), "", environment={"PYTHONPATH": str(here)})
register_engine("noisy", entry)
register_engine("missing", EngineEntry("noisy_engine", ("no_such_package",), "pip install it"))
SIZE, MARLIN = SIZE_HERE, "void marlin::Marlin<half, 4>(int4 const*)"
EXLLAMA = "void vllm::gptq::gemm_half_q_half_gptq_4bit_kernel<true, 8>(half const*)"


def noisy(name, kernel=MARLIN, expects="marlin", engine="noisy", **settings):
    settings = {"size": SIZE, "kernel": kernel, **settings}
    register_variant(name, Variant(engine, "none", "Marlin", name, expects, settings=settings))


noisy("silent", where="nowhere")
noisy("in_runs", where="runs", kernel=EXLLAMA)
noisy("in_runs_unexplained", where="runs", kernel="some_gemm", expects="")
noisy("in_batches", where="batches")
noisy("one_token", where="runs", size=0.0, index=5)
noisy("in_processes", where="processes", marker=str(here / "marker"))
noisy("unprofiled", where="nowhere", kernel="")
noisy("unsupported", where="load")
noisy("absent", where="nowhere", engine="missing")
names = ("silent", "in_runs", "in_runs_unexplained", "in_batches", "one_token", "in_processes",
         "unprofiled", "unsupported", "absent")
shipped = study("determinism")
register(replace(shipped, axes={"model": ("tiny_llama_1m",), "method": names}))
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Run every planted cell once, in a user's own project; the records by variant."""
    folder = tmp_path_factory.mktemp("planted")
    (folder / "benchmarks").mkdir()
    shutil.copy(ROOT / "benchmarks/test_determinism.py", folder / "benchmarks")
    shutil.copy(ROOT / "tests/determinism/noisy_engine.py", folder)
    (folder / "conftest.py").write_text(CONFTEST.replace("SIZE_HERE", str(SIZE)))
    return run(folder)


def run(folder):
    command = [sys.executable, "-m", "pytest", "benchmarks", "-p", "no:cacheprovider", "-rs"]
    command += ["--set=determinism.temperature=0.7"]  # the engine knows none
    done = forked.run(command, folder)
    records = {}
    for path in (folder / "reports/store/records").glob("*.json"):
        record = read_flat(path)
        records[record["cell"]["axes"]["method"]] = record
    return records, folder / "reports/determinism", done.stdout


@pytest.mark.stress
def test_without_noise_everything_is_exact(results):
    record = results[0]["silent"]
    assert record["verdict"]["is_deterministic"]
    assert record["verdict"]["summary"] == "BASELINE IS DETERMINISTIC"
    assert record["baseline"]["stats"]["l2_max"] == 0
    exact = {name: axis["exact"] for name, axis in record["axes"].items()}
    assert exact == {
        "batch_invariance": True,
        "prefill_scoring": None,  # this engine cannot
        "fresh_process": True,
        "threads": True,
        "other_gpu": None,
        "quantizer": None,
    }
    places = [(c["others"], c["place"]) for c in record["axes"]["batch_invariance"]["comparisons"]]
    assert places == [(n, place) for n in (1, 7, 31) for place in ("first", "last")]
    assert record["verdict"]["samples_needed"][0]["samples"] == 1


def test_noise_of_known_size_is_measured_to_a_percent_and_traced_to_its_kernel(results):
    record = results[0]["in_runs"]
    verdict, stats = record["verdict"], record["baseline"]["stats"]
    assert not verdict["is_deterministic"]
    assert stats["tokens_identical"]
    assert stats["l2_mean"] == pytest.approx(SIZE, rel=0.01)
    assert stats["l2_max"] == pytest.approx(SIZE, rel=0.01)
    assert stats["first_logprob_difference"] == 0
    assert stats["first_divergent_index"] is None
    assert "gemm_half_q_half_gptq_4bit_kernel" in verdict["root_cause"]
    assert "atomicAdd" in verdict["root_cause"]
    # The deviation of 0.015 is 1.2 times the noise: statsmodels' TTestIndPower says 12 an arm.
    assert verdict["samples_needed"][0]["samples"] == 12
    assert record["kernel"]["as_asked"] is False
    assert any("asked for did not run" in line for line in verdict["details"])


def test_a_cause_without_evidence_is_not_established(results):
    assert "not established" in results[0]["in_runs_unexplained"]["verdict"]["root_cause"]
    assert results[0]["in_runs_unexplained"]["kernel"]["as_asked"] is None


def test_what_differs_in_batches_alone_is_exact_from_run_to_run(results):
    record = results[0]["in_batches"]
    assert record["verdict"]["is_deterministic"]
    assert record["verdict"]["summary"].endswith("NOT OVER BATCHES")
    batch = record["axes"]["batch_invariance"]
    assert batch["exact"] is False
    assert all(c["l2"] == pytest.approx(SIZE, rel=0.01) for c in batch["comparisons"])
    assert not any(c["same_batch_repeats"] for c in batch["comparisons"])
    assert record["axes"]["fresh_process"]["exact"]
    assert record["bit_exact"]


def test_one_flipped_token_is_found_at_its_index(results):
    record = results[0]["one_token"]
    stats = record["baseline"]["stats"]
    assert not record["verdict"]["is_deterministic"]
    assert not stats["tokens_identical"]
    assert stats["logprobs_exact"]
    assert stats["first_divergent_index"] == 5
    assert stats["unique_completions"] == 2
    assert "Tokens first differ at index 5" in record["verdict"]["details"]


def test_a_fresh_process_is_an_axis_of_its_own(results):
    record = results[0]["in_processes"]
    assert record["verdict"]["is_deterministic"]
    assert record["axes"]["batch_invariance"]["exact"]
    assert record["axes"]["fresh_process"]["exact"] is False
    assert record["axes"]["fresh_process"]["l2_max"] == pytest.approx(SIZE, rel=0.01)


def test_profiling_that_fails_ends_nothing(results):
    record = results[0]["unprofiled"]
    assert record["kernels"]["profiling_succeeded"] is False
    assert "no profiler" in record["kernels"]["error"]
    assert record["success"]


def test_what_cannot_be_loaded_leaves_its_error_and_the_run_goes_on(results):
    records, folder, output = results
    (path,) = (folder / "failed").glob("*unsupported*.json")
    told = json.loads(path.read_text())
    assert told["success"] is False
    assert told["variant"] == "unsupported"
    assert "this format is not supported" in told["error"]
    assert records["unsupported"]["success"] is False
    assert records["unsupported"]["outcome"] == "failed"
    assert "7 passed, 1 failed, 1 skipped" in output or "1 failed, 7 passed, 1 skipped" in output


def test_records_say_which_weights_an_engine_loaded(results):
    records, _, _ = results
    assert {r["weights"] for v, r in records.items() if v != "unsupported"} == {"embedded"}


def test_an_absent_engine_is_skipped_with_the_install_command(results):
    assert "not installed: no_such_package. Install it: pip install it" in " ".join(
        results[2].split()
    )


@pytest.mark.stress
def test_a_model_that_gpus_share_needs_as_many_for_a_cell(tmp_path):
    cell = "cell(study='determinism', model='tiny_llama_1m', method='vllm_half')"
    command = [sys.executable, "-m", "pytest", "benchmarks", "-p", "no:cacheprovider", "-m", cell]
    command += ["--set=determinism.tensor_parallel=2", f"--reports-dir={tmp_path}"]
    output = " ".join(forked.run(command, ROOT).stdout.split())
    assert "determinism.tensor_parallel=2: a cell has 1 GPU. Add --gpus-per-cell 2" in output


def test_what_draws_by_numbers_of_its_own_is_not_verified(results):
    told = results[0]["silent"]["verification"]
    assert told == {
        "tested": False,
        "reason": "noisy draws by numbers of its own; ask at temperature 0",
    }
    assert "Token-DiFR" not in results[0]["silent"]["verdict"]["forensic_implications"]


def test_the_study_writes_its_table_and_the_distances(results):
    folder = results[1]
    table = (folder / "variants.md").read_text()
    assert "| in_runs | noisy | NOT THE ONE ASKED FOR | differs | 0.0125 |" in table
    (pairs,) = json.loads((folder / "cross_variant.json").read_text()).values()
    assert len(pairs) == 7 * 6 / 2
    assert pairs[0]["l2"] == 0  # their first repetitions are without noise, one and the same


@pytest.mark.stress
def test_the_study_says_what_each_column_of_its_records_is(results):
    assert undescribed(results[1].parent) == []
