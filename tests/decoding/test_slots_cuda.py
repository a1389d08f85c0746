"""On a GPU: the kernel against its attention spelt out, whole answers against the plain loop."""

import numpy as np
import pytest
import torch

from benchsuite.decoding.loop import evaluating, greedy
from benchsuite.decoding.ways import grows_in_slots, shared_prefix
from benchsuite.evaluation import generation
from benchsuite.evaluation.growing import Answer, grow_together
from benchsuite.quantizers import cache
from tests.decoding.slot_models import FAMILIES, attend_plainly, build
from tests.decoding.test_slots import NEW, PROMPTS, Words
from tests.evaluation import embedded_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

TOLERANCES = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


def normal(dtype):
    """What draws tensors of a shape on the GPU, the same ones in each test."""
    rng = torch.Generator("cuda").manual_seed(1)
    return lambda *shape: torch.randn(*shape, device="cuda", generator=rng).to(dtype)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(
    ("heads", "kv_heads", "width"), [(4, 4, 16), (9, 3, 64), (6, 2, 80), (32, 8, 128), (4, 1, 256)]
)
@pytest.mark.parametrize(("window", "softcap"), [(None, None), (70, None), (None, 5.0)])
def test_the_kernel_attends_as_spelt_out(dtype, heads, kv_heads, width, window, softcap):
    from benchsuite.decoding.slot_kernel import attend

    drawn = normal(dtype)
    rows, length = 5, 200
    q, k, v = (
        drawn(rows, heads, 1, width),
        drawn(rows, kv_heads, width),
        drawn(rows, kv_heads, width),
    )
    keys, values = (drawn(rows, kv_heads, length, width) for _ in range(2))
    places = torch.tensor([0, 1, 63, 64, 199], device="cuda")
    how = {"scaling": width**-0.5, "window": window, "softcap": softcap}
    other = keys.clone(), values.clone()
    found = attend(q[:, :, 0], k, v, keys, values, places, **how)
    expected = attend_plainly(q[:, :, 0], k, v, *other, places, **how)

    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCES[dtype])
    assert torch.equal(keys, other[0])
    assert torch.equal(values, other[1])


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(
    ("rows", "heads", "kv_heads", "width", "length"),
    [(1, 32, 8, 64, 1088), (2, 9, 3, 64, 700), (1, 4, 1, 128, 2100), (1, 6, 2, 80, 600)],
)
@pytest.mark.parametrize(("window", "softcap"), [(None, None), (70, None), (300, 5.0)])
def test_few_rows_of_a_long_cache_are_attended_in_parts(
    dtype, rows, heads, kv_heads, width, length, window, softcap
):
    from benchsuite.decoding import slot_kernel

    assert slot_kernel._parts(rows * kv_heads, length) > 1
    drawn = normal(dtype)
    q, k, v = (drawn(rows, n, width) for n in (heads, kv_heads, kv_heads))
    keys, values = (drawn(rows, kv_heads, length, width) for _ in range(2))
    how = {"scaling": width**-0.5, "window": window, "softcap": softcap}
    for place in (0, 1, 63, 64, 129, 500, length - 1):
        places = torch.full((rows,), place, device="cuda")
        other = keys.clone(), values.clone()
        found = slot_kernel.attend(q, k, v, keys, values, places, **how)
        expected = attend_plainly(q, k, v, *other, places, **how)
        torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCES[dtype])
        assert torch.equal(keys, other[0])
        assert torch.equal(values, other[1])


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(("heads", "kv_heads", "width"), [(9, 3, 64), (32, 8, 128), (4, 1, 256)])
@pytest.mark.parametrize(("window", "softcap"), [(None, None), (70, None), (None, 5.0)])
@pytest.mark.parametrize("rows", [129, 3])  # few are attended in parts
def test_a_prefix_is_seen_by_all_rows(dtype, heads, kv_heads, width, window, softcap, rows):
    from benchsuite.decoding import slot_kernel

    drawn = normal(dtype)
    length, shared = 280, 384
    assert (slot_kernel._parts(rows * kv_heads, length + shared) > 1) == (rows == 3)
    q, k, v = (drawn(rows, n, width) for n in (heads, kv_heads, kv_heads))
    keys, values = (drawn(rows, kv_heads, length, width) for _ in range(2))
    prefix = drawn(kv_heads, shared, width), drawn(kv_heads, shared, width)
    how = {"scaling": width**-0.5, "window": window, "softcap": softcap, "prefix": prefix}
    for first in (0, 1, 63, 64, 140):  # each row's is one further
        places = shared + first + torch.arange(rows, device="cuda")
        other = keys.clone(), values.clone()
        found = slot_kernel.attend(q, k, v, keys, values, places, **how)
        expected = attend_plainly(q, k, v, *other, places, **how)
        torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCES[dtype])
        assert torch.equal(keys, other[0])
        assert torch.equal(values, other[1])


