"""KaVa (arXiv 2510.02312): PCCoT's latents, distilled from a compressed key-value cache too."""

from dataclasses import replace

from benchsuite.latent.config import Config
from benchsuite.latent.distillation import distil
from benchsuite.latent.examples import Batch
from benchsuite.latent.losses import Parts
from benchsuite.latent.methods.base import Method, Moment
from benchsuite.latent.methods.pccot import begin, think
from benchsuite.latent.network import Reasoner


def _loss(net: Reasoner, batch: Batch, config: Config, moment: Moment) -> Parts:
    return distil(net, batch, think(net, batch, config), config, kv=True)


METHOD = Method(_loss, begin, announces=False)

# The paper's ablations: KaVa but for one thing.
ABLATIONS = {
    "kava_no_kv": replace(METHOD, own={"loss": {"kv_weight": 0.0}}),
    "kava_no_codi": replace(METHOD, own={"loss": {"codi_weight": 0.0}}),
    "kava_no_projection": replace(METHOD, own={"latent": {"projection": False}}),
    "kava_lambda0": replace(METHOD, own={"loss": {"importance_mix": 0.0}}),
    "kava_lambda1": replace(METHOD, own={"loss": {"importance_mix": 1.0}}),
    "kava_crop": replace(METHOD, own={"loss": {"eviction": "crop"}}),
}
