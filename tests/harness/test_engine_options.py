"""``--engine-python``, and engines or machines that are not there: told before anything starts."""

import sys

import pytest


def collected(pytester, *args):
    words = ("-p", "benchsuite.plugin", "-p", "no:cacheprovider", "-rs")
    return pytester.runpytest_subprocess("benchmarks", *words, *args)


@pytest.fixture
def own_project(pytester):
    """A project with the study's cells on one embedded model and on Qwen3-8B."""
    from pathlib import Path

    root = Path(__file__).parents[2]
    (pytester.path / "benchmarks").mkdir()
    body = (root / "benchmarks/test_determinism.py").read_text()
    (pytester.path / "benchmarks/test_determinism.py").write_text(body)
    pytester.makeconftest(
        'pytest_plugins = ["benchsuite.fixtures.engines", "benchsuite.fixtures.record"]\n'
    )
    return pytester


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("vllm", "cannot be read. Write --engine-python ENGINE=PATH"),
        ("vlm=python", "unknown engine: 'vlm'. Did you mean 'vllm'"),
        ("vllm=no/such/python", "no/such/python cannot be executed"),
    ],
)
def test_a_wrong_interpreter_is_a_usage_error(pytester, given, told):
    with pytest.raises(pytest.UsageError, match=told):
        pytester.parseconfigure("-p", "benchsuite.plugin", f"--engine-python={given}")


def test_an_engine_that_is_not_here_is_skipped_with_its_install_command(own_project):

    python = own_project.path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    chosen = ["-m", "cell(model='tiny_llama_1m', method='awq_marlin')"]
    result = collected(own_project, *chosen, f"--engine-python=vllm={python}", "--device=cpu")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*awq_marlin runs under vllm; not installed: vllm, torch*"])
    assert "pip install vllm==0.26.0" in result.stdout.str()


def test_kernels_of_one_dtype_are_skipped_in_another(own_project):
    chosen = ["-m", "cell(model='tiny_llama_1m', method='awq')", "--device=cpu"]
    result = collected(own_project, *chosen, "--set", "determinism.dtype=bfloat16")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*computes in float16 alone. *determinism.dtype=float16*"])


def test_a_program_that_is_not_here_is_skipped_with_its_install_command(own_project, monkeypatch):
    monkeypatch.setenv("PATH", str(own_project.path))
    chosen = ["-m", "cell(model='tiny_llama_1m', method='llama_q4_0')"]
    result = collected(own_project, *chosen, "--device=cpu")
    result.assert_outcomes(skipped=1)
    told = " ".join(result.stdout.str().split())
    assert "llama_q4_0 runs under llama_server; not installed: llama-server" in told
    assert "put llama.cpp's llama-server on the PATH" in told


def test_layers_cut_rehearsals_only(own_project):
    chosen = ["-m", "cell(model='tiny_llama_1m', method='fp16')"]
    result = collected(own_project, *chosen, "--set=determinism.layers=2", "--device=cpu")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*layers=2 would cut a trained model in two*"])


def test_a_large_model_is_skipped_on_a_cpu_before_any_engine_starts(own_project):
    chosen = ["-m", "cell(model='qwen3_8b', method='packed_gptq')"]
    result = collected(own_project, *chosen, "--weights=random")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*qwen3_8b needs 15.3 GiB on a CUDA GPU; none found*"])


def test_list_with_a_study_shows_its_variants_one_by_one(own_project):
    command = [sys.executable, "-m", "benchsuite", "list"]
    result = own_project.run(*command, "determinism")
    result.stdout.fnmatch_lines(
        [
            "determinism: Is INT4 inference deterministic*",
            "awq_marlin",
            "    model: Qwen/Qwen3-8B-AWQ; *",
            "    quantization: awq_marlin; engine: vllm",
            '    kernel: Marlin, by linear_backend="marlin"',
            "gptq_exllama",
            "    note: the kernel of the document's gptq",
        ]
    )
    unknown = own_project.run(*command, "determinsm")
    unknown.stderr.fnmatch_lines(["*unknown study: 'determinsm'. Did you mean 'determinism'?*"])