def by_graphs_and_plainly(model, monkeypatch, prompts=PROMPTS):
    """The prompts' answers by graphs, and by the plain loop."""
    from benchsuite.decoding.slots import Slots

    graphs, own = [], Slots._capture
    monkeypatch.setattr(Slots, "_capture", lambda self: graphs.append((own(self), self._graph)))
    assert grows_in_slots(model)
    expected = [[Answer(Words(), (), frozenset())] for _ in prompts]
    found = [[Answer(Words(), (), frozenset())] for _ in prompts]
    with evaluating(model):
        for prompt, (answer,) in zip(prompts, expected, strict=True):
            ids = torch.tensor([prompt], device="cuda")
            steps = greedy(model, ids)
            grow_together([answer], (next(steps) for _ in range(NEW)))
        prefix = shared_prefix(model, prompts)
        longest = max(map(len, prompts)) + NEW - len(prefix)
        how = (NEW, longest, 2, lambda n: None)
        generation._in_slots(model, prompts, found, None, *how, entropies=False, prefix=prefix)

    assert [graph is not None for _, graph in graphs] == [True]
    return zip(*([answer for (answer,) in answers] for answers in (found, expected)), strict=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_by_graphs_are_the_plain_loop_s(family, monkeypatch):
    for answer, other in by_graphs_and_plainly(build(family).cuda(), monkeypatch):
        assert answer.ids == other.ids
        np.testing.assert_allclose(answer.log_probs, other.log_probs, atol=generation.TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_after_a_shared_prefix_are_the_plain_loop_s(family, monkeypatch):
    model, start = build(family).cuda(), [3 + 7 * i % 250 for i in range(130)]
    prompts = [start + prompt for prompt in PROMPTS]
    assert shared_prefix(model, prompts) == start[:128]
    for answer, other in by_graphs_and_plainly(model, monkeypatch, prompts):
        assert answer.ids == other.ids
        np.testing.assert_allclose(answer.log_probs, other.log_probs, atol=generation.TOLERANCE)


@pytest.mark.parametrize("numbers", cache.NUMBERS)
def test_a_rounded_cache_is_read_by_graphs_too(numbers, monkeypatch):
    model = build("llama").cuda()
    cache.quantize(model, torch.arange(3, 67)[None], numbers=numbers)
    assert shared_prefix(model, [[5] * 300] * 2) == []
    for answer, other in by_graphs_and_plainly(model, monkeypatch):
        # A last bit of a key may decide between two levels.
        assert answer.log_probs[0] == pytest.approx(other.log_probs[0], abs=0.05)


def test_an_embedded_model_answers_and_draws_as_on_the_cpu():
    model, tokenizer = embedded_model.load()
    asked = [f"Question: What is {a} + {b}?\nAnswer:" for a in range(6) for b in range(5)]

    def both(network):
        drawn = generation.sample(
            network, tokenizer, asked[:6], n_samples=4, seed=1, max_new_tokens=8, batch_size=8
        )
        greedy = generation.generate(network, tokenizer, asked, max_new_tokens=12, stop=["\n"])
        return [text for one in drawn for text in one.texts], greedy

    texts, expected = both(model.float())
    texts_there, found = both(model.cuda())
    model.cpu()
    assert found.texts == expected.texts
    assert found.ended_by == expected.ended_by
    assert np.mean([a == b for a, b in zip(texts, texts_there, strict=True)]) > 0.9
