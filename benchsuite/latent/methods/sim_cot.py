"""SIM-CoT (arXiv 2509.20317) on CODI: each latent is read by a decoder that must write its step.

The auxiliary decoder, a second copy of the model, reads one latent and writes the step of the same
number; the last latent has all the steps that are left, and a latent without a step is not read.
It is trained with the network and dropped afterwards: decoding is CODI's.
"""

import torch
from torch import Tensor

from benchsuite.latent import losses
from benchsuite.latent.config import Config
from benchsuite.latent.distillation import distil
from benchsuite.latent.examples import Batch
from benchsuite.latent.methods.base import Method, Moment
from benchsuite.latent.methods.codi import begin, think
from benchsuite.latent.network import Reasoner
from benchsuite.latent.transfer import send


def step_loss(auxiliary: Reasoner, batch: Batch, latents: Tensor) -> Tensor:
    """Return the mean -log p per token of the steps, each behind its latent [B, n, hidden].

    Averaged over the latents that have a step; 0 where none has.
    """
    n = latents.shape[1]
    rows = [
        [
            i
            for step in (example.steps[k:] if k == n - 1 else example.steps[k : k + 1])
            for i in step
        ]
        for example in batch.examples
        for k in range(n)
    ]
    longest = batch.widths.thought if batch.widths else max(map(len, rows))
    padded = [row + [0] * (longest - len(row)) for row in rows]
    ids = torch.tensor(padded, dtype=torch.int64)  # no step at all would be float32
    sizes = torch.tensor([len(row) for row in rows])
    mask = (torch.arange(longest) < sizes[:, None]).long()
    read = latents.flatten(0, 1)[:, None]
    embeddings = torch.cat([read, auxiliary.embed(ids).to(read.dtype)], 1)
    whole = torch.cat([torch.ones(len(rows), 1, dtype=torch.int64), mask], 1)
    hidden = auxiliary.extend(None, embeddings, whole).hidden[:, :-1]
    # The loss is a mean over all rows; those without a step have none.
    share = send(torch.tensor([len(rows) / max(1, int((sizes > 0).sum()))]), latents.device)
    return losses.token_loss(auxiliary.logits, hidden, ids, mask) * share[0]


def _loss(net: Reasoner, batch: Batch, config: Config, moment: Moment) -> losses.Parts:
    assert net.auxiliary is not None
    thought = think(net, batch, config)
    parts = distil(net, batch, thought, config, kv=False)
    step = step_loss(net.auxiliary, batch, thought.latents)
    return parts | {"steps": config.loss.step_weight * step}


METHOD = Method(_loss, begin, announces=False, think=think)
