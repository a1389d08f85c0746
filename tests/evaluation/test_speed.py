"""What is measured and how often; never how fast."""

import copy
from itertools import islice

import numpy as np
import pytest
import torch

from benchsuite import quantizers
from benchsuite.decoding import slots
from benchsuite.decoding.loop import evaluating, greedy
from benchsuite.errors import UsageError
from benchsuite.evaluation import reading, speed
from tests.decoding.slot_models import attend_plainly, build
from tests.evaluation import embedded_model
from tests.models import tiny

PROMPT = torch.arange(3, 23)


def counted(model):
    """Note the tokens of every forward pass."""
    lengths = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: lengths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    return lengths


def test_every_pass_reads_the_prompt_once_and_then_token_by_token():
    model = tiny.model()
    lengths = counted(model)
    found = speed.measure(model, PROMPT, new_tokens=6, repeats=3, warmup=2)

    assert lengths == 6 * [20, 1, 1, 1, 1, 1]  # two to warm up, one for memory, three timed
    assert (found.prompt_tokens, found.new_tokens, found.batch_size) == (20, 6, 1)
    assert found.seconds.shape == found.first_seconds.shape == (3,)
    assert found.seconds.dtype == np.float64


def test_summaries_are_those_of_the_single_values():
    found = speed.measure(tiny.model(), PROMPT.repeat(2, 1), new_tokens=5, repeats=4, warmup=0)

    assert (found.first_seconds > 0).all()
    assert (found.seconds > found.first_seconds).all()
    assert found.latency_seconds == np.median(found.seconds)
    assert found.first_token_seconds == np.median(found.first_seconds)
    assert found.tokens_per_second == pytest.approx(2 * 5 / found.latency_seconds)
    rest = np.median(found.seconds - found.first_seconds)
    assert found.token_seconds == pytest.approx(rest / 4)
    assert (found.device, found.memory_kind, found.path) == ("cpu", "resident", "eager")
    # A CPU's caches may hold the model: what its memory's rate allows says nothing there.
    assert (found.token_limit_seconds, found.bytes_per_second, found.device_alone) == 3 * (None,)
    assert found.peak_memory_bytes > 10 * 2**20
    assert found.threads == torch.get_num_threads()


@pytest.mark.parametrize("kernel", ["dequantize", "held", "int4_cpu"])
def test_packed_layers_run_on_the_callers_kernel(kernel):
    model = copy.deepcopy(embedded_model.load()[0])
    quantizers.rtn.quantize(model, bits=4, group_size=32, sym=True)
    linears = quantizers.quantized_linears(model)
    used = set()
    for linear in linears.values():
        linear.register_forward_hook(lambda module, *_: used.add(module.kernel))
    with quantizers.using_kernel(model, kernel):
        speed.measure(model, PROMPT, new_tokens=2, repeats=1, warmup=0)

    assert used == {kernel}


@pytest.mark.parametrize("model_type", ["llama", "mistral", "opt"])
def test_unpadded_steps_are_the_padded_ones(model_type):
    model, ids = tiny.model(model_type), PROMPT[None]
    with evaluating(model):
        bare, masked = greedy(model, ids), greedy(model, ids, torch.ones_like(ids))
        for _ in range(5):
            (token, logits), (expected, reference) = next(bare), next(masked)
            assert token.tolist() == expected.tolist()
            torch.testing.assert_close(logits, reference, atol=1e-5, rtol=1e-5)


def test_progress_mode_and_generators():
    model = tiny.model().train()
    before, seen = torch.get_rng_state(), []
    speed.measure(
        model, PROMPT, new_tokens=2, repeats=2, warmup=1, progress=lambda *a: seen.append(a)
    )

    assert seen == [("speed", n, 4) for n in (1, 2, 3, 4)]
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"new_tokens": 1}, "nothing to measure"),
        ({"repeats": 0}, "nothing to measure"),
        ({"new_tokens": 500}, "20 tokens and 500 new ones exceed the model's context of 512"),
    ],
)
def test_what_cannot_be_measured_is_refused(change, message):
    with pytest.raises(UsageError, match=message):
        speed.measure(tiny.model(), PROMPT, **({"new_tokens": 4, "repeats": 1} | change))


def test_a_model_holds_its_weights_once_and_what_its_kernels_keep():
    model = copy.deepcopy(embedded_model.load()[0])
    weights = {p.data_ptr(): p.numel() * p.element_size() for p in model.parameters()}
    buffers = {b.data_ptr(): b.numel() * b.element_size() for b in model.buffers()}
    assert speed.held_bytes(model) == sum((weights | buffers).values())

    quantizers.rtn.quantize(model, bits=4, group_size=128, sym=True)
    packed = speed.held_bytes(model)
    assert packed < sum(weights.values()) / 2
    with quantizers.using_kernel(model, "held"):
        model(torch.arange(8)[None])  # what is held is made when it is first used
        assert speed.held_bytes(model) > sum(weights.values())
    assert speed.held_bytes(model) == packed


