"""Self-distillation of a chain of thought into latents: what CODI, PCCoT and KaVa share.

One network reads the question once. As the teacher it goes on with the steps, all but the last,
which would give the answer away; as the student with latents. Both announce the answer with the
same tokens: there CODI's loss compares their hidden states, and KaVa's compares the latents' cache
with what R-KV keeps of the steps'.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from benchsuite.latent import eviction, losses
from benchsuite.latent.config import Config
from benchsuite.latent.examples import Batch, Tail
from benchsuite.latent.network import Context, Read, Reasoner
from benchsuite.latent.thinking import Thought, spoken
from benchsuite.latent.transfer import send


@dataclass(frozen=True)
class Taught:
    """The teacher's reading of the tail behind the question's last token (column 0).

    The reading watches marker and answer; ``watched`` bool [B, W] is False where a row has less.
    """

    read: Read
    tail: Tail
    watched: Tensor


def distil(
    net: Reasoner, batch: Batch, thought: Thought, config: Config, *, kv: bool
) -> losses.Parts:
    """Return the losses of student and teacher, CODI's and, with ``kv``, the cache's, weighted."""
    how = config.loss
    student, parts = _student(net, batch, thought)
    taught = teach(net, batch, thought.question)
    predicting, tail = taught.read.hidden[:, :-1], taught.tail
    teacher = losses.token_loss(net.logits, predicting, tail.ids, tail.mask)
    parts["teacher"] = how.teacher_weight * teacher
    if how.codi_weight:
        at = batch.marker.shape[1] - 1
        codi = losses.codi_loss(student.layers[:, :, 0], taught.read.layers[:, :, at])
        parts["codi"] = how.codi_weight * codi
    if kv and how.kv_weight:
        parts["kv"] = how.kv_weight * cache_loss(taught, student.context, thought, config)
    return parts


def _student(net: Reasoner, batch: Batch, thought: Thought) -> tuple[Read, losses.Parts]:
    """Let the student announce and answer; only the answer is its loss, the marker is given.

    The marker's last token is watched.
    """
    tail = batch.tail([[]] * len(batch))
    embeddings = spoken(net, thought, net.embed(tail.ids))
    mask = torch.ones(embeddings.shape[:2], dtype=torch.int64)
    mask[:, -tail.ids.shape[1] :] = tail.mask
    announced = torch.full((len(batch), 1), thought.pending.shape[1] + batch.marker.shape[1])
    read = net.extend(thought.context, embeddings, mask, watched=announced)
    predicting = read.hidden[:, -tail.ids.shape[1] - 1 : -1]
    loss = losses.token_loss(net.logits, predicting, tail.ids, tail.answer)
    return read, {"student": loss}


def teach(net: Reasoner, batch: Batch, question: Context) -> Taught:
    """Read the steps without the last one and the answer as the teacher, behind the question."""
    tail = batch.tail(batch.thoughts(until=-1))
    embeddings = torch.cat([net.embed(batch.last), net.embed(tail.ids)], 1)
    mask = torch.cat([torch.ones_like(batch.last), tail.mask], 1)
    announcing = tail.marker | tail.answer
    sizes = announcing.sum(1, keepdim=True)
    ordinal = torch.arange(batch.n_announced)
    columns = tail.thought.sum(1, keepdim=True) + ordinal.minimum(sizes - 1)
    # The tail stands behind the question's last token.
    read = net.extend(question, embeddings, mask, watched=columns + 1)
    return Taught(read, tail, ordinal < sizes)


def cache_loss(taught: Taught, student: Context, thought: Thought, config: Config) -> Tensor:
    """Return KaVa's loss, a scalar: what eviction keeps of the steps, the latents' last pass."""
    how, start = config.loss, thought.question.mask.shape[1] + 1
    keys, values = taught.read.context.stacked(start)
    valid, rows = (send(t, keys.device) for t in (taught.tail.thought, taught.watched))
    with torch.no_grad():
        if how.eviction == "crop":
            kept = eviction.first(valid, thought.n, keys.shape[0], keys.shape[2])
        else:
            kept = eviction.r_kv(
                taught.read.queries,
                keys,
                rows,
                valid,
                n_kept=thought.n,
                mix=how.importance_mix,
            )
    latents = student.stacked(thought.start, thought.start + thought.n)
    return losses.kv_loss(
        *latents,
        kept.take(keys),
        kept.take(values),
        kept.mask,
        kind=how.kv_distance,
        layer_std=how.layer_std,
    )
