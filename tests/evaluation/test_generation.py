import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchsuite.decoding.loop import batches
from benchsuite.embedded import prompts, tasks
from benchsuite.errors import UsageError
from benchsuite.evaluation import generation, growing
from benchsuite.evaluation.generation import TOLERANCE, generate, log_likelihoods
from tests.evaluation import embedded_model
from tests.models import tiny

PROMPTS = ["Bees", "An owl sees the moon, and then", "x", "Question: who?\nAnswer:", "12 + 7 ="]


def hub_like(model_type="llama"):
    return tiny.model(model_type, vocab_size=258), tiny.tokenizer()


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3", "mistral", "opt"])
def test_batched_answers_are_transformers_own(model_type):
    model, tokenizer = hub_like(model_type)
    found = generate(model, tokenizer, PROMPTS, max_new_tokens=12, batch_size=3)

    for prompt, ids in zip(PROMPTS, found.token_ids, strict=True):
        encoded = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
        expected = model.generate(**encoded, do_sample=False, max_new_tokens=12)[0]
        expected = expected[encoded["input_ids"].shape[1] :].tolist()
        if tokenizer.eos_token_id in expected:
            expected = expected[: expected.index(tokenizer.eos_token_id)]
        assert ids.tolist() == expected


@pytest.mark.parametrize("model_type", ["llama", "opt"])
def test_log_probs_agree_with_batch_size_one_and_with_teacher_forcing(model_type):
    model, tokenizer = hub_like(model_type)
    together = generate(model, tokenizer, PROMPTS, max_new_tokens=10, batch_size=5)
    alone = [generate(model, tokenizer, [p], max_new_tokens=10) for p in PROMPTS]
    prefixes = [tokenizer(p)["input_ids"] for p in PROMPTS]
    forced = log_likelihoods(model, prefixes, [ids.tolist() for ids in together.token_ids])

    for i, single in enumerate(alone):
        assert together.token_ids[i].tolist() == single.token_ids[0].tolist()
        assert together.log_probs[i].dtype == np.float64
        np.testing.assert_allclose(together.log_probs[i], single.log_probs[0], atol=TOLERANCE)
        np.testing.assert_allclose(together.log_probs[i], forced[i], atol=TOLERANCE)


def test_log_likelihoods_are_those_of_one_plain_pass():
    model, _ = hub_like()
    draw = torch.Generator().manual_seed(0)
    rows = [torch.randint(258, (n,), generator=draw).tolist() for n in (5, 9, 17, 30)]
    cuts = [1, 8, 4, 29]
    pairs = list(zip(rows, cuts, strict=True))
    found = log_likelihoods(
        model, [row[:cut] for row, cut in pairs], [row[cut:] for row, cut in pairs], batch_size=3
    )

    for values, (row, cut) in zip(found, pairs, strict=True):
        with torch.no_grad():
            log_p = model(torch.tensor([row])).logits[0].double().log_softmax(-1)
        expected = [float(log_p[t - 1, row[t]]) for t in range(cut, len(row))]
        np.testing.assert_allclose(values, expected, atol=TOLERANCE)


def test_answers_end_before_the_first_stop_string():
    model, tokenizer = hub_like()
    whole = generate(model, tokenizer, PROMPTS[:1], max_new_tokens=20)
    text, ids = whole.texts[0], whole.token_ids[0]
    assert whole.ended_by == ("limit",)
    assert len(text) > 6
    later, sooner = text[5:7], text[3:5]  # of several tokens each

    cut = generate(model, tokenizer, PROMPTS[:1], max_new_tokens=20, stop=[later, sooner])

    assert cut.ended_by == ("stop",)
    assert cut.texts[0] == text[: min(text.find(sooner), text.find(later))]
    n = len(cut.token_ids[0])
    assert cut.token_ids[0].tolist() == ids[:n].tolist()
    assert tokenizer.decode(ids[:n]) == cut.texts[0]
    np.testing.assert_allclose(cut.log_probs[0], whole.log_probs[0][:n], atol=TOLERANCE)


