"""Jacobi passes, caches and the teacher's reading, each against the same thing done another way."""

import pytest
import torch

from benchsuite.latent import distillation, eviction, thinking
from benchsuite.latent.methods.base import Moment
from benchsuite.latent.methods.pccot import METHOD as PCCOT
from benchsuite.latent.network import BOT, PLACEHOLDER
from tests.latent.conftest import network

M = 5


def latents_of(net, batch, thought):
    """Return the keys of the latents after the reading that announces the answer."""
    embeddings = thinking.spoken(net, thought, net.embed(batch.marker))
    context = net.extend(thought.context, embeddings).context
    return context.stacked(thought.start, thought.start + thought.n)


def test_as_many_passes_as_latents_are_sequential_thinking(net, form, examples):
    batch = form.batch(examples)
    with torch.no_grad():
        together = latents_of(net, batch, thinking.jacobi(net, batch, n_latents=M, passes=M))
        one_by_one = latents_of(net, batch, thinking.sequential(net, batch, n_latents=M))
    for a, b in zip(together, one_by_one, strict=True):
        assert torch.allclose(a, b, atol=1e-10)


def test_fewer_passes_fix_the_first_latents_only(net, form, examples):
    batch = form.batch(examples)
    with torch.no_grad():
        few, _ = latents_of(net, batch, thinking.jacobi(net, batch, n_latents=M, passes=2))
        all_, _ = latents_of(net, batch, thinking.sequential(net, batch, n_latents=M))
    assert torch.allclose(few[..., :2, :], all_[..., :2, :], atol=1e-10)
    assert not torch.allclose(few[..., 2:, :], all_[..., 2:, :], atol=1e-4)


def test_no_pass_leaves_the_placeholders(net, form, examples):
    (example,) = examples[:1]
    batch = form.batch([example])
    with torch.no_grad():
        thought = thinking.jacobi(net, batch, n_latents=M, passes=0)
        read = net.extend(thought.context, thinking.spoken(net, thought, net.embed(batch.marker)))
        # The same row written out in one go: question, <bot>, pauses, <eot>, marker.
        ids = torch.tensor([example.question])
        row = [net.embed(ids), net.token(BOT, 1), net.token(PLACEHOLDER, 1, M)]
        whole = torch.cat([*row, thinking.spoken(net, thought, net.embed(batch.marker))], 1)
        plain = net.extend(None, whole)
    assert torch.allclose(read.hidden[:, -1], plain.hidden[:, -1], atol=1e-10)


def slow_jacobi(net, example, n_latents, passes):
    """Do one example's passes over the whole row every time, without any cache."""
    question = net.embed(torch.tensor([example.question]))
    head = torch.cat([question, net.token(BOT, 1)], 1)
    latents = net.token(PLACEHOLDER, 1, n_latents)
    for _ in range(passes):
        hidden = net.extend(None, torch.cat([head, latents], 1)).hidden
        latents = net.project(hidden[:, head.shape[1] - 1 : -1])
    return latents


@pytest.mark.parametrize("passes", [1, 2, 3])
def test_cached_passes_equal_uncached_ones_for_padded_batches(net, form, examples, passes):
    with torch.no_grad():
        batch = form.batch(examples)
        cached = thinking.jacobi(net, batch, n_latents=M, passes=passes).pending
        for row, example in enumerate(examples):
            slow = slow_jacobi(net, example, M, passes)
            assert torch.allclose(cached[row], slow[0], atol=1e-10)


def test_gradients_flow_through_every_pass(net, form, examples):
    batch = form.batch(examples[:2])

    def gradient(detach_after):
        net.zero_grad()
        calls = 0
        project = net.project

        def counted(hidden):
            nonlocal calls
            calls += 1
            return project(hidden.detach() if calls <= detach_after else hidden)

        net.project = counted
        try:
            thought = thinking.jacobi(net, batch, n_latents=M, passes=3)
            keys, _ = latents_of(net, batch, thought)
        finally:
            del net.project
        keys.square().sum().backward()
        return net.special.grad[PLACEHOLDER].clone()

    assert gradient(0).abs().sum() > 0
    # The placeholder is read before the first projection only: cut there, nothing reaches it.
    assert gradient(1).abs().sum() == 0


def test_the_teacher_on_the_shared_context_equals_one_that_reads_it_all(net, form, examples):
    batch = form.batch(examples)
    with torch.no_grad():
        thought = thinking.jacobi(net, batch, n_latents=M, passes=2)
        taught = distillation.teach(net, batch, thought.question)
        for row, example in enumerate(examples):
            steps = [i for step in example.steps[:-1] for i in step]
            ids = [*example.question, *steps, *form.marker, *example.answer]
            alone = net.extend(None, net.embed(torch.tensor([ids])))
            n = len(ids) - len(example.question) + 1
            got = taught.read.hidden[row, :n]
            assert torch.allclose(got, alone.hidden[0, -n:], atol=1e-10)


def test_importance_is_the_eager_attention_renormalised_over_the_thought(form, examples):
    net = network()
    batch = form.batch(examples[:1])
    with torch.no_grad():
        thought = thinking.jacobi(net, batch, n_latents=M, passes=1)
        taught = distillation.teach(net, batch, thought.question)
        start = thought.question.mask.shape[1] + 1
        keys, _ = taught.read.context.stacked(start)
        tail = taught.tail
        rows = tail.marker | tail.answer
        ours = eviction.importance(taught.read.queries, keys, taught.watched, tail.thought)

        net.lm.set_attn_implementation("eager")
        whole = torch.cat([batch.prefix, batch.last, tail.ids], 1)
        attentions = net.lm(input_ids=whole, output_attentions=True).attentions
    for layer, weights in enumerate(attentions):  # [1, heads, L, L]
        block = weights[0, :, start:, start:][:, rows[0]][:, :, tail.thought[0]]
        block = block / block.sum(-1, keepdim=True)
        expected = block.unflatten(0, (2, 2)).mean((1, 2))
        assert torch.allclose(ours[layer, 0][:, tail.thought[0]].double(), expected, atol=1e-6)


def test_the_students_loss_is_of_the_answer_given_the_marker(net, form, examples, config):
    (example,) = examples[:1]
    batch = form.batch([example])
    moment = Moment(0.5, torch.Generator())
    with torch.no_grad():
        parts = PCCOT.loss(net, batch, config, moment)
        read = PCCOT.begin(net, batch, config)
        total, hidden, context = 0.0, read.hidden[:, -1], read.context
        for token in example.answer:  # one token after the other, as decoding does
            total -= float(net.logits(hidden).log_softmax(-1)[0, token])
            after = net.extend(context, net.embed(torch.tensor([[token]])))
            hidden, context = after.hidden[:, -1], after.context
    assert float(parts["student"]) == pytest.approx(total / len(example.answer), rel=1e-5)
