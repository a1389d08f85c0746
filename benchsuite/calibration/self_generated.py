"""Self-calibration (Williams et al., NAACL 2025, long.509): text that the model itself writes.

Every sequence starts from BOS alone. The first tokens are sampled hot, so that sequences differ,
and the temperature falls linearly to its final value.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchsuite.calibration.pool import Account, CalibrationPool, Selection
from benchsuite.decoding.loop import decode, drawing, evaluating
from benchsuite.decoding.ways import at_once, grows_in_slots
from benchsuite.errors import UsageError
from benchsuite.models.long_rope import settled
from benchsuite.models.progress import Progress


def select(
    pool: CalibrationPool,
    n_samples: int,
    seq_len: int,
    seed: int,
    *,
    initial_temperature: float = 2.0,
    final_temperature: float = 1.0,
    cooling_tokens: int = 10,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Selection:
    """Return ``n_samples`` sequences of BOS and ``seq_len - 1`` tokens sampled from the model.

    Token i (from 0) has temperature ``initial + (final - initial) * i / cooling_tokens`` for i
    below ``cooling_tokens``, ``final`` afterwards. Special tokens are never sampled, so that a
    sequence does not end early. No document is read.

    Every sequence has its own stream of uniform numbers, made from ``seed`` and its place, so that
    no other sequence has a say in it. ``batch_size`` of them are written at a time, as many as
    ``decoding.ways.at_once`` says unless told; it changes logits in their last bits only. Raises
    ``UsageError`` where ``seq_len`` leaves nothing to write.
    """
    if seq_len < 2:
        raise UsageError(
            f"a sequence of {seq_len} is its first token, and the model writes nothing",
            fix="Set seq_len to 2 or more, or choose another sampler",
        )
    account = Account(pool)
    model = pool.causal_lm
    temperatures = [
        temperature(i, initial_temperature, final_temperature, cooling_tokens)
        for i in range(seq_len - 1)
    ]
    streams = [np.random.default_rng([seed, i]) for i in range(n_samples)]
    numbers = torch.from_numpy(np.stack([stream.random(seq_len - 1) for stream in streams]))
    most = batch_size or at_once(model, seq_len)
    size = -(-n_samples // -(-n_samples // most))  # the same number of batches, alike in size
    start = _first_token(pool)
    write = _in_slots if grows_in_slots(model) else _in_the_loop
    parts: list[Tensor] = []
    with evaluating(model), settled(model, seq_len):
        for part in write(model, start, numbers, temperatures, _banned(pool, model), size):
            parts.append(part.cpu())
            if progress:
                progress("generation", sum(map(len, parts)), n_samples)
    written = torch.cat(parts)
    return account.close(
        torch.cat([written.new_full((n_samples, 1), start), written], dim=1),
        sampler="self_generated",
        initial_temperature=initial_temperature,
        final_temperature=final_temperature,
        cooling_tokens=cooling_tokens,
        batch_size=size,
    )


def temperature(token: int, initial: float, final: float, cooling_tokens: int) -> float:
    """Return the sampling temperature of the ``token``-th generated token, counted from 0."""
    if token >= cooling_tokens:
        return final
    return initial + (final - initial) * token / cooling_tokens


def _in_the_loop(
    model: Any, start: int, numbers: Tensor, heat: list[float], banned: Tensor, size: int
) -> Iterator[Tensor]:
    device = next(model.parameters()).device
    for rows in numbers.split(size):
        ids = torch.full((len(rows), 1), start, device=device)
        steps = decode(model, ids, None, drawing(rows.to(device), heat, banned.to(device)))
        yield torch.stack([tokens for tokens, _ in islice(steps, rows.shape[1])], dim=1)


def _in_slots(
    model: Any, start: int, numbers: Tensor, heat: list[float], banned: Tensor, size: int
) -> Iterator[Tensor]:
    # Asked for where it can run: it needs seconds of transformers.
    from benchsuite.decoding.slots import Slots

    n_tokens = numbers.shape[1]
    slots = Slots(model, size, n_tokens + 1, n_tokens, temperature=heat, banned=banned)
    with slots.running():
        for rows in numbers.split(size):
            slots.take([[start]] * len(rows), range(len(rows)), rows)
            for _ in range(n_tokens):
                slots.step()
            yield slots.tokens[: len(rows)].clone()


def _first_token(pool: CalibrationPool) -> int:
    tokenizer = pool.tokenizer
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return token
    raise UsageError(
        "the tokenizer has neither BOS nor EOS, and self_generated starts from one",
        fix="Choose another sampler for this model",
    )


def _banned(pool: CalibrationPool, model: Any) -> Tensor:
    """Return bool ``[vocab]``: special ids, and padding rows of the head beyond the tokenizer."""
    ids = torch.arange(model.config.get_text_config().vocab_size)
    special = torch.tensor(pool.tokenizer.all_special_ids, dtype=torch.int64)
    return torch.isin(ids, special) | (ids >= pool.vocab_size)
