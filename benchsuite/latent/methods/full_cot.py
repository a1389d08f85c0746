"""Supervised fine-tuning on the whole chain of thought: the upper reference."""

import torch
from torch import Tensor

from benchsuite.latent import losses
from benchsuite.latent.config import Config
from benchsuite.latent.examples import Batch, Tail
from benchsuite.latent.methods.base import Method, Moment, read_question
from benchsuite.latent.network import Read, Reasoner
from benchsuite.latent.thinking import question_parts


def answer_in_words(net: Reasoner, batch: Batch, tail: Tail, wanted: Tensor) -> Tensor:
    """Return the loss of the ``wanted`` [B, L] tokens of a tail read behind the question."""
    parts, masks = question_parts(net, batch)
    read = net.extend(
        None, torch.cat([*parts, net.embed(tail.ids)], 1), torch.cat([*masks, tail.mask], 1)
    )
    predicting = read.hidden[:, -tail.ids.shape[1] - 1 : -1]
    return losses.token_loss(net.logits, predicting, tail.ids, wanted)


def _loss(net: Reasoner, batch: Batch, config: Config, moment: Moment) -> losses.Parts:
    tail = batch.tail(batch.thoughts())
    return {"answer": answer_in_words(net, batch, tail, tail.mask)}


def _begin(net: Reasoner, batch: Batch, config: Config) -> Read:
    return read_question(net, batch)


METHOD = Method(_loss, _begin, announces=True)
