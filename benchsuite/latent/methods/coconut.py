"""Coconut (arXiv 2412.06769): replace the first steps, stage by stage, by continuous thoughts.

In stage k the first k steps give way to k * ``c_thought`` latents, each the last hidden state
itself; the rest of the steps and the answer are learnt. Past ``max_latent_stage`` no step is
written any more and the latents stay as many, as in the authors' ``dataset.py``: their
``gsm_coconut.yaml`` goes on from a chain of thought's checkpoint for 22 epochs at 3 a stage, so
that stages 4 to 8 train without any step.
Decoding thinks as many latents as the last stage has, and then writes on by itself.
"""

import math

import torch

from benchsuite.latent import losses
from benchsuite.latent.config import Config
from benchsuite.latent.examples import Batch
from benchsuite.latent.methods.base import Method, Moment
from benchsuite.latent.network import Read, Reasoner
from benchsuite.latent.thinking import Thought, sequential, spoken


def stage(config: Config, progress: float) -> int:
    """Return the stage, from 1, at a ``progress`` in [0, 1): each lasts ``epochs_per_stage``."""
    epoch = progress * config.training.num_train_epochs
    return 1 + int(epoch / config.latent.epochs_per_stage)


def n_latents(config: Config, at: int) -> int:
    """Return the number of latents of a stage."""
    return min(at, config.latent.max_latent_stage) * config.latent.c_thought


def n_skipped(config: Config, at: int) -> int | None:
    """Return how many steps a stage leaves out; None for all of them."""
    return at if at <= config.latent.max_latent_stage else None


def _loss(net: Reasoner, batch: Batch, config: Config, moment: Moment) -> losses.Parts:
    at = stage(config, moment.progress)
    thought = sequential(net, batch, n_latents=n_latents(config, at))
    skipped = n_skipped(config, at)
    rest: list[list[int]] = [
        [] if skipped is None else [i for step in example.steps[skipped:] for i in step]
        for example in batch.examples
    ]
    tail = batch.tail(rest)
    embeddings = spoken(net, thought, net.embed(tail.ids))
    mask = torch.ones(embeddings.shape[:2], dtype=torch.int64)
    mask[:, -tail.ids.shape[1] :] = tail.mask
    hidden = net.extend(thought.context, embeddings, mask).hidden
    predicting = hidden[:, -tail.ids.shape[1] - 1 : -1]
    return {"answer": losses.token_loss(net.logits, predicting, tail.ids, tail.mask)}


def _think(net: Reasoner, batch: Batch, config: Config) -> Thought:
    last = stage(config, math.nextafter(1.0, 0.0))
    return sequential(net, batch, n_latents=n_latents(config, last))


def _begin(net: Reasoner, batch: Batch, config: Config) -> Read:
    thought = _think(net, batch, config)
    return net.extend(thought.context, spoken(net, thought))


METHOD = Method(_loss, _begin, announces=True, think=_think)
