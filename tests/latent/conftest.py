"""A small network with grouped heads, and word problems of unequal length."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from benchsuite.embedded import tasks, tokenizer
from benchsuite.latent.config import load_config
from benchsuite.latent.examples import Format
from benchsuite.latent.network import Reasoner

SHAPE = {
    "vocab_size": 2048,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}
KINDS = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}


def network(kind="llama", **options):
    """Return a freshly drawn network in float64: comparisons need next to no tolerance."""
    config, model = KINDS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        lm = model(config(**SHAPE, pad_token_id=2)).double()
    net = Reasoner(lm, **{"projection": True, "seed": 1, **options})
    return net.double().eval()


@pytest.fixture(params=["llama", "qwen2"])
def net(request):
    return network(request.param)


@pytest.fixture(scope="session")
def form():
    return Format(tokenizer.load(tokenizer.FOLDER), "####")


@pytest.fixture(scope="session")
def examples(form):
    """Eight problems whose questions and steps differ in length."""
    return form.encode(tasks.items("word_problems", "train")[:8])


@pytest.fixture
def config():
    return load_config("tiny").changed({"latent": {"n_latents": 5, "passes": 2}})


@pytest.fixture
def deterministic(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Not filled, memory that is read before it is written would show.
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
