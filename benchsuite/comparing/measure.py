"""Two models over the same text: what each says of every token, and how far apart they are.

Both read a batch of chunks once. Their logits over the whole vocabulary are held for some
positions at a time, compared in float64, and only numbers by token stay. Beside the candidate
stands a noise floor: the base against itself, the chunks in another order and batch and its
activations rounded once more. A difference of that size says nothing of the candidate.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter

import numpy as np
import torch
from torch import Tensor, nn

from benchsuite.comparing.pairs import PairedItems
from benchsuite.comparing.rounded import rounded_activations
from benchsuite.decoding.loop import evaluating
from benchsuite.errors import BenchsuiteError
from benchsuite.evaluation.chat import bare_ids
from benchsuite.evaluation.generation import Progress
from benchsuite.evaluation.perplexity import (
    BATCH_TOKENS,
    LOGIT_BYTES,
    LogitsFunction,
    check_context,
    chunked,
    logits_function,
)
from benchsuite.evaluation.speed import wait
from benchsuite.models.fused import fused_forwards
from benchsuite.models.heads import Head, Seen, scaled_head
from benchsuite.quantizers.kernels import using_kernel

FLOOR_TOKENS = {"cpu": 4096, "cuda": 32_768}
"""Tokens of which the floor is told: an estimate of noise needs no more."""

# fp32 logits compared at a time: on a CPU its caches hold what that takes in float64.
_COMPARED_BYTES = {"cpu": 2**20, "cuda": 128 * 2**20}


@dataclass(frozen=True)
class Tokens:
    """Two models on the same predictions, float64 or bool [chunks, seq_len - 1] each.

    ``base_nll`` and ``nll`` in nats; ``kl`` is KL(base || other) over the vocabulary, ``top`` the
    probability of the base's most probable token; ``same`` says that both predict one token,
    ``base_right`` and ``right`` that a model's prediction is the text's.
    """

    base_nll: np.ndarray = field(repr=False)
    nll: np.ndarray = field(repr=False)
    kl: np.ndarray = field(repr=False)
    top: np.ndarray = field(repr=False)
    same: np.ndarray = field(repr=False)
    base_right: np.ndarray = field(repr=False)
    right: np.ndarray = field(repr=False)

    def items(self, group: int = 1) -> dict[str, PairedItems]:
        """Return ``nll``, ``kl``, ``same_top`` and ``next_token`` by chunk.

        ``next_token`` is the share of the text's tokens predicted. With ``group`` above 1 that many
        neighbouring chunks are one cluster.
        """
        n = len(self.kl)
        ids = tuple(f"chunk {i}" for i in range(n))
        clusters = tuple(f"{i // group}" for i in range(n)) if group > 1 else None
        pairs = {
            "nll": (self.base_nll, self.nll),
            "kl": (np.zeros_like(self.kl), self.kl),
            "same_top": (np.ones_like(self.kl), self.same),
            "next_token": (self.base_right, self.right),
        }
        return {
            name: PairedItems(
                name, ids, first.mean(1, dtype=float), second.mean(1, dtype=float), clusters
            )
            for name, (first, second) in pairs.items()
        }


@dataclass(frozen=True)
class Read:
    """What a comparison over a text gives: the candidate's tokens, and the floor's.

    ``floor`` is of the first chunks alone; ``seconds`` are those that both models took for all
    tokens, the floor's not counted, and ``shared`` the size of the vocabulary compared.
    """

    tokens: Tokens
    floor: Tokens | None
    chunks: Tensor = field(repr=False)
    seconds: float = 0.0
    shared: int = 0


@dataclass
class Held:
    """What is left of a model that has read a text and was let go of: enough for an exact KL.

    ``hidden`` are its last hidden states by batch, [B, T, width] in its dtype, on the host;
    ``head`` makes logits of them, on ``device``. ``floor`` and ``seconds`` are as `Read` has them.
    A model whose logits are no product of hidden states and a head is held by the logits.
    """

    hidden: list[Tensor] = field(repr=False)
    head: Head = field(repr=False)
    device: torch.device
    floor: Tokens | None
    seconds: float

    def batch(self, place: int) -> Seen:
        """Return a batch's hidden states on the device, and the head on them."""
        return self.hidden[place].to(self.device), self.head


