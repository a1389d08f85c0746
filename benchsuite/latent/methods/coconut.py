"""Coconut (arXiv 2412.06769): replace the first steps, stage by stage, by continuous thoughts.

In stage k the first k steps give way to k * ``c_thought`` latents, each the last hidden state
itself; the rest of the steps and the answer are learnt. Decoding thinks as many latents as the last
stage has, and then writes on by itself.
"""

import torch

from benchsuite.latent import losses
from benchsuite.latent.config import Config
from benchsuite.latent.examples import Batch
from benchsuite.latent.methods.base import Method, Moment
from benchsuite.latent.network import Read, Reasoner
from benchsuite.latent.thinking import sequential, spoken


def stage(config: Config, moment: Moment) -> int:
    """Return the stage, 1 to ``max_latent_stage``, each an equal part of the training."""
    return 1 + int(moment.progress * config.latent.max_latent_stage)


def _loss(net: Reasoner, batch: Batch, config: Config, moment: Moment) -> losses.Parts:
    k = stage(config, moment)
    thought = sequential(net, batch, n_latents=k * config.latent.c_thought)
    rest = [[i for step in example.steps[k:] for i in step] for example in batch.examples]
    tail = batch.tail(rest)
    embeddings = spoken(net, thought, net.embed(tail.ids))
    mask = torch.ones(embeddings.shape[:2], dtype=torch.int64)
    mask[:, -tail.ids.shape[1] :] = tail.mask
    hidden = net.extend(thought.context, embeddings, mask).hidden
    predicting = hidden[:, -tail.ids.shape[1] - 1 : -1]
    return {"answer": losses.token_loss(net.logits, predicting, tail.ids, tail.mask)}


def _begin(net: Reasoner, batch: Batch, config: Config) -> Read:
    n_latents = config.latent.max_latent_stage * config.latent.c_thought
    thought = sequential(net, batch, n_latents=n_latents)
    return net.extend(thought.context, spoken(net, thought))


METHOD = Method(_loss, _begin, announces=True)
