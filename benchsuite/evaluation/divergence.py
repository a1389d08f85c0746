"""How far a quantized model is from its original: KL of next-token predictions, flipped answers.

Both see what averages hide: a model can keep its accuracy while its answers change in both
directions (Dutta et al. 2024, arXiv 2407.09141).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchsuite.decoding.loop import evaluating
from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.evaluation.generation import Progress
from benchsuite.evaluation.perplexity import BATCH_TOKENS, Reader, Seen, reading_text
from benchsuite.evaluation.side_by_side import shared_out
from benchsuite.models.replicas import working_on

# fp32 log-probabilities held at a time, of both models together.
_SLICE_BYTES = {"cpu": 64 * 2**20, "cuda": 512 * 2**20}


@dataclass(frozen=True)
class Divergence:
    """KL(original || quantized) in nats per token: the mean, and by chunk.

    ``chunk_kl`` float64 [n_chunks]: the mean over the chunk's ``seq_len - 1`` predictions, the same
    ones as perplexity's; ``value`` is its mean. ``n_predictions`` counts them. ``token_kl`` float32
    [n_chunks, seq_len - 1]: of each prediction, the first of which is of the chunk's second token.
    """

    value: float
    chunk_kl: np.ndarray = field(repr=False)
    n_predictions: int
    token_kl: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class Flips:
    """``share`` of changed answers in percent; ``flipped`` bool [n], item by item."""

    share: float
    flipped: np.ndarray = field(repr=False)


def divergence(
    original: nn.Module,
    quantized: nn.Module,
    token_ids: Tensor,
    *,
    seq_len: int,
    progress: Progress | None = None,
) -> Divergence:
    """Return KL(original || quantized) over the whole chunks of ``token_ids`` int64 [N].

    Chunks are ``seq_len`` tokens each and share nothing, as perplexity's, and so many go through
    the models at a time. The models may be on different devices. Log-probabilities are taken in
    fp32 and summed in fp64, some positions at a time. Where both models were given several devices
    (`share_work`), these share the batches, which changes no value. Raises ``UsageError`` for a
    text below one chunk or unlike vocabularies, ``BenchsuiteError`` where a model's predictions are
    not finite.
    """
    n_chunks = len(token_ids) // seq_len
    if seq_len < 2 or n_chunks == 0:
        raise UsageError(
            f"{len(token_ids)} tokens give no chunk of {seq_len}",
            fix="Give a longer text or set a shorter seq_len, of 2 or more",
        )
    chunks = token_ids[: n_chunks * seq_len].view(n_chunks, seq_len)
    kind = next(original.parameters()).device.type
    batch_size = max(1, BATCH_TOKENS.get(kind, 2048) // seq_len)
    values = []
    with (
        evaluating(original),
        evaluating(quantized),
        reading_text(original, chunks, batch_size) as base,
        reading_text(quantized, chunks, batch_size) as other,
    ):
        pairs = list(zip(base, other, strict=False))
        parts = [slice(i, i + batch_size) for i in range(0, n_chunks, batch_size)]

        def batch_kl(place: int, batch: int) -> tuple[Tensor, Tensor]:
            kl = _token_kl(*(_states(reader, parts[batch]) for reader in pairs[place]))
            return kl.mean(1), kl.float()

        devices = [first.chunks.device for first, _ in pairs]
        for value in shared_out(devices, len(parts), batch_kl):
            values.append(value)
            if progress is not None:
                progress("divergence", min(len(values) * batch_size, n_chunks), n_chunks)
    chunk_kl, token_kl = (
        torch.cat([t.cpu() for t in ts]).numpy() for ts in zip(*values, strict=True)
    )
    _check_finite(chunk_kl)
    return Divergence(float(chunk_kl.mean()), chunk_kl, n_chunks * (seq_len - 1), token_kl)


def flips(before: Sequence[Any] | np.ndarray, after: Sequence[Any] | np.ndarray) -> Flips:
    """Return which of the items have another answer in ``after`` [n] than in ``before`` [n].

    Given predictions, any change counts; given per-item correctness, only changes from right to
    wrong and back, as in the paper. Raises ``UsageError`` for lists of different length.
    """
    if len(before) != len(after) or len(before) == 0:
        raise UsageError(
            f"{len(before)} and {len(after)} answers cannot be compared item by item",
            fix="Give both models' answers to the same items, at least one",
        )
    flipped = np.array([a != b for a, b in zip(before, after, strict=True)], dtype=bool)
    return Flips(100 * float(flipped.mean()), flipped)


def _states(reader: Reader, part: slice) -> Seen:
    with working_on(reader.chunks.device):
        return reader.read(part)


def _check_finite(chunk_kl: np.ndarray) -> None:
    if not np.isfinite(chunk_kl).all():
        first = int(np.flatnonzero(~np.isfinite(chunk_kl))[0])
        n_chunks = len(chunk_kl)
        raise BenchsuiteError(
            f"the divergence is not finite: chunk {first} of {n_chunks} gives {chunk_kl[first]}",
            fix="Weights or activations overflow: look at the layer errors, or use another dtype",
        )


def _token_kl(original: Seen, quantized: Seen) -> Tensor:
    """Return the KL at all positions but the last, float64 [B, T - 1]."""
    rows = [hidden[:, :-1] for hidden, _ in (original, quantized)]
    n_chunks, length, _ = rows[0].shape
    first, second = (states.flatten(0, 1) for states in rows)
    device = first.device
    with working_on(device):
        vocabulary = _vocabulary(original[1](first[:1]), quantized[1](second[:1]))
        step = max(1, _SLICE_BYTES.get(device.type, 2**26) // (8 * vocabulary))
        kl = torch.cat(
            [
                _kl(original[1](p), quantized[1](q).to(device))
                for p, q in zip(first.split(step), second.split(step), strict=True)
            ]
        )
        return kl.view(n_chunks, length)


def _vocabulary(original: Tensor, quantized: Tensor) -> int:
    """Return the size of the vocabulary by the logits of one position of each."""
    sizes = [logits.shape[-1] for logits in (original, quantized)]
    if sizes[0] != sizes[1]:
        raise UsageError(
            f"the models' vocabularies differ: {sizes[0]} and {sizes[1]}",
            fix="Compare a model with its own original",
        )
    return sizes[0]


def _kl(original: Tensor, quantized: Tensor) -> Tensor:
    """Return KL(original || quantized) [P] float64 for logits [P, vocabulary]."""
    log_p, log_q = original.float().log_softmax(-1), quantized.float().log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1, dtype=torch.float64)