@torch.no_grad()
def read(
    base: nn.Module | Held,
    candidate: nn.Module | Held,
    token_ids: Tensor,
    *,
    seq_len: int,
    floor: bool = True,
    progress: Progress | None = None,
) -> Read:
    """Compare two models of one vocabulary over the whole chunks of ``token_ids`` int64 [N].

    Chunks are perplexity's. The models may lie on different devices and compute in different
    dtypes. Either may be `Held`: it has read the same chunks before. Where one embeds more rows
    than the other, which are padding, the KL is over the ids that both have. Raises
    ``BenchsuiteError`` where predictions are not finite.
    """
    chunks = chunked(token_ids, seq_len, None)
    device = device_of(base)
    size = batch_size(device, seq_len)
    n_floor = floor_chunks(device, seq_len) if floor and not isinstance(base, Held) else 0
    parts, floors = [], []
    begun = perf_counter()
    floor_seconds = 0.0
    with ExitStack() as stack:
        first, second = (_reader(stack, model, chunks) for model in (base, candidate))
        for place, start in enumerate(range(0, len(chunks), size)):
            batch = chunks[start : start + size]
            seen, other = first(place, batch), second(place, batch)
            parts.append(compared(seen, other, batch))
            if start < n_floor and not isinstance(base, Held):
                wait(device)
                before = perf_counter()
                floors.append(compared(seen, again(base, partial(first, place), batch), batch))
                wait(device)
                floor_seconds += perf_counter() - before
            if progress is not None:
                progress("reading", min(start + size, len(chunks)), len(chunks))
        shared = min(head(hidden[:1, 0]).shape[-1] for hidden, head in (seen, other))
        tokens = joined(parts)
    seconds = perf_counter() - begun - floor_seconds
    seconds += sum(model.seconds for model in (base, candidate) if isinstance(model, Held))
    _check_finite(tokens, seq_len)
    own = base.floor if isinstance(base, Held) else joined(floors) if floors else None
    return Read(tokens, own, chunks, seconds, shared)


def device_of(model: nn.Module | Held) -> torch.device:
    """Return where a model computes."""
    return model.device if isinstance(model, Held) else next(model.parameters()).device


