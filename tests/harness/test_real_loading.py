"""The study on a hub cache and a local corpus: the real loading code, offline."""

import json

import pytest

from benchsuite.study import study

N_CELLS = len(list(study("calibration_selection").cells()))
REPOSITORY = "models--meta-llama--Llama-2-7b-hf"
COMMIT = "01c7f73d771dfac7d292323805ebc428287df4f9"


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A hub cache with a small Llama under Llama-2-7B's name, and a folder of WikiText files."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from benchsuite.embedded import text, tokenizer

    folder = tmp_path_factory.mktemp("hub")
    repository = folder / "cache" / REPOSITORY
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(COMMIT)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=2048,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
    )
    LlamaForCausalLM(config).save_pretrained(snapshot)
    tokenizer.load().save_pretrained(snapshot)
    wikitext = folder / "wikitext"
    wikitext.mkdir()
    for split, n in (("train", 400), ("test", 40)):
        rows = [json.dumps({"text": d}) for d in text.documents(split)[:n]]
        (wikitext / f"{split}.jsonl").write_text("\n".join(rows))
    return folder


@pytest.fixture
def run(hub, calibration, monkeypatch):
    """Run the calibration study offline against that cache."""
    monkeypatch.setenv("HF_HUB_CACHE", str(hub / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return calibration


SMALL = [
    f"--set=calibration_selection.{setting}"
    for setting in (
        "n_calibration_samples=8",
        "seq_len=64",
        "evaluation_tokens=4096",
        "scoring_model='tiny_llama_1m'",
    )
]


@pytest.mark.stress
def test_llama2_runs_offline_through_the_real_loading_code_and_is_marked_a_stand_in(
    hub, run, pytester
):
    local = f"--local=wikitext2={hub}/wikitext"
    result = run("-k", "llama2_7b and cola_zero and seed42", local, *SMALL)
    result.assert_outcomes(passed=1, deselected=N_CELLS - 1)
    (path,) = (pytester.path / "reports/calibration_selection/raw_runs").iterdir()
    record = json.loads(path.read_text())
    assert path.name.startswith("llama-2-7b-hf__cola_zero__seed42")
    assert record["model"] == "meta-llama/Llama-2-7b-hf"
    assert record["weights"] == "hub"
    assert "hidden_size" in record["stand_in"]
    assert record["calibration_source"] == "local"
    assert record["perplexity"] > 1
    assert record["downstream"]["average"] is None
    result.stdout.fnmatch_lines(["*stand-in*"])


@pytest.mark.stress
def test_without_weights_the_cell_is_skipped_with_reason_and_fix(run, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    result = run("-k", "opt_6_7b and random and seed42", "--device", "cpu", "-rs")
    result.assert_outcomes(skipped=1, deselected=N_CELLS - 1)
    result.stdout.fnmatch_lines(["*facebook/opt-6.7b*"])


@pytest.mark.stress
def test_a_model_too_large_for_this_machine_says_what_it_needs(run, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    result = run("-k", "llama2_7b and random and seed42", "-rs")
    result.stdout.fnmatch_lines(["*llama2_7b needs 12.6 GiB on a CUDA GPU; none found*"])
