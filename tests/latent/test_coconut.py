"""Coconut's stages: latents, steps left out and passes, as the authors' schedule has them."""

import math
from pathlib import Path

import pytest
import torch

from benchsuite.errors import UsageError
from benchsuite.latent import checkpoint, decoding
from benchsuite.latent.config import load_config
from benchsuite.latent.methods import coconut
from benchsuite.latent.methods.base import Moment
from benchsuite.latent.methods.registry import config_of
from benchsuite.latent.network import BOT, EOT
from tests.latent.conftest import network

# Epochs 3 to 24 of gsm_coconut.yaml (epochs_per_stage 3, max_latent_stage 3, c_thought 2,
# pad_latent_to_max): (first epoch, last epoch, latents, steps left out; None is all of them).
OFFICIAL = (
    (3, 5, 2, 1),
    (6, 8, 4, 2),
    (9, 11, 6, 3),
    (12, 24, 6, None),
)


@pytest.fixture
def hub():
    return config_of("coconut", load_config("llama1b_aug"))


@pytest.mark.parametrize(("first", "last", "n_latents", "skipped"), OFFICIAL)
def test_every_epoch_is_that_of_the_official_schedule(first, last, n_latents, skipped, hub):
    for epoch in range(first, last + 1):
        for within in (1e-9, 0.999):
            at = coconut.stage(hub, (epoch - 3 + within) / 22)
            assert at == epoch // 3
            assert coconut.n_latents(hub, at) == n_latents
            assert coconut.n_skipped(hub, at) == skipped


@pytest.mark.parametrize("name", ["tiny", "tiny_long", "llama1b_aug_nl", "qwen05b_aug"])
def test_every_shipped_training_ends_in_stage_eight(name):
    config = config_of("coconut", load_config(name))
    assert coconut.stage(config, math.nextafter(1.0, 0.0)) == 8


@pytest.mark.parametrize(("progress", "written"), [(0.1, True), (0.3, True), (0.5, False)])
def test_past_the_last_latent_stage_no_step_is_learnt(progress, written, form, examples, config):
    """The loss follows the steps that are still written, and past stage 3 no step at all."""
    net, how = network(projection=False), config_of("coconut", config)
    moment = Moment(progress, torch.Generator())
    at = coconut.stage(how, progress)
    long = [e for e in examples if len(e.steps) > at] if written else examples
    bare = [type(e)(e.question, e.steps[:at] if written else (), e.answer) for e in long]
    with torch.no_grad():
        whole, without = (
            float(coconut.METHOD.loss(net, form.batch(rows), how, moment)["answer"])
            for rows in (long, bare)
        )
    assert (whole != pytest.approx(without, abs=1e-9)) == written


@pytest.mark.parametrize(("progress", "skipped", "n"), [(0.1, 1, 2), (0.2, 2, 4), (0.5, 9, 6)])
def test_a_stages_loss_is_the_rest_behind_its_latents_row_by_row(
    progress, skipped, n, form, examples, config
):
    """One token after another, without padding: question, <bot>, latents, <eot>, what is left."""
    net, how = network(projection=False), config_of("coconut", config)
    rows = [examples[0], max(examples, key=lambda e: len(e.steps)), examples[2]]

    def behind(read, embedding):
        return net.extend(read.context, embedding)

    def nll(row):
        ids = [*(i for step in row.steps[skipped:] for i in step), *form.marker, *row.answer]
        read = net.extend(None, net.embed(torch.tensor([row.question])))
        read = behind(read, net.token(BOT, 1))
        for _ in range(n):
            read = behind(read, read.hidden[:, -1:])
        read, found = behind(read, net.token(EOT, 1)), 0.0
        for token in ids:
            found -= float(net.logits(read.hidden[0, -1]).log_softmax(-1)[token])
            read = behind(read, net.embed(torch.tensor([[token]])))
        return found / len(ids)

    with torch.no_grad():
        parts = coconut.METHOD.loss(net, form.batch(rows), how, Moment(progress, torch.Generator()))
        assert float(parts["answer"]) == pytest.approx(sum(map(nll, rows)) / 3, rel=1e-6)


def test_a_checkpoint_that_ended_in_another_stage_is_refused(config):
    """It would be asked with more latents than it was trained with, and their tensors are equal."""
    mine = config_of("coconut", config)
    short = mine.changed({"training": {"num_train_epochs": 6}})
    folder = Path("given")

    def ask(method, trained):
        card = {"method": method, "seed": 1, "config": trained.as_dict()}
        checkpoint.refuse_another(folder, card, method, 1, mine)

    ask("coconut", mine.changed({"training": {"learning_rate": 1.0}}))
    ask("kava", short)  # whose latents have no stages
    with pytest.raises(UsageError, match=r"training\.num_train_epochs 6\.0, and this cell has 22"):
        ask("coconut", short)


def test_the_answer_is_announced_six_latents_after_the_question(form, examples, config):
    """Seven calls: the question with <bot>, five latents more, the last one with <eot>."""
    net = network(projection=False)
    how = config_of("coconut", config).changed({"evaluation": {"max_new_tokens": 3}})
    (answer,) = decoding.answers(net, coconut.METHOD, how, form, examples[:1])
    assert (answer.thinking_passes, answer.passes) == (7, 7 + len(answer.token_ids) - 1)
    half = how.changed({"training": {"num_train_epochs": 6}})  # ends in stage 2
    (answer,) = decoding.answers(net, coconut.METHOD, half, form, examples[:1])
    assert answer.thinking_passes == 5
