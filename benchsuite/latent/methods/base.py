"""What a method is: a loss, and the first reading of a decoding."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchsuite.latent.config import Config
from benchsuite.latent.examples import Batch
from benchsuite.latent.losses import Parts
from benchsuite.latent.network import Read, Reasoner
from benchsuite.latent.thinking import Thought, question_parts, spoken


@dataclass(frozen=True)
class Moment:
    """Where training is: ``progress`` in [0, 1), and a generator for what a method draws."""

    progress: float
    generator: torch.Generator


@dataclass(frozen=True)
class Method:
    """A way to train and to begin an answer.

    ``loss(net, batch, config, moment)`` returns named, weighted parts that sum to the loss.
    ``begin(net, batch, config)`` reads all that comes before the first generated token.
    ``announces``: the model writes the marker itself, and an answer without it is none.
    ``think(net, batch, config)`` is the thought that ``begin`` thinks, of methods with latents.
    """

    loss: Callable[[Reasoner, Batch, Config, Moment], Parts]
    begin: Callable[[Reasoner, Batch, Config], Read]
    announces: bool
    think: Callable[[Reasoner, Batch, Config], Thought] | None = None


def read_question(net: Reasoner, batch: Batch, *further: Tensor) -> Read:
    """Read the question and further token ids [B, n]."""
    parts, masks = question_parts(net, batch)
    for ids in further:
        parts.append(net.embed(ids))
        masks.append(torch.ones_like(ids))
    return net.extend(None, torch.cat(parts, 1), torch.cat(masks, 1))


def announce(net: Reasoner, batch: Batch, thought: Thought) -> Read:
    """End a thought and read the marker, so that the answer comes next."""
    return net.extend(thought.context, spoken(net, thought, net.embed(batch.marker)))
