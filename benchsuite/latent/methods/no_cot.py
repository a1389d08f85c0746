"""Supervised fine-tuning on the answer alone: the lower reference. The marker is given."""

from benchsuite.latent.config import Config
from benchsuite.latent.examples import Batch
from benchsuite.latent.losses import Parts
from benchsuite.latent.methods.base import Method, Moment, read_question
from benchsuite.latent.methods.full_cot import answer_in_words
from benchsuite.latent.network import Read, Reasoner


def _loss(net: Reasoner, batch: Batch, config: Config, moment: Moment) -> Parts:
    tail = batch.tail([[]] * len(batch))
    return {"answer": answer_in_words(net, batch, tail, tail.answer)}


def _begin(net: Reasoner, batch: Batch, config: Config) -> Read:
    return read_question(net, batch, batch.marker)


METHOD = Method(_loss, _begin, announces=False)