def batch_size(device: torch.device, seq_len: int) -> int:
    """Return the chunks that are read at a time: fixed, as a perplexity's are."""
    return max(1, BATCH_TOKENS.get(device.type, 2048) // seq_len)


def floor_chunks(device: torch.device, seq_len: int) -> int:
    """Return of how many chunks the floor is told."""
    return max(2, FLOOR_TOKENS.get(device.type, 4096) // seq_len)


def _reader(
    stack: ExitStack, model: nn.Module | Held, chunks: Tensor
) -> Callable[[int, Tensor], Seen]:
    """Return how to get a batch's hidden states, by its place and its ids."""
    if isinstance(model, Held):
        held = model
        return lambda place, batch: held.batch(place)
    check_context(model, chunks.shape[1])
    stack.enter_context(running(model))
    reader = logits_reader(model, chunks)
    return lambda place, batch: reader(batch)


@contextmanager
def running(model: nn.Module) -> Iterator[nn.Module]:
    """Let a model read text: no gradients, fused forwards, packed weights held dequantized."""
    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        stack.enter_context(fused_forwards(model))
        stack.enter_context(using_kernel(model, "held"))
        yield model


def logits_reader(model: nn.Module, chunks: Tensor) -> LogitsFunction:
    """Return how to get hidden states and the head on them of ids, int64 [B, T].

    ``chunks`` int64 [n, T] are such ids, by which it is tried.
    """
    device = next(model.parameters()).device
    probe = chunks[:1, :16].to(device)
    logits_of = _scaled_reader(model, probe) or logits_function(model, probe)
    return lambda ids: logits_of(ids.to(device))


def _scaled_reader(model: nn.Module, probe: Tensor) -> LogitsFunction | None:
    """Return the reader of a model that caps or scales its logits, as its config says; else None.

    Without it those over the whole vocabulary would be held for all positions of a batch.
    """
    head, backbone = scaled_head(model), getattr(model, "base_model", None)
    if head is None or backbone is None or backbone is model:
        return None

    def split(ids: Tensor) -> Seen:
        return backbone(input_ids=ids, use_cache=False).last_hidden_state, head

    expected = model(input_ids=probe, use_cache=False).logits
    hidden, _ = split(probe)
    return split if torch.equal(head(hidden), expected) else None


def again(base: nn.Module, reader: Callable[[Tensor], Seen], batch: Tensor) -> Seen:
    """Return the base's hidden states of a batch [B, T] read otherwise, by which its floor is told.

    The rows go in another order, one more than there are, and activations are rounded.
    """
    rows = torch.cat([batch.flip(0), batch[:1]])
    with rounded_activations(base):
        hidden, head = reader(rows)
    return hidden[:-1].flip(0), head


def compared(base: Seen, other: Seen, batch: Tensor) -> list[Tensor]:
    """Return the fields of ``Tokens`` for a batch [B, T], each [B, T - 1] on the base's device."""
    (a, head_a), (b, head_b) = base, other
    n_chunks, length = batch.shape
    a, b = (hidden[:, :-1].reshape(n_chunks * (length - 1), -1) for hidden in (a, b))
    targets = batch[:, 1:].reshape(-1).to(a.device)
    vocabulary = head_a(a[:1]).shape[-1]
    step = max(1, LOGIT_BYTES.get(a.device.type, 2**25) // (4 * vocabulary))
    small = max(1, _COMPARED_BYTES.get(a.device.type, 2**25) // (4 * vocabulary))
    rows = []
    for start in range(0, len(targets), step):
        part = slice(start, start + step)
        logits = head_a(a[part]), head_b(b[part]).to(a.device), targets[part]
        pieces = zip(*(tensor.split(small) for tensor in logits), strict=True)
        rows += [compare_logits(*piece) for piece in pieces]
    return [torch.cat(column).view(n_chunks, length - 1) for column in zip(*rows, strict=True)]


def compare_logits(base: Tensor, other: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
    """Return the fields of ``Tokens`` for logits [P, vocabulary] of two models and ids [P].

    Logits are taken as the models give them; log-probabilities, products and sums are float64. In
    float32 the KL of close models, a small difference of large numbers, keeps three digits.
    """
    rows = torch.arange(len(targets), device=base.device)
    log_p, log_q = base.double().log_softmax(-1), other.double().log_softmax(-1)
    nll, other_nll = -log_p[rows, targets], -log_q[rows, targets]
    same_ids = min(log_p.shape[-1], log_q.shape[-1])
    top, first = log_p.max(-1)
    second = log_q.argmax(-1)
    if log_p.shape[-1] != log_q.shape[-1]:  # padding on one side: over what both have
        log_p = log_p[:, :same_ids].log_softmax(-1)
        log_q = log_q[:, :same_ids].log_softmax(-1)
    kl = (log_p.exp() * (log_p - log_q)).sum(-1).clamp(min=0)  # below it by rounding alone
    right, other_right = first == targets, second == targets
    return nll, other_nll, kl, top.exp(), first == second, right, other_right


def joined(parts: list[list[Tensor]]) -> Tokens:
    """Return what `compared` gave of each batch, in one."""
    columns = zip(*parts, strict=True)
    return Tokens(*(torch.cat(column).cpu().numpy() for column in columns))


def _check_finite(tokens: Tokens, seq_len: int) -> None:
    for name, values in (("base", tokens.base_nll), ("candidate", tokens.nll), ("KL", tokens.kl)):
        bad = np.flatnonzero(~np.isfinite(values).all(1))
        if len(bad):
            first = int(bad[0])
            who = "the KL between them" if name == "KL" else f"what the {name} predicts"
            raise BenchsuiteError(
                f"{who} is not finite: chunk {first} (tokens {first * seq_len} to "
                f"{(first + 1) * seq_len - 1}), and {len(bad)} of {len(values)} chunks",
                fix="Its weights or activations overflow: look at them, or use another dtype",
            )


def same_vocabulary(base: object, candidate: object, text: str) -> str:
    """Return why two tokenizers are not one, in words; empty where they are.

    They are one where every id that both know stands for one token, and they cut ``text`` alike
    but for what stands before and behind it.
    """
    first, second = (_by_id(tokenizer) for tokenizer in (base, candidate))
    both = first.keys() & second.keys()
    other = [i for i in sorted(both) if first[i] != second[i]]
    if other:
        i = other[0]
        return f"id {i} is {first[i]!r} in one and {second[i]!r} in the other ({len(other)} differ)"
    cut = [bare_ids(tokenizer, text) for tokenizer in (base, candidate)]
    if cut[0] != cut[1]:
        return "they cut the text into other tokens"
    return ""


def same_specials(base: object, candidate: object) -> bool:
    """Say whether two tokenizers put the same tokens before and behind a text."""
    one, two = (tokenizer("a", verbose=False)["input_ids"] for tokenizer in (base, candidate))  # type: ignore[operator]
    return list(one) == list(two)


def _by_id(tokenizer: object) -> dict[int, str]:
    return {i: token for token, i in tokenizer.get_vocab().items()}  # type: ignore[attr-defined]