def test_a_slot_is_timed_from_its_prompt_to_its_last_token_again_and_again(monkeypatch):
    """The way of a GPU, without its kernel and its graph."""
    model, made = build("llama"), []
    with evaluating(model):
        expected = [int(token) for token, _ in islice(greedy(model, PROMPT[None]), 6)]
    monkeypatch.setattr(speed, "grows_in_slots", lambda _: True)
    monkeypatch.setattr(slots, "kernel", lambda: attend_plainly)
    own = slots.Slots.step

    def step(self):
        own(self)
        made.append(int(self._ids[0, 0]))

    monkeypatch.setattr(slots.Slots, "step", step)
    found = speed.measure(model, PROMPT, new_tokens=6, repeats=2, warmup=1)

    assert made == 4 * expected
    assert (found.first_seconds > 0).all()
    assert (found.seconds > found.first_seconds).all()
    assert found.path == "eager"  # without a graph it is no more than that
    made.clear()
    speed.measure(model, PROMPT, new_tokens=6, repeats=2, warmup=1, graphs=False)
    assert made == []


@pytest.mark.parametrize("tied", [True, False])
def test_a_step_reads_every_weight_but_a_table_of_which_it_takes_a_row(tied):
    model = build("llama", tie_word_embeddings=tied)
    used = {name: p for name, p in model.named_parameters() if "embed_tokens" not in name}
    head = model.lm_head.weight
    plain = sum(p.numel() * 4 for name, p in used.items() if p is not head) + head.numel() * 4
    rotary = sum(b.numel() * 4 for b in {b.data_ptr(): b for b in model.buffers()}.values())
    assert reading.weight_bytes(model) == plain + rotary
    with torch.no_grad():
        cache = model(input_ids=PROMPT.repeat(2, 1), use_cache=True).past_key_values
    kept = sum(4 * (layer.keys.numel() + layer.values.numel()) for layer in cache.layers)
    assert reading.step_bytes(model, 2, 20) == plain + rotary + kept


def test_packed_weights_are_read_as_they_are_stored_and_windows_end_the_cache():
    model = copy.deepcopy(embedded_model.load()[0])
    before = reading.weight_bytes(model)
    linears = {n: m for n, m in model.model.named_modules() if isinstance(m, torch.nn.Linear)}
    replaced = sum(m.weight.numel() * m.weight.element_size() for m in linears.values())
    quantizers.rtn.quantize(model, bits=4, group_size=32, sym=True)
    packed = sum(m.packed_bytes for m in quantizers.quantized_linears(model).values())
    assert reading.weight_bytes(model) == before - replaced + packed

    half = build("gemma3_text", layer_types=["sliding_attention", "full_attention"])
    added = reading.step_bytes(half, 1, 100) - reading.step_bytes(half, 1, 12)
    full = build("gemma3_text", layer_types=2 * ["full_attention"])
    assert 2 * added == reading.step_bytes(full, 1, 100) - reading.step_bytes(full, 1, 12) > 0


def test_which_weights_a_mixture_of_experts_reads_is_not_known_beforehand():
    assert reading.step_bytes(tiny.model("mixtral"), 1, 20) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("method", ["fp16", "rtn_w8", "rtn_w4", "hqq_w4", "smoothquant_w8a8"])
def test_on_a_gpu_every_format_is_timed_by_graphs_that_say_what_the_loop_says(method, monkeypatch):
    model, seen = copy.deepcopy(embedded_model.load()[0]).cuda(), []
    own = slots.Slots.take
    monkeypatch.setattr(slots.Slots, "take", lambda self, *a: (seen.append(self), own(self, *a)))
    if method != "fp16":
        ids = torch.arange(256).reshape(4, 64).cuda()
        quantizers.apply(method, model, ids, seed=1, progress=None, group_size=32)
    with quantizers.using_kernel(model, "few_tokens"):
        with evaluating(model):
            steps = islice(greedy(model, PROMPT[None].cuda()), 12)
            expected = [int(token) for token, _ in steps]
        with speed.generating(model, PROMPT, 12) as (path, generate):
            generate(lambda: None)
            assert seen[0].tokens[0].tolist() == expected
        told = speed.measure(model, PROMPT, new_tokens=8, repeats=2)
    assert (path, told.path) == ("graphs", "graphs")
    assert told.bytes_per_second > 1e11
    assert 0 < told.token_limit_seconds < told.token_seconds
    assert isinstance(told.device_alone, bool)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_memory_on_a_gpu_is_that_of_the_model_alone():
    model = copy.deepcopy(embedded_model.load()[0]).cuda()
    alone = speed.measure(model, PROMPT, new_tokens=4, repeats=1).peak_memory_bytes
    beside = torch.ones(2**28, device="cuda")
    again = speed.measure(model, PROMPT, new_tokens=4, repeats=1).peak_memory_bytes
    del beside
    assert speed.held_bytes(model) < alone < speed.held_bytes(model) + 2**26
    assert again == pytest.approx(alone, rel=0.01)