def test_an_answer_that_begins_with_a_stop_string_is_empty():
    model, tokenizer = hub_like()
    first = generate(model, tokenizer, PROMPTS[:1], max_new_tokens=8).texts[0][:1]
    empty = generate(model, tokenizer, PROMPTS[:1], max_new_tokens=8, stop=[first])

    assert empty.texts == ("",)
    assert empty.token_ids[0].shape == empty.log_probs[0].shape == (0,)


def test_an_end_token_of_the_models_own_files_ends_the_answer():
    model, tokenizer = hub_like()
    ids = generate(model, tokenizer, PROMPTS[:1], max_new_tokens=6).token_ids[0].tolist()
    fresh = next(i for i, token in enumerate(ids) if i and token not in ids[:i])
    model.generation_config.eos_token_id = [1, ids[fresh]]
    ended = generate(model, tokenizer, PROMPTS[:1], max_new_tokens=6)

    assert ended.ended_by == ("end",)
    assert ended.token_ids[0].tolist() == ids[:fresh]


class Pieces:
    """A tokenizer of given pieces, to cut at places that a trained one does not offer."""

    eos_token_id = None

    def __init__(self, *pieces):
        self.pieces = pieces

    def decode(self, ids, **_):
        return b"".join(self.pieces[i] for i in ids).decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("pieces", "stop", "text", "kept"),
    [
        ((b" Pa", b"ris", b"\n", b"x"), "\n", " Paris", 2),
        ((b" Pa", b"ris\nQ"), "\n", " Paris", 2),  # one token holds the answer's end and the stop
        ((b"a", b"Quest", b"ion", b":"), "Question:", "a", 1),  # a stop of three tokens
        ((b"caf", b"\xc3", b"\xa9", b"\n"), "\n", "café", 3),  # a letter of two tokens
        ((b"\n",), "\n", "", 0),
        ((b" ", b"\n"), "\n", " ", 1),
    ],
)
def test_the_tokens_that_a_cut_text_needs(pieces, stop, text, kept):
    answer = growing.Answer(Pieces(*pieces), [stop], frozenset())
    for i in range(len(pieces)):
        answer.add(i)
    answer.close(np.arange(len(pieces), dtype=float))

    assert (answer.text, answer.ids, answer.ended_by) == (text, list(range(kept)), "stop")
    assert answer.log_probs.tolist() == list(range(kept))


def test_an_embedded_model_answers_as_with_transformers_and_its_order_is_kept():
    model, tokenizer = embedded_model.load()
    items = tasks.items("closed_book", "test")[:30]
    asked = [prompts.prompt(item) for item in items]
    found = generate(model, tokenizer, asked, max_new_tokens=16, stop=["\n"], batch_size=8)
    batch = tokenizer(asked, return_tensors="pt", padding=True, return_token_type_ids=False)
    new = model.generate(**batch, do_sample=False, max_new_tokens=16)[
        :, batch["input_ids"].shape[1] :
    ]

    expected = tokenizer.batch_decode(new, skip_special_tokens=True)
    assert list(found.texts) == [text.split("\n")[0] for text in expected]
    assert {"end"} == set(found.ended_by)


def test_global_random_state_mode_and_progress():
    model, tokenizer = hub_like()
    model.train()
    before, seen = torch.get_rng_state(), []
    generate(
        model,
        tokenizer,
        PROMPTS,
        max_new_tokens=2,
        batch_size=2,
        progress=lambda *args: seen.append(args),
    )

    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert torch.is_grad_enabled()
    assert seen == [("generation", n, 5) for n in (2, 4, 5)]


def test_nothing_to_do():
    model, tokenizer = hub_like()
    assert generate(model, tokenizer, [], max_new_tokens=4).texts == ()
    assert log_likelihoods(model, [], []) == []


def test_a_prompt_beyond_the_context_is_refused():
    model, tokenizer = hub_like()
    with pytest.raises(UsageError, match=r"prompt 1 has 502 tokens: with 12 new ones .* 512"):
        generate(model, tokenizer, ["x", "y" * 501], max_new_tokens=12)


