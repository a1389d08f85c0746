"""SIM-CoT: the auxiliary decoder's loss beside the same by hand, and that it is dropped."""

import pytest
import torch

from benchsuite.latent import checkpoint, decoding, training
from benchsuite.latent.examples import Example
from benchsuite.latent.methods import sim_cot
from benchsuite.latent.methods.base import Moment
from benchsuite.latent.methods.registry import config_of, method
from benchsuite.latent.network import Reasoner
from tests.latent.conftest import network


@pytest.fixture
def how(config):
    changes = {"latent": {"n_latents": 2}, "training": {"max_steps": 2, "save_steps": 1}}
    return config_of("sim_cot", config).changed(changes)


def test_the_loss_is_each_steps_own_behind_its_latent(form, examples):
    """Two latents: the second has the second step and all later ones."""
    net = network(auxiliary=True)
    one, many = examples[0], max(examples, key=lambda e: len(e.steps))
    rows = [Example(one.question, one.steps[:1], one.answer), many]
    assert len(many.steps) > 2
    latents = torch.randn(2, 2, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    aux = net.auxiliary

    def nll(latent, ids):
        row = torch.cat([latent[None, None], aux.embed(torch.tensor([ids]))], 1)
        log_probs = aux.logits(aux.extend(None, row).hidden[0, :-1]).log_softmax(-1)
        return -float(log_probs[range(len(ids)), ids].mean())

    with torch.no_grad():
        found = float(sim_cot.step_loss(aux, form.batch(rows), latents))
        rest = [i for step in many.steps[1:] for i in step]
        pairs = [(latents[0, 0], rows[0].steps[0]), (latents[1, 0], many.steps[0])]
        expected = [nll(*pair) for pair in [*pairs, (latents[1, 1], rest)]]
    assert found == pytest.approx(sum(expected) / 3, rel=1e-5)


def test_a_batch_without_a_step_has_no_loss_of_steps(form, examples, how):
    """A row that answers at once may be alone in a batch: the last one, or batches of one."""
    net = network(auxiliary=True)
    bare = [Example(e.question, (), e.answer) for e in examples[:2]]
    parts = method("sim_cot").loss(net, form.batch(bare), how, Moment(0.5, torch.Generator()))
    assert float(parts["steps"].detach()) == 0
    sum(parts.values()).backward()
    assert net.special.grad.isfinite().all()


def test_latents_learn_from_their_steps(form, examples, how):
    net = network(auxiliary=True)
    batch = form.batch(examples[:3])
    thought = sim_cot.think(net, batch, how)
    sim_cot.step_loss(net.auxiliary, batch, thought.latents).backward()
    assert net.special.grad.abs().sum() > 0
    assert net.projection[0].weight.grad.abs().sum() > 0


def test_the_auxiliary_decoder_is_trained_resumed_and_dropped(form, examples, how, tmp_path):
    whole = network(auxiliary=True).float()
    before = whole.auxiliary.lm.model.norm.weight.clone()

    def train(net, folder):
        return training.train(
            net, method("sim_cot"), how, form, examples, seed=7, checkpoints=folder
        )

    run = train(whole, tmp_path / "states")
    assert set(run.losses[0]) == {"student", "teacher", "codi", "steps"}
    assert not torch.equal(before, whole.auxiliary.lm.model.norm.weight)
    resumed = network(auxiliary=True).float()
    assert train(resumed, tmp_path / "states").resumed_at == 1
    pairs = zip(whole.parameters(), resumed.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)

    checkpoint.save(tmp_path, whole, {})
    plain = network().float()  # without an auxiliary decoder
    checkpoint.restore(tmp_path, plain)
    answers = [
        decoding.answers(net, method("sim_cot"), how, form, examples[:2]) for net in (whole, plain)
    ]
    assert answers[0] == answers[1]


def test_only_a_method_that_reads_latents_has_a_second_model(how):
    from benchsuite.latent.network import build

    lm = network().lm.float()
    assert isinstance(build(lm, how, seed=1).auxiliary, Reasoner)
    assert build(lm, how.changed({"loss": {"step_weight": 0.0}}), seed=1).auxiliary is None
