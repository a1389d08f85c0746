"""An engine's process: what it is asked, what it answers, and how it fails."""

import sys
from pathlib import Path

import pytest

from benchsuite.engines import EngineEntry, EngineError, EngineProcess, Launcher
from benchsuite.records.environment import versions_in
from tests.engines.interpreters import BANNER, script

NOISY = Path(__file__).parents[1] / "determinism"
ENTRY = EngineEntry("noisy_engine", (), "", environment={"PYTHONPATH": str(NOISY)})
MODES = {"baseline": {}, "deterministic": {"settings": {"size": 1.0}}, "threads": {}}


@pytest.fixture
def engine(tmp_path):
    with EngineProcess("noisy", ENTRY, log=tmp_path / "log") as process:
        process.ask("load")
        yield process


def test_log_probs_arrive_as_they_were_computed(engine):
    sys.path.insert(0, str(NOISY))
    try:
        from noisy_engine import Engine
    finally:
        sys.path.remove(str(NOISY))
    prompts = [[1, 2, 3], [4, 5]]
    made = engine.generate(prompts, 7)
    expected = [Engine()._completion(prompt, 7) for prompt in prompts]
    assert made.tokens.tolist() == [tokens for tokens, _ in expected]
    assert made.logprobs.tolist() == [logprobs for _, logprobs in expected]  # equal, not close
    assert made[1].tokens.tolist() == [expected[1][0]]


def test_an_error_is_told_and_the_process_goes_on(engine):
    with pytest.raises(EngineError, match="noisy could not kernels: RuntimeError: no profiler"):
        engine.ask("kernels", prompts=[[1]], max_tokens=1)
    with pytest.raises(EngineError, match="unexpected keyword"):
        engine.ask("generate", prompts=[[1]], max_tokens=1, temperature=2)
    with pytest.raises(EngineError, match="ValueError: this format is not supported"):
        engine.ask("load", where="load")
    engine.ask("load")
    assert engine.generate([[1]], 2).tokens.shape == (1, 2)


def test_what_libraries_print_does_not_disturb_the_answers(engine):
    engine.ask("load", kernel="gemm")
    answer = engine.ask("kernels", prompts=[[1]], max_tokens=1)
    assert answer["all_kernels"][0]["name"] == "gemm"
    assert "a library writes to stdout" in engine.log.read_text()


def test_a_process_that_dies_is_named_with_its_status_and_its_last_words(engine):
    engine.ask("load", kernel="gemm")
    engine.ask("kernels", prompts=[[1]], max_tokens=1)
    with pytest.raises(EngineError, match=r"ended with status 3 .*die.*writes to stdout"):
        engine.ask("die")
    with pytest.raises(EngineError, match="ended with status 3"):
        engine.ask("load")


def test_a_module_that_cannot_be_imported_is_told_when_first_asked(tmp_path):
    entry = EngineEntry("no_such_engine", (), "")
    with (
        EngineProcess("absent", entry, log=tmp_path / "log") as process,
        pytest.raises(EngineError, match="No module named 'no_such_engine'"),
    ):
        process.ask("load")


def test_variables_are_set_before_the_process_starts(tmp_path, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as this very process has it
    launcher = Launcher("noisy", ENTRY, tmp_path, threads=3, modes=MODES)
    try:
        with launcher.running("baseline") as process:
            assert process.ask("environment", name="CUBLAS_WORKSPACE_CONFIG") is None
            assert process.ask("environment", name="VLLM_BATCH_INVARIANT") is None
        with launcher.running("deterministic") as process:
            assert process.ask("environment", name="CUBLAS_WORKSPACE_CONFIG") == ":4096:8"
            assert process.ask("environment", name="VLLM_BATCH_INVARIANT") == "1"
        assert launcher.loaded["deterministic"] == {"threads": "3", "says": "loaded"}
    finally:
        launcher.close()


def test_processes_that_were_never_used_end_with_the_launcher(tmp_path):
    launcher = Launcher("noisy", ENTRY, tmp_path, modes=MODES)
    processes = [process._process for process in launcher._waiting.values()]
    launcher.close()
    assert None not in [process.poll() for process in processes]


def test_versions_are_those_of_the_named_interpreter(tmp_path):
    other = tmp_path / "python"
    other.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} -S "$@"\n')
    other.chmod(0o755)
    info = tmp_path / "vllm-9.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 9.9\n")
    assert versions_in(str(other), ("vllm", "numpy")) == {"vllm": "9.9", "numpy": "absent"}
    assert versions_in(str(tmp_path / "absent"), ("vllm",)) == {"vllm": "absent"}
    assert versions_in(sys.executable, ("numpy",))["numpy"] != "absent"


@pytest.mark.parametrize("end", ["", "\\n"])
def test_a_banner_is_not_taken_for_a_version(tmp_path, end):
    packages = ("numpy", "no_such_package")
    python = script(tmp_path / "python", BANNER.format(end))
    assert versions_in(python, packages) == versions_in(sys.executable, packages)


@pytest.mark.parametrize("text", ["#!/bin/sh\nexit 0", "#!/bin/sh\necho 3.12; exit 0"])
def test_an_interpreter_that_does_not_answer_has_no_packages(tmp_path, text):
    python = script(tmp_path / "python", text)
    assert versions_in(python, ("vllm", "torch")) == {"vllm": "absent", "torch": "absent"}
