"""Thoughts without words: Jacobi passes over all latents at once, or one latent after another.

The input of latent i is the projected last hidden state of the position before it. Jacobi passes
(PCCoT, arXiv 2506.18582) update all of them together from placeholders; after t passes the first
t latents are those of sequential thinking, so T = M passes equal it exactly. T = 0 leaves the
placeholders: pause tokens.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from benchsuite.latent.examples import Batch
from benchsuite.latent.network import BOT, EOT, PLACEHOLDER, Context, Reasoner


@dataclass(frozen=True)
class Thought:
    """Latents that are ready: what is still to be read goes in front of what is said next.

    The last pass over the latents is the one in which the answer is read too, so ``pending``
    [B, k, hidden] has not been run yet. ``start`` is the cache position of the first latent,
    ``n`` their number, ``question`` the context before the question's last token. ``latents`` are
    all of them [B, n, hidden], as they are read, and ``states`` [B, n, hidden] the last hidden
    states that they were projected from.
    """

    question: Context
    context: Context
    pending: Tensor
    start: int
    n: int
    latents: Tensor
    states: Tensor


def question_parts(net: Reasoner, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
    """Return embeddings [B, n, width] and masks [B, n] of prefix and last token, to be joined."""
    ones = torch.ones_like(batch.last)
    return [net.embed(batch.prefix), net.embed(batch.last)], [batch.prefix_mask, ones]


def jacobi(net: Reasoner, batch: Batch, *, n_latents: int, passes: int) -> Thought:
    """Think ``n_latents`` latents in ``passes`` passes after the first reading.

    One call of the decoder reads the question, ``<bot>`` and the placeholders; with the caller's
    reading of the pending latents there are ``passes`` more.
    """
    parts, masks = question_parts(net, batch)
    b, n_question = len(batch), batch.prefix.shape[1] + 1
    parts += [net.token(BOT, b), net.token(PLACEHOLDER, b, n_latents)]
    masks.append(torch.ones(b, 1 + n_latents, dtype=torch.int64))
    read = net.extend(None, torch.cat(parts, 1), torch.cat(masks, 1))
    question, start = read.context.first(n_question - 1), n_question + 1
    if passes == 0:
        paused = parts[-1]
        return Thought(question, read.context, paused[:, :0], start, n_latents, paused, paused)
    begun = read.context.first(start)
    # The first latent follows <bot>, whose state no pass changes.
    states = read.hidden[:, n_question : n_question + n_latents]
    latents = net.project(states)
    for _ in range(passes - 1):
        hidden = net.extend(begun, latents).hidden[:, :-1]
        states = torch.cat([states[:, :1], hidden], 1)
        latents = torch.cat([latents[:, :1], net.project(hidden)], 1)
    return Thought(question, begun, latents, start, n_latents, latents, states)


def sequential(net: Reasoner, batch: Batch, *, n_latents: int) -> Thought:
    """Think ``n_latents`` latents one after the other, each from the one before it."""
    parts, masks = question_parts(net, batch)
    parts.append(net.token(BOT, len(batch)))
    masks.append(torch.ones_like(batch.last))
    read = net.extend(None, torch.cat(parts, 1), torch.cat(masks, 1))
    start = batch.prefix.shape[1] + 2
    question = read.context.first(start - 2)
    states = [read.hidden[:, -1:]]
    latents = [net.project(states[0])]
    for _ in range(n_latents - 1):
        read = net.extend(read.context, latents[-1])
        states.append(read.hidden)
        latents.append(net.project(read.hidden))
    found = torch.cat(latents, 1), torch.cat(states, 1)
    return Thought(question, read.context, latents[-1], start, n_latents, *found)


def spoken(net: Reasoner, thought: Thought, *parts: Tensor) -> Tensor:
    """Return the pending latents, ``<eot>`` and further embeddings as one input [B, L, hidden]."""
    b = len(thought.context.mask)
    return torch.cat([thought.pending, net.token(EOT, b), *parts], 1)
