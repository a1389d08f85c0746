"""CODI (arXiv 2502.21074): sequential latents, distilled at the token before the answer."""

from benchsuite.latent.config import Config
from benchsuite.latent.distillation import distil
from benchsuite.latent.examples import Batch
from benchsuite.latent.losses import Parts
from benchsuite.latent.methods.base import Method, Moment, announce
from benchsuite.latent.network import Read, Reasoner
from benchsuite.latent.thinking import sequential


def _loss(net: Reasoner, batch: Batch, config: Config, moment: Moment) -> Parts:
    thought = sequential(net, batch, n_latents=config.latent.n_latents)
    return distil(net, batch, thought, config, kv=False)


def _begin(net: Reasoner, batch: Batch, config: Config) -> Read:
    return announce(net, batch, sequential(net, batch, n_latents=config.latent.n_latents))


METHOD = Method(_loss, _begin, announces=False)
