"""Token-DiFR's score of a served token: how far a trusted reference was from serving it itself.

Karvonen et al., "DiFR: Inference Verification Despite Nondeterminism" (arXiv 2511.20621). The
reference reads prompt and served tokens in one pass. Of each served token it keeps

- the *rank*: how many tokens had a higher score in its place, 0 for the reference's own choice
- the *margin*: the highest score less the token's own, in the units of the logits

where a score is the logit, plus ``temperature`` times the noise that the server had to draw with.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from benchsuite.decoding.loop import evaluating
from benchsuite.engines.noise import gumbel


def divergences(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    served: Sequence[Sequence[int]],
    *,
    temperature: float = 0.0,
    seed: int = 42,
) -> tuple[list[list[int]], list[list[float]]]:
    """Return ranks and margins, a row a prompt, of the tokens ``served`` after ``prompts``.

    One row at a time, so that a row's scores depend on itself alone; in float32, of logits in the
    model's own dtype.
    """
    device = next(model.parameters()).device
    ranks, margins = [], []
    with evaluating(model):
        for prompt, tokens in zip(prompts, served, strict=True):
            ids = torch.tensor([[*prompt, *tokens]], device=device)
            kept = len(tokens) + 1  # the last logits are of what nobody served
            scores = model(input_ids=ids, use_cache=False, logits_to_keep=kept).logits[0, :-1]
            scores = scores.float()
            if temperature > 0:
                noise = [gumbel([prompt], i, scores.shape[1], seed)[0] for i in range(len(tokens))]
                scores = scores + temperature * torch.from_numpy(np.stack(noise)).to(device)
            own = scores.gather(-1, ids[0, -len(tokens) :, None])
            ranks.append((scores > own).sum(-1).tolist())
            margins.append((scores.amax(-1) - own[:, 0]).double().tolist())
    return ranks, margins