def test_an_empty_prompt_without_a_start_token_is_refused():
    model, _ = hub_like()
    with pytest.raises(UsageError, match="prompt 0 has no token"):
        generate(model, lambda texts, **_: {"input_ids": [[], [3]]}, ["", "x"], max_new_tokens=2)
    with pytest.raises(ValueError, match="no token"):
        log_likelihoods(model, [[1]], [[]])


@given(lengths=st.lists(st.integers(1, 99)), batch_size=st.integers(1, 9))
def test_batches_hold_every_item_once_the_longest_first(lengths, batch_size):
    found = list(batches(lengths, batch_size))

    order = [i for batch in found for i in batch]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[i] for i in order] == sorted(lengths, reverse=True)
    assert all(len(batch) == batch_size for batch in found[:-1])


# --- sampled answers


def sampled(model, tokenizer, **options):
    options = {"n_samples": 6, "seed": 5, "max_new_tokens": 8} | options
    return generation.sample(model, tokenizer, PROMPTS, **options)


def test_samples_do_not_depend_on_the_batch_size_but_on_the_seed():
    model, tokenizer = hub_like()
    together = sampled(model, tokenizer, batch_size=64)
    apart = sampled(model, tokenizer, batch_size=1)

    assert [found.texts for found in together] == [found.texts for found in apart]
    for one, other in zip(together, apart, strict=True):
        for values, again in zip(one.log_probs, other.log_probs, strict=True):
            np.testing.assert_allclose(values, again, atol=TOLERANCE)
    assert len(set(together[0].texts)) > 1
    assert [f.texts for f in sampled(model, tokenizer, seed=6)] != [f.texts for f in together]


@pytest.mark.parametrize("model_type", ["llama", "mistral", "opt"])
def test_the_log_probs_of_samples_are_those_of_teacher_forcing(model_type):
    model, tokenizer = hub_like(model_type)
    for prompt, found in zip(PROMPTS, sampled(model, tokenizer, temperature=1.5), strict=True):
        rows = [ids.tolist() for ids in found.token_ids if len(ids)]
        prefixes = [tokenizer(prompt)["input_ids"]] * len(rows)
        forced = log_likelihoods(model, prefixes, rows)
        for values, expected in zip([v for v in found.log_probs if len(v)], forced, strict=True):
            np.testing.assert_allclose(values, expected, atol=TOLERANCE)


def test_a_cold_sample_is_the_greedy_answer():
    model, tokenizer = hub_like()
    greedy = generate(model, tokenizer, PROMPTS, max_new_tokens=8)
    cold = sampled(model, tokenizer, temperature=1e-4, n_samples=2)
    assert [found.texts for found in cold] == [(text, text) for text in greedy.texts]


def test_first_tokens_are_drawn_as_often_as_the_model_says():
    model, tokenizer = hub_like()
    n = 20_000
    (found,) = generation.sample(
        model, tokenizer, PROMPTS[:1], n_samples=n, seed=1, max_new_tokens=1, batch_size=n
    )
    with torch.no_grad():
        ids = torch.tensor([tokenizer(PROMPTS[0])["input_ids"]])
        expected = model(ids).logits[0, -1].softmax(-1).numpy()
    counts = np.zeros(len(expected))
    for ids in found.token_ids:
        if len(ids):
            counts[ids[0]] += 1
    kept = expected * n >= 5
    kept[list(generation._end_ids(model, tokenizer))] = False  # none of an answer's tokens
    spread = (counts - expected * n)[kept] / np.sqrt(expected * n * (1 - expected))[kept]
    assert np.abs(spread).max() < 4.5
    assert 0.7 < float((spread**2).mean()) < 1.3


def test_a_temperature_must_be_positive():
    model, tokenizer = hub_like()
    with pytest.raises(UsageError, match="draws nothing"):
        sampled(model, tokenizer, temperature=0)
    assert sampled(model, tokenizer, n_samples=0)[0].texts == ()
