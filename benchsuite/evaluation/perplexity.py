"""Perplexity by the protocol of the GPTQ family, with the per-chunk values kept for paired tests.

The text is cut into ``numel // seq_len`` chunks that share nothing (Gemma's begin with its first
token: see `begun_chunks`). Each chunk's value is the mean cross-entropy over its ``seq_len - 1``
predicted positions. Perplexity is exp of the mean over chunks. Numbers of other protocols (strided,
per word) are other numbers.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import nn

from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.evaluation.by_blocks import seen_by_blocks
from benchsuite.evaluation.side_by_side import shared_out
from benchsuite.models.first_token import required_first_token
from benchsuite.models.fused import fused_forwards
from benchsuite.models.heads import Head, Seen
from benchsuite.models.progress import Progress
from benchsuite.models.replayed_forwards import one_sequence_a_row, replayed
from benchsuite.models.replicas import devices_of, replicas_of
from benchsuite.models.streaming import is_streamed

MIN_TOKENS = 4096
# fp32 logits held at a time. Larger slices are no faster: the head is a small part of the work.
LOGIT_BYTES = {"cpu": 8 * 2**20, "cuda": 512 * 2**20}
# Tokens per forward pass. Fixed, not fitted to free memory: sums in a matrix product may depend on
# the batch's shape in the last bits, and a number must not depend on what else runs.
BATCH_TOKENS = {"cpu": 2048, "cuda": 8192}


@dataclass(frozen=True)
class Perplexity:
    """``value`` = exp(mean of ``chunk_nll``); ``chunk_nll`` float64 [n_chunks], nats per token.

    ``n_tokens`` counts the tokens evaluated (n_chunks * seq_len). ``chunks`` [n_chunks] name the
    chunks by their place and a digest of their tokens: alike only where the text is.
    """

    value: float
    chunk_nll: np.ndarray
    n_tokens: int
    chunks: tuple[str, ...] = ()


def tokenize_protocol(tokenizer: Any, text: str) -> torch.Tensor:
    """Return the ids [N] int64 of a whole corpus, joined with blank lines, default specials."""
    ids = tokenizer(text, return_tensors="pt", verbose=False)["input_ids"]
    return ids[0].long()


def begun_chunks(ids: torch.Tensor, tokenizer: Any, seq_len: int) -> torch.Tensor:
    """Return the ids [N] int64 of a whole text as those of chunks that a model can read.

    As they are, unless the model reads no text without its first token (`required_first_token`).
    Then each chunk of ``seq_len`` is that token and ``seq_len - 1`` tokens of the text.
    """
    first = required_first_token(tokenizer)
    if first is None or not len(ids) or ids[0] != first:
        return ids
    parts = ids[1:].split(max(1, seq_len - 1))
    return torch.cat([piece for part in parts for piece in (ids[:1], part)])


def perplexity(
    model: nn.Module,
    token_ids: torch.Tensor,
    *,
    seq_len: int,
    batch_size: int | None = None,
    max_tokens: int | None = None,
    progress: Progress | None = None,
) -> Perplexity:
    """Return the perplexity of a causal language model on ``token_ids`` [N].

    ``batch_size`` counts chunks per forward pass. ``max_tokens`` (at least 4,096) keeps only the
    first whole chunks. The devices that the model was given (`share_work`) share the batches,
    which changes no value. A chunk whose value is not finite raises ``BenchsuiteError`` naming it.
    """
    chunks = chunked(token_ids, seq_len, max_tokens)
    check_context(model, seq_len)
    device = next(model.parameters()).device
    batch_size = batch_size or max(1, BATCH_TOKENS.get(device.type, 2048) // seq_len)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), reading_text(model, chunks, batch_size) as readers:
            # No synchronisation inside the loop: the devices run ahead, values are read at the end.
            parts = [slice(i, i + batch_size) for i in range(0, len(chunks), batch_size)]

            def batch_nll(place: int, batch: int) -> torch.Tensor:
                reader, part = readers[place], parts[batch]
                return _batch_nll(reader.read(part), reader.chunks[part])

            values = []
            devices = [reader.chunks.device for reader in readers]
            for value in shared_out(devices, len(parts), batch_nll):
                values.append(value)
                if progress is not None:
                    done = min(len(values) * batch_size, len(chunks))
                    progress("perplexity", done, len(chunks))
    finally:
        model.train(was_training)
    nll = torch.cat([value.cpu() for value in values]).numpy()
    _check_finite(nll, seq_len)
    return Perplexity(math.exp(float(nll.mean())), nll, chunks.numel(), chunk_names(chunks))


def chunked(token_ids: torch.Tensor, seq_len: int, max_tokens: int | None) -> torch.Tensor:
    """Return the chunks [n_chunks, seq_len] of ``token_ids`` [N]; what is left over is dropped.

    Raises as ``perplexity`` does for too few tokens.
    """
    if token_ids.dim() != 1:
        raise ValueError(f"token_ids must be one sequence [N], not {list(token_ids.shape)}")
    if seq_len < 2:
        raise UsageError(f"seq_len must be at least 2, not {seq_len}", fix="Set a longer context")
    n_tokens = token_ids.numel()
    if max_tokens is not None:
        if max_tokens < MIN_TOKENS:
            raise UsageError(
                f"max_tokens is {max_tokens}: too few for a perplexity that means something",
                fix=f"Set at least {MIN_TOKENS}",
            )
        n_tokens = min(n_tokens, max_tokens)
    n_chunks = n_tokens // seq_len
    if n_chunks == 0:
        raise BenchsuiteError(
            f"the text has {n_tokens} tokens, less than one chunk of {seq_len}",
            fix="Give a longer text or set a shorter seq_len",
        )
    return token_ids[: n_chunks * seq_len].view(n_chunks, seq_len)


def chunk_names(chunks: torch.Tensor) -> tuple[str, ...]:
    """Return the names of chunks [n, seq_len]: their place and a digest of their tokens."""
    rows = chunks.cpu().numpy()
    digests = [hashlib.sha256(row.tobytes()).hexdigest()[:12] for row in rows]
    return tuple(f"{place:05d}-{digest}" for place, digest in enumerate(digests))


def check_context(model: nn.Module, seq_len: int) -> None:
    """Raise ``UsageError`` where chunks are longer than what the model knows."""
    longest = getattr(getattr(model, "config", None), "max_position_embeddings", seq_len)
    if seq_len > longest:
        raise UsageError(
            f"seq_len is {seq_len}, but the model knows positions up to {longest}",
            fix=f"Set seq_len to {longest} or less",
        )


# ids [B, T] -> (hidden states [B, T, D], head)
LogitsFunction = Callable[[torch.Tensor], Seen]


def logits_function(model: nn.Module, probe: torch.Tensor) -> LogitsFunction:
    """Return how to get logits a few positions at a time.

    The head is applied to slices of the backbone's output where that gives the model's own logits
    exactly, tried on ``probe``. Architectures that do more after the head (soft caps, scales) give
    their whole logits in their own dtype. Of these only the fp32 part is sliced.
    """
    states_of, head = (_split if _splits(model, probe) else _whole)(model)
    return lambda ids: (states_of(ids), head)


@dataclass(frozen=True)
class Reader:
    """How a device reads the text: ``read`` returns what some of ``chunks`` give.

    That is their hidden states [B, T, D], and the head that makes logits of some of them.
    """

    chunks: torch.Tensor
    read: Callable[[slice], Seen]


@contextmanager
def reading_text(model: nn.Module, chunks: torch.Tensor, size: int) -> Iterator[list[Reader]]:
    """Yield a reader of ``chunks`` [n, seq_len] for each device that shares the model's work.

    They are moved to each once: a later copy from another device would wait for what that one still
    has to do. A reader's first batch brings its replica there, one reader after the other. A small
    model's forward becomes a CUDA graph where that is known to work. A streamed model has read all
    of them, ``size`` at a time, when this yields.
    """
    if is_streamed(model):
        own = chunks.to(next(model.parameters()).device)
        yield [Reader(own, seen_by_blocks(model, own, size))]
        return
    replicas = replicas_of(model)  # Of the model's own forwards, which are fused further down.
    models = [model, *(replica.module for replica in replicas)]
    with ExitStack() as stack:
        stack.enter_context(one_sequence_a_row())
        for one in models:
            stack.enter_context(fused_forwards(one))
        everywhere = [chunks.to(device) for device in devices_of(model)]
        make = _split if _splits(model, everywhere[0][:1, :16]) else _whole
        arrivals = [_is_there, *(replica.arrive for replica in replicas)]
        turns = Lock(), Lock()
        parts = zip(models, everywhere, arrivals, strict=True)
        yield [_reader(one, make(one), own, arrive, turns) for one, own, arrive in parts]


StatesAndHead = tuple[Callable[[torch.Tensor], torch.Tensor], Head]


def _is_there() -> None:
    """Bring nothing: the model itself need not arrive."""


def _reader(
    model: nn.Module,
    how: StatesAndHead,
    chunks: torch.Tensor,
    arrive: Callable[[], None],
    turns: tuple[Lock, Lock],
) -> Reader:
    states_of, head = replayed(model, how[0]), how[1]
    begun = False

    def read(part: slice) -> Seen:
        nonlocal begun
        if begun:
            return states_of(chunks[part]), head
        # Threads that launch at the same time hand the interpreter to each other at every launch.
        # In turn the first GPU computes while the next one's launches, and the weights of the one
        # after it, are sent.
        arriving, launching = turns
        with arriving:
            arrive()
        with launching:
            states = states_of(chunks[part])
        begun = True
        return states, head

    return Reader(chunks, read)


def _split(model: nn.Module) -> StatesAndHead:
    backbone: Any = model.base_model
    head: Head = model.get_output_embeddings()  # type: ignore[operator]
    return lambda ids: backbone(input_ids=ids, use_cache=False).last_hidden_state, head


def _whole(model: nn.Module) -> StatesAndHead:
    whole: Any = model
    return lambda ids: whole(input_ids=ids, use_cache=False).logits, lambda logits: logits


def _splits(model: nn.Module, probe: torch.Tensor) -> bool:
    """Say whether the head applied to the backbone's output gives the model's logits exactly."""
    backbone = getattr(model, "base_model", None)
    head = model.get_output_embeddings()  # type: ignore[operator]
    if backbone is None or backbone is model or head is None:
        return False
    hidden, expected = (make(model)[0](probe) for make in (_split, _whole))
    same = hidden.shape[-1] == getattr(head, "in_features", hidden.shape[-1])
    return same and torch.equal(head(hidden), expected)


def _batch_nll(seen: Seen, ids: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy of each chunk, ids [B, T] -> float64 [B]."""
    n_chunks, length = ids.shape
    hidden, head = seen
    rows = hidden[:, :-1].reshape(n_chunks * (length - 1), -1)
    targets = ids[:, 1:].reshape(-1)
    nll = torch.empty(len(targets), dtype=torch.float64, device=ids.device)
    vocabulary = head(rows[:1]).shape[-1]
    step = max(1, LOGIT_BYTES.get(ids.device.type, 2**25) // (4 * vocabulary))
    for start in range(0, len(targets), step):
        part = slice(start, start + step)
        logits = head(rows[part]).float()
        nll[part] = nn.functional.cross_entropy(logits, targets[part], reduction="none").double()
    return nll.view(n_chunks, length - 1).mean(dim=1)


def _check_finite(nll: np.ndarray, seq_len: int) -> None:
    bad = np.flatnonzero(~np.isfinite(nll))
    if len(bad):
        first = int(bad[0])
        raise BenchsuiteError(
            f"the perplexity is not finite: chunk {first} (tokens {first * seq_len} to "
            f"{(first + 1) * seq_len - 1}) gives {nll[first]}, and {len(bad)} of {len(nll)} do",
            fix="The weights or activations overflow: look at the quantizer's layer errors, or "
            "run in another dtype",
        )
