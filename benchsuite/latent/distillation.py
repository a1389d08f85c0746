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
from benchsuite.latent.attention import recording_queries
from benchsuite.latent.config import Config
from benchsuite.latent.examples import Batch, Tail
from benchsuite.latent.network import Context, Read, Reasoner
from benchsuite.latent.thinking import Thought, spoken

Parts = dict[str, Tensor]


@dataclass(frozen=True)
class Taught:
    """The teacher's reading of the tail behind the question's last token (column 0)."""

    read: Read
    tail: Tail
    queries: list[Tensor]


def distil(net: Reasoner, batch: Batch, thought: Thought, config: Config, *, kv: bool) -> Parts:
    """Return the losses of student and teacher, CODI's and, with ``kv``, the cache's, weighted."""
    how = config.loss
    student, parts = _student(net, batch, thought)
    taught = teach(net, batch, thought.question)
    logits = net.logits(taught.read.hidden[:, :-1])
    everything = taught.tail.mask
    teacher = losses.token_loss(logits, taught.tail.ids, everything)
    parts["teacher"] = how.teacher_weight * teacher
    if how.codi_weight:
        at = _announced(student, thought, batch), _taught_announced(taught)
        parts["codi"] = how.codi_weight * losses.codi_loss(*at)
    if kv and how.kv_weight:
        parts["kv"] = how.kv_weight * cache_loss(taught, student.context, thought, config)
    return parts


def _student(net: Reasoner, batch: Batch, thought: Thought) -> tuple[Read, Parts]:
    """Let the student announce and answer; only the answer is its loss, the marker is given."""
    tail = batch.tail([[]] * len(batch))
    embeddings = spoken(net, thought, net.embed(tail.ids))
    before = embeddings.new_ones(embeddings.shape[:2], dtype=torch.int64)
    before[:, -tail.ids.shape[1] :] = tail.mask
    read = net.extend(thought.context, embeddings, before, all_layers=True)
    n_answer = tail.ids.shape[1] - batch.marker.shape[1]
    logits = net.logits(read.hidden[:, -n_answer - 1 : -1])
    loss = losses.token_loss(logits, tail.ids[:, -n_answer:], tail.answer[:, -n_answer:])
    return read, {"student": loss}


def teach(net: Reasoner, batch: Batch, question: Context) -> Taught:
    """Read the steps without the last one and the answer as the teacher, behind the question."""
    tail = batch.tail(batch.thoughts(until=-1))
    embeddings = torch.cat([net.embed(batch.last), net.embed(tail.ids)], 1)
    mask = torch.cat([torch.ones_like(batch.last), tail.mask], 1)
    with recording_queries() as queries:
        read = net.extend(question, embeddings, mask, all_layers=True)
    return Taught(read, tail, queries)


def _announced(student: Read, thought: Thought, batch: Batch) -> Tensor:
    """Return the student's hidden states [layers, B, hidden] at the marker's last token."""
    at = thought.pending.shape[1] + batch.marker.shape[1]
    return torch.stack([layer[:, at] for layer in student.layers[1:]])


def _taught_announced(taught: Taught) -> Tensor:
    """Return the teacher's, at the last token of the same marker, wherever its row has it."""
    tail = taught.tail
    n = torch.arange(tail.ids.shape[1], device=tail.ids.device)
    at = (tail.marker * n).amax(1) + 1  # behind the question's last token
    rows = torch.arange(len(at), device=at.device)
    return torch.stack([layer[rows, at] for layer in taught.read.layers[1:]])


def cache_loss(taught: Taught, student: Context, thought: Thought, config: Config) -> Tensor:
    """Return KaVa's loss between what eviction keeps of the steps and the latents' last pass."""
    how, start = config.loss, thought.question.mask.shape[1] + 1
    keys, values = taught.read.context.stacked(start)
    valid = taught.tail.thought
    with torch.no_grad():
        if how.eviction == "crop":
            kept = eviction.first(valid, thought.n, keys.shape[0], keys.shape[2])
        else:
            kept = eviction.r_kv(
                torch.stack(taught.queries)[:, :, :, 1:],
                keys,
                taught.tail.marker | taught.tail.answer,
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
