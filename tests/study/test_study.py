"""The calibration study itself, through the command that a user types, at small counts."""

import functools
import json

import pytest

SMALL = [
    f"--set=calibration_selection.{setting}"
    for setting in (
        "n_calibration_samples=8",
        "seq_len=64",
        "evaluation_tokens=1024",
        "pool_documents=64",
    )
]


@pytest.fixture
def run(calibration):
    """Run the calibration study with small counts."""
    return functools.partial(calibration, *SMALL)


def view(pytester, study="calibration_selection"):
    paths = (pytester.path / "reports" / study / "raw_runs").glob("*.json")
    records = [json.loads(path.read_text()) for path in paths]
    return {record["cell"]["id"]: record for record in records}


@pytest.mark.stress
def test_every_method_runs_and_leaves_the_documents_keys(run, pytester):
    result = run("-k", "tiny_llama_1m and seed42")
    records = view(pytester)
    result.assert_outcomes(passed=len(records))
    assert len(records) == 11
    for record in records.values():
        assert record["weights"] == "embedded"
        assert record["n_calibration_samples"] == 8
        assert record["quant_bits"] == 4
        assert record["group_size"] == 128
        assert 1 < record["perplexity"] < 2048
        spent = record.get("selection_time_sec", 0) + record.get("quant_time_sec", 0)
        assert spent == record["total_time_sec"]
        assert set(record["downstream"]) == {
            "arc_easy",
            "hellaswag",
            "mmlu",
            "winogrande",
            "average",
        }
    shas = {record["weights_sha256"] for record in records.values()}
    assert len(shas) == 11, "two methods made the same model"
    original = records.pop("tiny_llama_1m-fp16-seed42")
    assert all(record["perplexity"] > original["perplexity"] for record in records.values())


@pytest.mark.stress
def test_any_order_any_worker_and_again_give_the_same_bits(run, pytester):
    chosen = "tiny_llama_1m and (random or cola_zero) and (seed42 or seed43)"
    run("-k", chosen, "-n", "2").assert_outcomes(passed=4)
    first = {k: r["weights_sha256"] for k, r in view(pytester).items()}
    again = run("-k", chosen, "--rerun")
    again.stdout.fnmatch_lines(["rerun: 4 of 4 cells bit-identical to their records"])
    assert {k: r["weights_sha256"] for k, r in view(pytester).items()} == first
    alone = run("-k", "tiny_llama_1m and random and seed43", "--rerun")
    alone.stdout.fnmatch_lines(["rerun: 1 of 1 cell bit-identical to its record"])


@pytest.mark.stress
def test_gptq_default_does_not_depend_on_the_seed_and_random_does(run, pytester):
    run("-k", "tiny_llama_1m and (random or gptq_default)", "--seeds", "1,2")
    shas = {k: r["weights_sha256"] for k, r in view(pytester).items()}
    assert shas["tiny_llama_1m-gptq_default-seed1"] == shas["tiny_llama_1m-gptq_default-seed2"]
    assert shas["tiny_llama_1m-random-seed1"] != shas["tiny_llama_1m-random-seed2"]


@pytest.mark.stress
def test_a_saved_model_gives_equal_results_and_one_with_nan_scales_fails_by_name(run, pytester):
    one = ("-k", "tiny_llama_1m and random and seed42")
    run(*one, "--save-models").assert_outcomes(passed=1)
    (made,) = view(pytester).values()
    folder = pytester.path / "reports/calibration_selection/quantized_models"
    (checkpoint,) = folder.iterdir()
    assert checkpoint.name.startswith("tiny_llama_1m__random__seed42")
    result = run(*one, f"--checkpoint=tiny_llama_1m={checkpoint}")
    result.assert_outcomes(passed=1)
    (evaluated,) = view(pytester, "checkpoint/calibration_selection").values()
    assert evaluated["weights"] == "checkpoint"
    assert evaluated["perplexity"] == made["perplexity"]
    assert evaluated["weights_sha256"] == made["weights_sha256"]
    assert "quant_time_sec" not in evaluated
    (still,) = view(pytester).values()
    assert still == made

    spoil(checkpoint / "model.safetensors")
    result = run(*one, f"--checkpoint=tiny_llama_1m={checkpoint}")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*tiny_llama_1m-random-seed42: *scales*"])


def spoil(path):
    """Put a NaN into the first scales of a checkpoint's file."""
    import safetensors.torch

    tensors = safetensors.torch.load_file(path)
    name = next(name for name in tensors if name.endswith("scales"))
    tensors[name][0] = float("nan")
    safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.stress
def test_downstream_runs_on_the_first_seed_alone(run, pytester):
    pytest.importorskip("lm_eval")
    run("-k", "tiny_llama_1m and gptq_default", "--seeds", "5,6", "--downstream")
    records = view(pytester)
    first = records["tiny_llama_1m-gptq_default-seed5"]["downstream"]
    assert 0 < first["average"] < 100
    assert first["four_choices"] > 30
    second = records["tiny_llama_1m-gptq_default-seed6"]["downstream"]
    assert set(second.values()) == {None}
