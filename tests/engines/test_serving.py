"""Our checkpoints under vLLM: which it is given, what it is asked, and that it computes the same.

The last needs a CUDA GPU and vLLM, in this interpreter or in that of ``--engine-python vllm=PATH``.
"""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from benchsuite import catalog
from benchsuite.engines import EngineProcess, agreement, engine, serving
from benchsuite.evaluation.forced import greedy_choices, teacher_forced
from benchsuite.harness.session import Bench
from benchsuite.models import load, random_weights
from benchsuite.quantizers import apply, checkpoint, using_kernel
from benchsuite.records.environment import versions_in

ENTRY = catalog.model("tiny_llama_1m")
FORMATS = {"rtn_w8": "gptq", "gptq_w4": "gptq", "awq_w4": "awq"}
FORMATS |= {"rotated_rtn_w4": "gptq", "mixed_w5": "gptq"}
FORMATS |= {"smoothquant_w8a8": "compressed-tensors"}


def quantized(method, model):
    vocabulary, device = model.config.vocab_size, next(model.parameters()).device
    generator = torch.Generator().manual_seed(5)
    batch = torch.randint(0, vocabulary, (4, 64), generator=generator).to(device)
    apply(method, model, batch, seed=1, progress=None, group_size=128, iterations=2)
    return model


@pytest.mark.parametrize("method", FORMATS)
def test_checkpoints_that_vllm_reads_are_written_in_its_format(method, tmp_path):
    assert serving.write(quantized(method, load(ENTRY).model), tmp_path) == ""
    assert checkpoint.read_settings(tmp_path)["quant_method"] == FORMATS[method]


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("rtn_w3", "4 and 8 bits, not of 3"),
        ("hqq_w4", "fractional zero points"),
        ("quarot_w4a16", "rounds or transforms what its layers read"),
    ],
)
def test_what_vllm_cannot_read_says_why(method, reason, tmp_path):
    assert reason in serving.write(quantized(method, load(ENTRY).model), tmp_path)


def test_asymmetric_grids_of_8_bits_are_refused(tmp_path):
    from benchsuite.quantizers import rtn

    model = load(ENTRY).model
    rtn.quantize(model, bits=8, sym=False)
    assert "symmetric grids only" in serving.write(model, tmp_path)


def test_a_narrower_last_group_is_refused_by_layer(tmp_path):
    from benchsuite.quantizers import rtn

    model = load(ENTRY).model
    rtn.quantize(model, bits=4, group_size=48)
    told = serving.write(model, tmp_path)
    assert "128 inputs of model.layers.0.self_attn.q_proj are no multiple of 48" in told


def test_the_original_is_written_as_it_is(tmp_path):
    model = load(ENTRY).model
    assert serving.write(model, tmp_path, quantized=False) == ""
    stored, state = load_file(tmp_path / "model.safetensors"), model.state_dict()
    assert stored
    assert all(torch.equal(tensor, state[name]) for name, tensor in stored.items())


def test_the_cache_holds_the_sample_and_little_more():
    model = load(ENTRY).model
    asked = serving.settings_for(model, 100)
    with torch.no_grad():
        cache = model(input_ids=torch.zeros(1, 100, dtype=torch.int64), use_cache=True)
    layers = [(layer.keys, layer.values) for layer in cache.past_key_values.layers]
    needed = sum(2 * tensor.numel() for pair in layers for tensor in pair)
    assert needed < asked["kv_cache_gib"] * 2**30 < 3 * needed
    assert asked["max_model_len"] == 100
    assert asked["dtype"] == "float16"


class Served:
    """A process that takes 2 s to the first token and .25 s for each after it."""

    asked: dict

    def load(self, **settings):
        self.asked = settings
        return {"vllm": "0.26.0", "using": ["Using Marlin"]}

    def latency(self, prompt, max_tokens, *, repeats, warmup):
        assert warmup > 0
        seconds = 2.0 + 0.25 * (max_tokens - 1)
        return {"seconds": [seconds, 9.0, seconds][:repeats], "peak_memory_bytes": 7}


def test_the_first_token_is_timed_apart_from_those_after_it(tmp_path):
    process, settings = Served(), serving.settings_for(load(ENTRY).model, 12)
    found = serving.timed(process, tmp_path, [1, 2, 3, 4], settings, new_tokens=8)

    assert found["vllm_first_token_seconds"] == 2
    assert found["vllm_token_seconds"] == pytest.approx(0.25)
    assert found["vllm_latency_seconds"] == 3.75
    assert found["vllm_tokens_per_second"] == pytest.approx(8 / 3.75)
    assert process.asked["graphs"]
    assert process.asked["max_model_len"] == 12
    assert found["vllm_cache_bytes"] == int(process.asked["kv_cache_gib"] * 2**30)


@pytest.fixture(scope="module")
def vllm(pytestconfig):
    """The interpreter that has vLLM."""
    if not torch.cuda.is_available():
        pytest.skip("vLLM needs a CUDA GPU; none found")
    python = Bench.of(pytestconfig).engine_python("vllm")
    if "absent" in versions_in(python, engine("vllm").packages).values():
        pytest.skip(f"vLLM is not installed: {engine('vllm').install}")
    return python


@pytest.mark.parametrize("method", ["gptq_w4", "awq_w4", "smoothquant_w8a8"])
def test_vllm_computes_what_our_model_does(method, vllm, tmp_path):
    shape = {**catalog.model("llama3_2_1b").shape, "num_hidden_layers": 2, "vocab_size": 8192}
    entry = replace(catalog.model("llama3_2_1b"), shape=shape)
    model = random_weights.build(entry, device="cuda", dtype="float16", seed=1)
    quantized(method, model.eval())
    assert serving.write(model, tmp_path / "checkpoint") == ""
    prompts = [[(31 * i + 7 * n) % 8000 for i in range(48)] for n in range(4)]
    with using_kernel(model, "few_tokens"):
        chosen = greedy_choices(model, prompts, 8)
    with EngineProcess("vllm", engine("vllm"), log=tmp_path / "log", python=vllm) as process:
        settings = serving.settings_for(model, 64, samples=4)
        process.ask("load", checkpoint_folder=str(tmp_path / "checkpoint"), **settings)
        scored, made = process.ask("score", prompts=prompts), process.generate(prompts, 8)
    weight_only = method != "smoothquant_w8a8"
    limit = agreement.WEIGHT_ONLY if weight_only else agreement.ROUNDED_INPUTS
    found = agreement.agreement(
        teacher_forced(model, prompts),
        scored["logprobs"],
        scored["best"],
        chosen,
        made.tokens,
        tolerance=limit,
    )
    assert found.holds, found


def test_vllm_tells_how_fast_it_serves(vllm, tmp_path):
    model = load(ENTRY, device="cuda").model
    assert serving.write(model, tmp_path / "checkpoint", quantized=False) == ""
    found = serving.latency(
        model,
        tmp_path / "checkpoint",
        list(range(100)),
        python=vllm,
        log=tmp_path / "log",
        new_tokens=8,
    )
    assert found["vllm_tokens_per_second"] == pytest.approx(8 / found["vllm_latency_seconds"])
    stored = sum(p.numel() * p.element_size() for p in model.parameters())
    assert found["vllm_memory_bytes"] > stored + found["vllm_cache_bytes"]
