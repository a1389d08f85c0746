"""Decoding: passes that the decoder made, batches that agree with single rows, strict reading."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchsuite.embedded import tasks
from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.latent import decoding
from benchsuite.latent.methods.registry import config_of, method
from benchsuite.latent.network import BOT, Reasoner
from tests.latent.conftest import network

PROBLEMS = tasks.items("word_problems", "test")[:6]


@pytest.fixture
def short(config):
    return config.changed({"evaluation": {"max_new_tokens": 7}})


# Calls before the first token: reading, then passes; the last pass announces the answer.
THINKING = {"full_cot": 1, "no_cot": 1, "icot": 1, "coconut": 7, "codi": 6, "pccot": 3, "kava": 3}


@pytest.mark.parametrize("name", THINKING)
def test_passes_are_the_decoders_own_calls_alone_and_in_a_batch(name, form, short):
    config = config_of(name, short).changed({"latent": {"n_latents": 5}})
    net = network(projection=config.latent.projection)
    examples = form.encode(PROBLEMS)
    together = decoding.answers(net, method(name), config, form, examples)
    for example, batched in zip(examples, together, strict=True):
        calls = []
        handle = net.decoder.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        (alone,) = decoding.answers(net, method(name), config, form, [example])
        handle.remove()
        assert alone.token_ids == batched.token_ids
        assert alone.log_probs == pytest.approx(batched.log_probs, abs=1e-8)
        assert alone.passes == batched.passes
        assert alone.thinking_passes == THINKING[name]
        assert alone.passes == THINKING[name] + len(alone.token_ids) - 1
        # A row that reached its limit makes one call more, whose token nobody takes.
        assert len(calls) == alone.passes + (not alone.ended)


def test_decoding_step_by_step_equals_reading_the_answer_at_once(form, short):
    net = network()
    (example,) = form.encode(PROBLEMS[:1])
    config, chosen = config_of("kava", short), method("kava")
    (answer,) = decoding.answers(net, chosen, config, form, [example])
    with torch.no_grad():
        read = chosen.begin(net, form.batch([example]), config)
        ids = torch.tensor([answer.token_ids])
        after = net.extend(read.context, net.embed(ids[:, :-1]))
        hidden = torch.cat([read.hidden[:, -1:], after.hidden], 1)
        log_probs = net.logits(hidden).log_softmax(-1).gather(-1, ids[..., None])[0, :, 0]
    assert answer.log_probs == pytest.approx(log_probs.tolist(), abs=1e-6)


@pytest.mark.parametrize(
    ("text", "name", "number"),
    [
        (" 12", "kava", 12),
        (" 1,250 apples", "kava", 1250),
        (" -3.5", "no_cot", -3.5),
        (" $7.00", "kava", 7),
        ("", "kava", None),
        ("<<3+4=7>>\n#### 7", "full_cot", 7),
        ("<<3+4=7>>\nThe answer is: 7", "full_cot", None),
        ("<<3+4=7>>", "icot", None),
    ],
)
def test_an_answer_is_the_number_behind_the_marker(text, name, number, form):
    assert decoding.read_number(text, method(name), form) == number


def test_scores_count_and_compare(form, short):
    net, config = network(), config_of("kava", short)
    first = decoding.evaluate(net, method("kava"), config, form, PROBLEMS)
    again = decoding.evaluate(net, method("kava"), config, form, PROBLEMS)
    assert np.array_equal(first.passes, again.passes)
    assert first.texts == again.texts
    assert first.as_dict()["forward_passes"] == first.passes.mean()
    assert first.above(again)["accuracy_gain"] == 0


def scores(correct, of, parsed=None):
    values = np.arange(of, dtype=float)
    passes = np.arange(of) + 3
    right, parsed = np.arange(of) < correct, of if parsed is None else parsed
    shares = 100 * correct / of, 100 * parsed / of
    return decoding.Scores(*shares, of, right, values, passes, passes - 2, ("",) * of)


def test_errors_are_those_of_proportions_worked_out_by_hand():
    told = scores(1, 4, parsed=3).as_dict()
    assert (told["accuracy"], told["parse_rate"], told["n_items_asked"]) == (25, 75, 4)
    assert told["accuracy_stderr"] == pytest.approx(100 * (0.25 * 0.75 / 4) ** 0.5)
    assert (told["forward_passes"], told["thinking_passes"]) == (4.5, 2.5)
    # 50 of 100 after 20 of 100: variances .25 and .16 of one item each.
    told = scores(50, 100).above(scores(20, 100))
    assert (told["accuracy_untrained"], told["accuracy_gain"]) == (20, 30)
    assert told["accuracy_gain_in_stderr"] == pytest.approx(0.3 / (0.41 / 100) ** 0.5)
    # None of 100 before and one after: a variance of nothing would make that any number of errors.
    told = scores(1, 100).above(scores(0, 100))
    assert told["accuracy_gain_in_stderr"] == pytest.approx(0.01 / (0.02 / 100) ** 0.5)


def test_scores_are_the_texts_own(form, short):
    """Of an untrained model's answers nothing is right, and some have a number."""
    net, config = network(), config_of("no_cot", short)
    found = decoding.evaluate(net, method("no_cot"), config, form, PROBLEMS)
    alone = decoding.answers(net, method("no_cot"), config, form, form.encode(PROBLEMS))
    assert found.texts == tuple(form.tokenizer.decode(each.token_ids) for each in alone)
    read = [decoding.read_number(text, method("no_cot"), form) for text in found.texts]
    assert found.parse_rate == pytest.approx(100 * sum(n is not None for n in read) / 6)


