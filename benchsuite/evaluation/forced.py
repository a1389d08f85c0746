"""What a model expects of given tokens, and how sure it is of its choice: to compare two engines.

Two engines that hold the same weights differ by rounding alone. Their log-probabilities of the same
tokens then differ by little, and so do their choices, except where the two most probable tokens are
closer to each other than that: the *margin*.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

from benchsuite.decoding.loop import evaluating, greedy, padded


@dataclass(frozen=True)
class Expectation:
    """A row of tokens as the model sees it, position by position, [n] each.

    ``log_probs`` float64 of the tokens in nats, ``best`` int64 the most probable token there (of
    equal ones the first), ``margins`` float64 its log-probability less that of the next in order.
    """

    log_probs: np.ndarray
    best: np.ndarray
    margins: np.ndarray


def teacher_forced(model: nn.Module, prompts: Sequence[Sequence[int]]) -> list[Expectation]:
    """Return what ``model`` expected of every prompt's tokens after its first, one row at a time.

    Log-probabilities are taken in float32 from logits of the model's own dtype.
    """
    device, found = next(model.parameters()).device, []
    with evaluating(model):
        for prompt in prompts:
            ids = torch.tensor([list(prompt)], device=device)
            logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
            found.append(_expectation(logits, ids[0, 1:]))
    return found


def greedy_choices(
    model: nn.Module, prompts: Sequence[Sequence[int]], steps: int
) -> list[Expectation]:
    """Return what ``model`` expected of its own ``steps`` greedy tokens after each prompt.

    The prompts are one batch of equal length, so that each step is one forward of a token a row.
    """
    ids, _ = padded(prompts, next(model.parameters()).device)
    with evaluating(model):
        made = [logits for _, logits in islice(greedy(model, ids), steps)]
    return [_expectation(row, row.argmax(-1)) for row in torch.stack(made, 1)]


def _expectation(logits: Tensor, tokens: Tensor) -> Expectation:
    """Return the expectation of ``tokens`` [n] under ``logits`` [n, vocabulary]."""
    log_probs = logits.float().log_softmax(-1)
    chosen = log_probs.gather(-1, tokens[:, None])[:, 0].double()
    first, second = log_probs.topk(2).values.double().unbind(-1)
    best, margins = logits.argmax(-1), first - second
    return Expectation(chosen.cpu().numpy(), best.cpu().numpy(), margins.cpu().numpy())
