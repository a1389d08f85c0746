"""Packed blocks against transformers' own forward, and our LoRA against peft's."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from benchsuite.errors import UsageError
from benchsuite.latent.attention import Rows
from benchsuite.latent.methods.base import Moment
from benchsuite.latent.methods.kava import METHOD as KAVA
from benchsuite.latent.network import Reasoner
from benchsuite.latent.thinking import question_parts
from tests.latent.conftest import network


def gradients(net, hidden, mask):
    """Return the gradients of a number that depends on every real token's hidden state."""
    net.zero_grad()
    weights = torch.linspace(-1, 1, hidden.shape[-1], dtype=hidden.dtype)
    (hidden.square() @ weights * mask).sum().backward()
    return {n: p.grad.clone() for n, p in net.lm.named_parameters() if p.grad is not None}


def same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        assert torch.allclose(gradient, theirs[name], rtol=1e-9, atol=1e-10), name


def test_packed_rows_give_transformers_hidden_states_and_gradients(net, form, examples):
    batch = form.batch(examples)
    embeddings, masks = question_parts(net, batch)
    embeddings, mask = torch.cat(embeddings, 1), torch.cat(masks, 1)
    assert not mask.all()
    ours = net.extend(None, embeddings, mask).hidden
    our_gradients = gradients(net, ours, mask)
    whole = net.lm.model(
        inputs_embeds=torch.cat([net.embed(batch.prefix), net.embed(batch.last)], 1),
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp(min=0),
        output_hidden_states=True,
    )
    here = mask.bool()
    assert torch.allclose(ours[here], whole.last_hidden_state[here], atol=1e-12)
    same(our_gradients, gradients(net, whole.last_hidden_state, mask))


def test_watched_columns_are_transformers_hidden_states(net, form, examples):
    batch = form.batch(examples[:1])
    ids = torch.cat([batch.prefix, batch.last], 1)
    columns = torch.tensor([[0, 3, ids.shape[1] - 1]])
    with torch.no_grad():
        read = net.extend(None, net.embed(ids), watched=columns)
        theirs = net.lm.model(input_ids=ids, output_hidden_states=True).hidden_states[1:]
    for ours, layer in zip(read.layers, theirs, strict=True):
        assert torch.allclose(ours, layer[:, columns[0]], atol=1e-12)


def test_padding_passes_no_linear_layer(form, examples):
    net, batch, seen = network(), form.batch(examples), []
    parts, masks = question_parts(net, batch)
    net.lm.model.layers[1].mlp.register_forward_pre_hook(lambda _, x: seen.append(x[0].shape))
    net.extend(None, torch.cat(parts, 1), torch.cat(masks, 1))
    assert seen == [(sum(len(e.question) for e in examples), net.lm.config.hidden_size)]


def test_what_is_packed_comes_back_and_so_do_gradients():
    mask = torch.tensor([[0, 1, 1], [1, 1, 1], [0, 0, 1]])
    rows = Rows.of(mask, torch.device("cpu"))
    padded = torch.randn(3, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.equal(rows.pad(rows.pack(padded)), padded * mask[..., None])
    assert torch.autograd.gradcheck(lambda x: rows.pad(rows.pack(x).square()), padded)


def adapt(net):
    """Draw LoRA's second factors, which are zero at first: then the first ones learn nothing."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in net.lm.named_parameters():
        if "lora_B" in name:
            drawn = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.data = 0.1 * drawn


def test_lora_is_pefts_in_values_and_gradients(form, examples):
    peft = pytest.importorskip("peft")
    net, batch = network(lora_r=3, lora_alpha=5), form.batch(examples)
    adapt(net)
    parts, masks = question_parts(net, batch)
    embeddings, mask = torch.cat(parts, 1), torch.cat(masks, 1)
    ours = net.extend(None, embeddings, mask).hidden
    our_gradients = gradients(net, ours, mask)
    for module in net.lm.modules():
        if isinstance(module, peft.tuners.lora.Linear):
            module.__class__ = peft.tuners.lora.Linear
    theirs = net.extend(None, embeddings, mask).hidden
    assert torch.allclose(ours, theirs, atol=1e-12)
    same(our_gradients, gradients(net, theirs, mask))


@pytest.mark.stress  # half a minute of compiling
@pytest.mark.parametrize("kind", ["llama", "qwen2"])  # the second has biases
def test_compiled_training_gives_the_same_losses_and_gradients(kind, form, examples, config):
    pytest.importorskip("peft")
    net, found = network(kind, lora_r=3).train(), []
    adapt(net)
    for compiled in (False, True):
        if compiled:
            net.decoder.compile_training()
        for batch in (form.batch(examples[:3]), form.batch(examples[3:])):
            net.zero_grad()
            parts = KAVA.loss(net, batch, config, Moment(0.5, torch.Generator()))
            sum(parts.values()).backward()
            gradients = {n: p.grad for n, p in net.named_parameters() if p.grad is not None}
            found.append((parts, gradients))
    for (parts, gradients), (again, theirs) in zip(found[:2], found[2:], strict=True):
        assert {n: float(v) for n, v in again.items()} == pytest.approx(
            {n: float(v) for n, v in parts.items()}, rel=1e-5
        )
        for name, gradient in gradients.items():
            assert (theirs[name] - gradient).norm() <= 1e-4 * gradient.norm(), name


def test_a_model_with_other_blocks_is_named():
    lm = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=16))
    with pytest.raises(UsageError, match=r"type 'gpt2'.*llama, mistral, qwen2"):
        Reasoner(lm, projection=True, seed=0)