def test_a_row_that_ends_before_its_neighbours_keeps_what_it_said(form, short):
    """What one row says third is the end of text: others say it later, earlier or never."""
    net, config, kava = network(), config_of("kava", short), method("kava")
    examples = form.encode(PROBLEMS)
    whole = decoding.answers(net, kava, config, form, examples)
    end = whole[0].token_ids[2]
    early = copy.copy(form)
    early.tokenizer = SimpleNamespace(eos_token_id=end)
    found = decoding.answers(net, kava, config, early, examples)
    for row, before in zip(found, whole, strict=True):
        n = before.token_ids.index(end) + 1 if end in before.token_ids else len(before.token_ids)
        assert row.ended == (end in before.token_ids)
        assert (row.token_ids, row.log_probs) == (before.token_ids[:n], before.log_probs[:n])
        assert row.passes == row.thinking_passes + n - 1
    assert found[0].ended
    assert not net.decoder._forward_pre_hooks


def test_latents_words_are_json_rows():
    assert decoding.word_rows([[["a", "ä"]], []]) == {"latents": ['[["a", "ä"]]', "[]"]}
    assert decoding.word_rows([[], []]) == {}


def test_out_of_memory_names_the_batch_of_the_evaluation(form, short, monkeypatch):
    def exhausted(self, *args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    monkeypatch.setattr(Reasoner, "extend", exhausted)
    config = config_of("kava", short.changed({"evaluation": {"batch_size": 64}}))
    with pytest.raises(BenchsuiteError, match=r"evaluation\.batch_size = 64.* Lower it to 32"):
        decoding.evaluate(network(), method("kava"), config, form, PROBLEMS)


def test_worked_examples_stand_before_the_question_as_they_are_written(form):
    shown, (asked,) = PROBLEMS[:2], form.encode(PROBLEMS[2:3])
    (found,) = form.encode(PROBLEMS[2:3], shown)
    begin, end = form.tokenizer.bos_token, form.tokenizer.eos_token
    rows = [f"{begin}{p.question}\n{' '.join(p.steps)}\n#### {p.answer}{end}" for p in shown]
    text = form.tokenizer.decode(found.question)
    assert text == "".join(rows) + form.tokenizer.decode(asked.question)
    assert (found.steps, found.answer) == (asked.steps, asked.answer)


@pytest.mark.parametrize(("name", "n_latents"), [("coconut", 6), ("codi", 5), ("kava", 5)])
def test_latents_are_read_by_the_models_own_head(name, n_latents, form, short):
    """The first latent is what the model would say after <bot>; each has its likeliest tokens."""
    config = config_of(name, short).changed({"latent": {"n_latents": 5}})
    net = network(projection=config.latent.projection)
    words = decoding.latent_words(net, method(name), config, form, PROBLEMS, n_words=2)
    assert [len(each) for each in words] == [n_latents] * len(PROBLEMS)
    for example, latents in zip(form.encode(PROBLEMS), words, strict=True):
        row = torch.cat([net.embed(torch.tensor([example.question])), net.token(BOT, 1)], 1)
        with torch.no_grad():
            best = net.logits(net.extend(None, row).hidden[0, -1]).topk(2).indices
        assert latents[0] == [form.tokenizer.decode([i]) for i in best.tolist()]


def test_a_method_without_latents_has_no_words(form, short):
    assert decoding.latent_words(network(), method("no_cot"), short, form, PROBLEMS) == [[]] * 6


def test_what_is_thought_takes_room_in_the_context(form, config):
    """A question that fits by itself, and not with its latents and the answer behind them."""
    net = network()
    problems = PROBLEMS[:3]
    longest = max(len(each.question) for each in form.encode(problems))
    config = config.changed({"evaluation": {"max_new_tokens": 2}, "latent": {"n_latents": 6}})
    # <bot>, the latents, <eot>, the marker, and two tokens of an answer.
    exactly = longest + 1 + 6 + 1 + len(form.marker) + 2
    net.lm.config.max_position_embeddings = exactly
    assert decoding.evaluate(net, method("kava"), config, form, problems).n == 3
    net.lm.config.max_position_embeddings = exactly - 1
    with pytest.raises(UsageError, match="with what is thought of it has"):
        decoding.evaluate(net, method("kava"), config, form, problems)
