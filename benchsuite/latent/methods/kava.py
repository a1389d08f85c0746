"""KaVa (arXiv 2510.02312): PCCoT's latents, distilled from a compressed key-value cache too."""

from benchsuite.latent.config import Config
from benchsuite.latent.distillation import distil
from benchsuite.latent.examples import Batch
from benchsuite.latent.losses import Parts
from benchsuite.latent.methods.base import Method, Moment
from benchsuite.latent.methods.pccot import begin, think
from benchsuite.latent.network import Reasoner


def _loss(net: Reasoner, batch: Batch, config: Config, moment: Moment) -> Parts:
    return distil(net, batch, think(net, batch, config), config, kv=True)


METHOD = Method(_loss, begin, announces=False, think=think)
