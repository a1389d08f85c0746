"""Perplexity's benchmark runs: what it prints on a GPU is measured by the code tried here."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from benchsuite.evaluation import perplexity
from tests.models import tiny

SCRIPT = Path(__file__).parents[2] / "benchmarks/speed/perplexity_cuda.py"


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(SCRIPT))


def test_the_work_of_a_token_is_every_matrix_but_the_input_embedding(script):
    model = tiny.model("llama")
    matrices = [p for p in model.parameters() if p.dim() == 2]
    expected = sum(matrix.numel() for matrix in matrices) - model.model.embed_tokens.weight.numel()
    assert script["weights"](model) == expected


def test_an_evaluation_is_perplexitys_with_its_work_counted(script):
    model = tiny.model("llama")
    tokens = script["random_tokens"](model, 4096)
    run = script["evaluate"](model, tokens, 128, 4)
    expected = perplexity.perplexity(model, tokens, seq_len=128, batch_size=4)
    np.testing.assert_array_equal(run.chunk_nll, expected.chunk_nll)
    assert run.rate * run.seconds == pytest.approx(2 * script["weights"](model) * 4096)


def test_own_operations_leave_the_fused_ones_out(script, monkeypatch):
    def refuse(model):
        raise RuntimeError("fused")

    monkeypatch.setattr(perplexity, "fused_forwards", refuse)
    model = tiny.model("llama")
    tokens = script["random_tokens"](model, 4096)
    with pytest.raises(RuntimeError, match="fused"):
        script["evaluate"](model, tokens, 128, 4)
    with script["by_own_operations"]():
        assert len(script["evaluate"](model, tokens, 128, 4).chunk_nll) == 32


def test_a_comparison_says_how_far_apart_the_runs_are_and_whether_the_bar_is_met(script, capsys):
    script["compare"]("tiny_llama_1m", "cpu", 4, 64, ceiling=1.0)
    out = capsys.readouterr().out
    assert "own operations" in out
    # On a CPU nothing is fused, and one FLOP/s is easily reached.
    assert "differ by at most 0.0e+00; repeats bit for bit; bar 70%: met" in out
