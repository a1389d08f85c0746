"""Blocks that come one ahead and leave quantized: the bits of a model that stays where it is."""

import importlib

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from benchsuite.errors import BenchsuiteError, CellCannotRun, UsageError
from benchsuite.evaluation.divergence import divergence
from benchsuite.evaluation.perplexity import perplexity
from benchsuite.models import random_weights
from benchsuite.models.random_weights import Drawn
from benchsuite.models.replicas import share_work
from benchsuite.models.streaming import Blocks, Folder, is_streamed, stream
from benchsuite.quantizers.kernels import using_kernel
from benchsuite.quantizers.linear import quantized_linears
from tests.models import tiny

CPU = torch.device("cpu")


def entry(model_type="llama", **changes):
    shape = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3}
    return tiny.entry(model_type=model_type, **(shape | changes))


def streamed(model_type="llama", n_devices=1, source=None, **changes):
    skeleton = random_weights.without_storage(entry(model_type, **changes), "float32")
    model = stream(skeleton, source or Drawn(3), CPU)
    share_work(model, ["cpu"] * n_devices)
    return model


def whole(model_type="llama", **changes):
    return random_weights.build(
        entry(model_type, **changes), device="cpu", dtype="float32", seed=3
    ).eval()


def quantize(method, model, tokens):
    options = {"iterations": 5} if method == "adaround" else {}
    run = importlib.import_module(f"benchsuite.quantizers.{method}").quantize
    return run(model, **options) if method in ("rtn", "hqq") else run(model, tokens, **options)


METHODS = ["gptq", "awq", "smoothquant", "adaround", "rtn", "hqq"]
METHODS += [
    pytest.param(name, marks=pytest.mark.stress)
    for name in ("gptaq", "qronos", "wanda", "sparsegpt")
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model_type", ["llama", "opt"])
def test_a_streamed_model_is_quantized_to_the_same_bits(method, model_type, tokens):
    expected = quantize(method, whole(model_type), tokens)
    for n_devices in (1, 2):
        found = quantize(method, streamed(model_type, n_devices), tokens)
        assert found.weights_sha256 == expected.weights_sha256
        assert [line.error for line in found.layers] == [line.error for line in expected.layers]
        assert found.size_before_bytes == expected.size_before_bytes
        assert found.size_after_bytes == expected.size_after_bytes


def test_what_was_made_of_the_blocks_comes_again(tokens):
    expected, model = whole(), streamed()
    for one in (expected, model):
        quantize("gptq", one, tokens)
    assert len(quantized_linears(model)) == len(quantized_linears(expected)) == 21
    inputs, count = torch.randn(1, 8, 128), 0
    position = expected.model.rotary_emb(inputs, torch.arange(8)[None])
    with torch.no_grad():
        for index, block in Blocks(model).each():
            other = expected.model.layers[index]
            one, two = (b(inputs, position_embeddings=position) for b in (block, other))
            assert torch.equal(one, two)
            count += 1
    assert count == 3


@pytest.mark.parametrize("model_type", ["llama", "opt", "qwen2"])
def test_a_streamed_model_reads_text_to_the_same_bits(model_type, tokens):
    text = torch.randint(300, (64 * 5,), generator=torch.Generator().manual_seed(5))
    found = []
    for make in (whole, streamed):
        original, model = make(model_type), make(model_type)
        quantize("gptq", model, tokens)
        with using_kernel(model, "held"):
            found.append(perplexity(model, text, seq_len=64, batch_size=2))
            change = divergence(original, model, text, seq_len=64)
        found[-1] = (found[-1].chunk_nll.tolist(), change.chunk_kl.tolist())
        assert change.value > 0
    assert found[0] == found[1]


@pytest.mark.parametrize("model_type", ["gemma2", "granite"])
def test_logits_that_are_capped_or_scaled_are_so_when_streamed(model_type):
    text = torch.randint(300, (64 * 3,), generator=torch.Generator().manual_seed(5))
    changes = {"head_dim": 32} if model_type == "gemma2" else {"logits_scaling": 3.0}
    models = (make(model_type, **changes) for make in (whole, streamed))
    one, other = (perplexity(model, text, seq_len=64).chunk_nll for model in models)
    assert other == pytest.approx(one, rel=1e-5)


def test_a_streamed_model_is_not_rotated(tokens):
    with pytest.raises(CellCannotRun, match="blocks are not held together"):
        quantize("quarot", streamed(), tokens)


class Noting(Drawn):
    """Notes what is read."""

    def read(self, name, like, device):
        noted.append(name)
        return super().read(name, like, device)


noted = []


def test_a_block_is_read_once_for_each_time_it_comes_and_one_ahead():
    noted.clear()
    model = streamed(source=Noting(3))
    outside = {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}
    assert set(noted) == outside
    assert {p.device.type for p in model.model.layers.parameters()} == {"meta"}
    noted.clear()
    places = [model.model.layers[0].self_attn.q_proj.weight.is_meta for _ in Blocks(model).each()]
    assert places == [False, True, True]
    assert is_streamed(model)
    assert len(noted) == len(set(noted)) == 27
    assert [name.split(".")[2] for name in noted] == sorted(name.split(".")[2] for name in noted)


@pytest.fixture
def saved(tmp_path):
    """A folder with a model's weights, in two files and half precision."""
    model = tiny.model(dtype=torch.bfloat16, tie_word_embeddings=True)
    model.save_pretrained(tmp_path, max_shard_size="60KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    return tmp_path


def from_folder(folder, **changes):
    config = AutoConfig.from_pretrained(folder, **changes)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return stream(model, Folder(folder), CPU)


def test_a_checkpoint_is_streamed_from_its_files(saved, tokens):
    loaded = AutoModelForCausalLM.from_pretrained(saved, dtype=torch.float32).eval()
    model = from_folder(saved)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    expected, found = (quantize("gptq", one, tokens) for one in (loaded, model))
    assert found.weights_sha256 == expected.weights_sha256


def test_files_of_another_model_are_refused_by_the_tensors_name(saved, tokens):
    for changes, said in (
        ({"num_hidden_layers": 3}, "no tensor model.layers.2"),
        ({"intermediate_size": 32}, r"model.layers.0.mlp.*of shape \[96, 64\], not \[32, 64\]"),
    ):
        with pytest.raises(BenchsuiteError, match=said):
            quantize("rtn", from_folder(saved, **changes), tokens)


def test_a_mixture_of_experts_is_refused(make_model):
    model = make_model("mixtral").to("meta")
    with pytest.raises(UsageError, match="a mixtral model cannot be streamed"):
        stream(model, Drawn(3), CPU)


def test_weights_that_are_not_finite_are_named(tokens):
    class Broken(Drawn):
        def read(self, name, like, device):
            drawn = super().read(name, like, device)
            return drawn.fill_(torch.inf) if name.endswith("1.mlp.up_proj.weight") else drawn

    for method in ("gptq", "rtn"):
        with pytest.raises(BenchsuiteError, match=r"has inf.*model.layers.1.mlp.up_proj"):
            quantize(method, streamed(source=Broken(3)), tokens)
