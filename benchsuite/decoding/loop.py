"""The plain loop: one forward a token for a whole batch, on any device, for any model.

The model's own ``generation_config`` (penalties, sampling) has no say, so that every model answers
under one rule.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count

import torch
from torch import Tensor, nn

Choice = Callable[[Tensor], Tensor]
"""How the next tokens [B] follow from their logits [B, vocabulary]."""

Heat = float | Sequence[float]
"""A temperature, or one for each token: of those beyond, the last."""


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put the model into evaluation mode without gradients, and back afterwards."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def greedy(
    model: nn.Module, ids: Tensor, mask: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the most probable next tokens [B] and their logits [B, vocabulary] without end."""
    return decode(model, ids, mask, most_probable)


def most_probable(logits: Tensor) -> Tensor:
    """Return the choice without chance: the first of the most probable tokens [B]."""
    return logits.argmax(-1)


def decode(
    model: nn.Module, ids: Tensor, mask: Tensor | None, choose: Choice, *, copies: int = 1
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the next tokens [B * copies] and their logits [B * copies, vocabulary] without end.

    ``ids`` int64 [B, T] with ``mask`` 0 on padding, or None where there is none: then nothing here
    waits for the device. The first step reads the prompts, each later one a single token; every
    prompt goes on in ``copies`` rows that follow each other. To be run inside ``evaluating``.
    """
    positions, cache = places(torch.ones_like(ids) if mask is None else mask), None
    while True:
        out = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        first = cache is None
        logits, cache = out.logits[:, -1], out.past_key_values
        if first and copies > 1:
            cache.batch_repeat_interleave(copies)
            logits = logits.repeat_interleave(copies, 0)
            positions = positions.repeat_interleave(copies, 0)
            mask = None if mask is None else mask.repeat_interleave(copies, 0)
        tokens = choose(logits)
        yield tokens, logits
        ids, positions = tokens[:, None], positions[:, -1:] + 1
        if mask is not None:
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)


def drawing(uniform: Tensor, temperature: Heat, banned: Tensor | None = None) -> Choice:
    """Return the choice that draws by given numbers, float64 [rows, steps] in [0, 1).

    Of ``banned`` tokens, bool [vocabulary], none is drawn.
    """
    step = count()

    def choose(logits: Tensor) -> Tensor:
        at = next(step)
        heat = heat_at(temperature, at)
        return drawn(logits.float(), uniform[:, at : at + 1], heat, banned)[:, 0]

    return choose


def entropy(logits: Tensor) -> Tensor:
    """Return the entropies [N] float64 in nats of the distributions of logits [N, vocabulary]."""
    return torch.special.entr(logits.softmax(-1)).sum(-1).double()  # 0 of a token shut out


def heat_at(temperature: Heat, step: int) -> float:
    """Return the temperature of the ``step``-th token, counted from 0."""
    if isinstance(temperature, float | int):
        return temperature
    return temperature[min(step, len(temperature) - 1)]


def drawn(
    logits: Tensor, numbers: Tensor, heat: float | Tensor, banned: Tensor | None = None
) -> Tensor:
    """Return the tokens [rows, 1] that ``numbers`` float64 [rows, 1] in [0, 1) draw.

    ``logits`` are fp32 [rows, vocabulary], ``heat`` is one temperature or one a row [rows, 1]. A
    row's token depends on its own logits and number alone.
    """
    if banned is not None:
        logits = logits.masked_fill(banned, -torch.inf)
    heaped = (logits / heat).softmax(-1).double().cumsum(-1)
    # Right of equal sums, so that a token of probability 0 is never drawn.
    return torch.searchsorted(heaped, numbers * heaped[:, -1:], right=True)


def padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return ids and mask, int64 [rows, longest], with the padding on the left.

    The padding's id is 0: any would do, since nothing attends to it.
    """
    longest = max(map(len, rows))
    ids = [[0] * (longest - len(row)) + list(row) for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    # Said outright, for rows without a token would be float32.
    found = (torch.tensor(each, dtype=torch.int64, device=device) for each in (ids, mask))
    return next(found), next(found)


def places(mask: Tensor) -> Tensor:
    """Return each token's place [rows, tokens] in its own sequence, whatever padding is before."""
    return (mask.cumsum(1) - 1).clamp(min=0)


def batches(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Yield the indices of ``lengths`` in batches of like length, the longest first.

    So the first batch needs the most memory, and a shortage shows at once.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
