"""Self-calibration (Williams et al., NAACL 2025, long.509): text that the model itself writes.

Every sequence starts from BOS alone. The first tokens are sampled hot, so that sequences differ,
and the temperature falls linearly to its final value.
"""

from typing import Any

import torch

from benchsuite.calibration.pool import Account, CalibrationPool, Progress, Selection
from benchsuite.errors import UsageError


def select(
    pool: CalibrationPool,
    n_samples: int,
    seq_len: int,
    seed: int,
    *,
    initial_temperature: float = 2.0,
    final_temperature: float = 1.0,
    cooling_tokens: int = 10,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Selection:
    """Return ``n_samples`` sequences of BOS and ``seq_len - 1`` tokens sampled from the model.

    Token i (from 0) has temperature ``initial + (final - initial) * i / cooling_tokens`` for i
    below ``cooling_tokens``, ``final`` afterwards. Special tokens are never sampled, so that a
    sequence does not end early. No document is read. Sequences are written ``batch_size`` at a
    time, with a KV cache; the batch size is part of the result, as sums depend on it.
    """
    account = Account(pool)
    model = pool.causal_lm
    generator = torch.Generator().manual_seed(seed)
    start = _first_token(pool)
    temperatures = [
        temperature(i, initial_temperature, final_temperature, cooling_tokens)
        for i in range(seq_len - 1)
    ]
    parts = []
    for at in range(0, n_samples, batch_size):
        ids = torch.full((min(batch_size, n_samples - at), 1), start, dtype=torch.int64)
        parts.append(_written(model, ids, temperatures, _banned(pool, model), generator))
        if progress:
            progress("generation", at + len(ids), n_samples)
    return account.close(
        torch.cat(parts),
        sampler="self_generated",
        initial_temperature=initial_temperature,
        final_temperature=final_temperature,
        cooling_tokens=cooling_tokens,
        batch_size=batch_size,
    )


def temperature(token: int, initial: float, final: float, cooling_tokens: int) -> float:
    """Return the sampling temperature of the ``token``-th generated token, counted from 0."""
    if token >= cooling_tokens:
        return final
    return initial + (final - initial) * token / cooling_tokens


@torch.inference_mode()
def _written(
    model: torch.nn.Module,
    ids: torch.Tensor,
    temperatures: list[float],
    banned: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:
    """Continue ``ids`` int64 ``[B, 1]`` by one token per temperature; return int64 on the CPU."""
    device = next(model.parameters()).device
    cache = None
    written = [ids]
    for value in temperatures:
        output = model(input_ids=written[-1].to(device), past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        # Sampled on the CPU, whose generator is the same on every machine.
        logits = output.logits[:, -1].float().cpu().masked_fill(banned, -torch.inf)  # [B, V]
        chances = torch.softmax(logits / value, dim=-1)
        written.append(torch.multinomial(chances, 1, generator=generator))
    return torch.cat(written, dim=1)


def _first_token(pool: CalibrationPool) -> int:
    tokenizer = pool.tokenizer
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return token
    raise UsageError(
        "the tokenizer has neither BOS nor EOS, and self_generated starts from one",
        fix="Choose another sampler for this model",
    )


def _banned(pool: CalibrationPool, model: Any) -> torch.Tensor:
    """Return bool ``[vocab]``: special ids, and padding rows of the head beyond the tokenizer."""
    ids = torch.arange(model.config.vocab_size)
    special = torch.tensor(pool.tokenizer.all_special_ids, dtype=torch.int64)
    return torch.isin(ids, special) | (ids >= pool.vocab_size)
