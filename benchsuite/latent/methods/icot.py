"""iCoT (arXiv 2405.14838): take the chain of thought away, token by token from its beginning.

The number of removed tokens grows linearly until, at ``removed_at`` of the training, none of the
batch's is left; a random surplus with probabilities falling as exp(-lambda) smooths the steps.
"""

import math

import torch

from benchsuite.latent.config import Config
from benchsuite.latent.examples import Batch
from benchsuite.latent.losses import Parts
from benchsuite.latent.methods.base import Method, Moment, read_question
from benchsuite.latent.methods.full_cot import answer_in_words
from benchsuite.latent.network import Read, Reasoner


def removed(longest: int, config: Config, moment: Moment) -> int:
    """Return how many of at most ``longest`` tokens of thought are removed now."""
    done = min(1.0, moment.progress / config.latent.removed_at)
    surplus = torch.rand((), generator=moment.generator).clamp(min=1e-12).log().item()
    return math.floor(done * longest) + math.floor(-surplus / config.latent.removal_smoothing)


def _loss(net: Reasoner, batch: Batch, config: Config, moment: Moment) -> Parts:
    thoughts = batch.thoughts()
    n = removed(max(map(len, thoughts)), config, moment)
    tail = batch.tail([thought[n:] for thought in thoughts])
    return {"answer": answer_in_words(net, batch, tail, tail.mask)}


def _begin(net: Reasoner, batch: Batch, config: Config) -> Read:
    return read_question(net, batch)


METHOD = Method(_loss, _begin, announces=True)
