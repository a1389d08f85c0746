"""PCCoT (arXiv 2506.18582): latents by Jacobi passes, distilled at the token before the answer."""

from benchsuite.latent.config import Config
from benchsuite.latent.distillation import distil
from benchsuite.latent.examples import Batch
from benchsuite.latent.losses import Parts
from benchsuite.latent.methods.base import Method, Moment, announce
from benchsuite.latent.network import Read, Reasoner
from benchsuite.latent.thinking import Thought, jacobi


def think(net: Reasoner, batch: Batch, config: Config) -> Thought:
    """Think in the configuration's number of latents and passes."""
    how = config.latent
    return jacobi(net, batch, n_latents=how.n_latents, passes=how.passes)


def _loss(net: Reasoner, batch: Batch, config: Config, moment: Moment) -> Parts:
    return distil(net, batch, think(net, batch, config), config, kv=False)


def begin(net: Reasoner, batch: Batch, config: Config) -> Read:
    """Think, end the thought, announce the answer."""
    return announce(net, batch, think(net, batch, config))


METHOD = Method(_loss, begin, announces=False, think=think)
