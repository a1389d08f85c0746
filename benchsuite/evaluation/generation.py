"""Answers in batches, greedy or sampled, with their log-probabilities, and those of given answers.

Plain decoding: the model's own ``generation_config`` (penalties, sampling) has no say, so that
every model answers under one rule. Prompts of a batch are padded on the left and share one
key-value cache. Batching changes a number in its last bits only: in fp32, log-probabilities agree
with those of batch size one within ``TOLERANCE``.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn

from benchsuite.decoding.loop import (
    Choice,
    batches,
    decode,
    drawing,
    evaluating,
    most_probable,
    padded,
    places,
)
from benchsuite.decoding.ways import (
    at_once,
    batches_of_many_shapes,
    grows_in_slots,
    shared_prefix,
)
from benchsuite.errors import UsageError
from benchsuite.evaluation.askable import refuse_unaskable
from benchsuite.evaluation.chat import encoded, turn_end
from benchsuite.evaluation.elsewhere import Elsewhere
from benchsuite.evaluation.fitting import context_of
from benchsuite.evaluation.growing import (
    LOOK_EVERY,
    Answer,
    SlotGrowth,
    chosen_log_probs,
    grow_together,
)
from benchsuite.models.long_rope import by_side, settled
from benchsuite.models.progress import Progress

TOLERANCE = 1e-4
"""Nats by which a token's fp32 log-probability may differ between batch sizes."""

Prompt = str | Sequence[int]


@dataclass(frozen=True)
class Generation:
    """Answers in the order of their prompts, each cut before its stop string or end token.

    ``texts`` as decoded, blanks included. ``token_ids`` int64 and ``log_probs`` float64 (nats),
    [answer length] each: the tokens that the text needs, so a token that holds both an answer's end
    and the stop is kept whole, and an empty answer has none. ``ended_by`` is ``stop``, ``end`` (an
    end-of-text token) or ``limit``. ``entropies`` float64 (nats), [answer length] each, are of the
    distributions that the tokens were taken from; empty where they were not asked for.
    """

    texts: tuple[str, ...]
    token_ids: tuple[np.ndarray, ...]
    log_probs: tuple[np.ndarray, ...]
    ended_by: tuple[str, ...]
    entropies: tuple[np.ndarray, ...] = ()


def generate(
    model: nn.Module | Elsewhere,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    stop: Sequence[str] = (),
    batch_size: int | None = None,
    entropies: bool = False,
    progress: Progress | None = None,
) -> Generation:
    """Return the greedy continuation of every prompt, cut before the first of ``stop``.

    Prompts are plain texts, or token ids that ``chat.encoded`` made of texts and turns. They are
    batched by length, the longest first, as many at once as ``at_once`` says unless told. Raises
    ``UsageError`` for an empty prompt, or one whose answer would not fit into the model's context.
    A model ``Elsewhere`` gives texts alone, without token ids and log-probabilities. ``entropies``
    keeps those of the tokens' distributions.
    """
    if isinstance(model, Elsewhere):
        return _from_elsewhere(model, tokenizer, prompts, max_new_tokens, stop, progress)
    answers = _answers(
        model, tokenizer, prompts, None, max_new_tokens, stop, batch_size, progress, entropies
    )
    return _gathered([answer for (answer,) in answers])


def sample(
    model: nn.Module,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    *,
    n_samples: int,
    seed: int,
    temperature: float = 1.0,
    max_new_tokens: int,
    stop: Sequence[str] = (),
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> list[Generation]:
    """Return ``n_samples`` drawn continuations of every prompt, one ``Generation`` per prompt.

    Tokens are drawn from the whole distribution at ``temperature``; ``log_probs`` are the model's
    own, at temperature 1. Every answer has its own stream of uniform numbers, made from ``seed``,
    the prompt's place and the sample's, so that neither batch size nor device chooses the answers.
    ``batch_size`` counts answers, ``at_once`` says how many unless told; a prompt is read once for
    all of its own. Raises ``UsageError`` for a temperature of 0 or less.
    """
    if n_samples == 0:
        return [Generation((), (), (), ()) for _ in prompts]
    if temperature <= 0:
        raise UsageError(f"a temperature of {temperature:g} draws nothing", fix="Give one above 0")
    uniform = [np.random.default_rng([seed, i]) for i in range(len(prompts))]
    numbers = np.stack([rng.random((n_samples, max_new_tokens)) for rng in uniform])

    draws = _Draws(numbers, temperature)
    answers = _answers(model, tokenizer, prompts, draws, max_new_tokens, stop, batch_size, progress)
    return [_gathered(own) for own in answers]


@dataclass(frozen=True)
class _Draws:
    """The numbers float64 [prompts, answers, tokens] that tokens are drawn by, at a temperature."""

    uniform: np.ndarray
    temperature: float

    def of(self, prompts: list[int]) -> "_Draws":
        """Return those of some prompts."""
        return _Draws(self.uniform[prompts], self.temperature)

    def choice(self, batch: list[int], device: torch.device) -> Choice:
        rows = self.uniform[batch].reshape(-1, self.uniform.shape[-1])
        return drawing(torch.from_numpy(rows).to(device), self.temperature)


def log_likelihoods(
    model: nn.Module | Elsewhere,
    prefixes: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[int]],
    *,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> list[np.ndarray]:
    """Return the log-probability of every continuation's tokens after its prefix, teacher-forced.

    ``prefixes`` and ``continuations`` are token ids, at least one each; the result is float64
    [continuation length] each, in nats. Raises ``UsageError`` for a sequence beyond the context.
    """
    rows = [[*prefix, *rest] for prefix, rest in zip(prefixes, continuations, strict=True)]
    if not all(map(len, prefixes)) or not all(map(len, continuations)):
        raise ValueError("a prefix or a continuation has no token")
    _check_lengths(model, rows, 0)
    if isinstance(model, Elsewhere):
        return model.log_likelihoods(prefixes, continuations, progress=progress)
    refuse_unaskable(model)
    device = next(model.parameters()).device
    if batch_size is None:
        batch_size = at_once(model, max(map(len, rows), default=1))
    found: dict[int, np.ndarray] = {}
    with evaluating(model), batches_of_many_shapes():
        for batch in _alike(model, [len(row) for row in rows], batch_size):
            ids, mask = padded([rows[i] for i in batch], device)
            longest = max(len(continuations[i]) for i in batch)
            logits = model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=places(mask),
                use_cache=False,
                logits_to_keep=longest + 1,
            ).logits  # [batch, longest + 1, vocabulary], in the model's dtype
            # Few rows at a time in fp32, and one wait for the device.
            pairs = zip(logits[:, :-1].split(8), ids[:, -longest:].split(8), strict=True)
            values = torch.cat(
                [chosen_log_probs(x.flatten(0, 1), y.flatten()).view(y.shape) for x, y in pairs]
            )
            for row, i in zip(values.cpu().numpy(), batch, strict=True):
                found[i] = row[longest - len(continuations[i]) :].copy()
            if progress is not None:
                progress("scoring", len(found), len(rows))
    return [found[i] for i in range(len(rows))]


def _from_elsewhere(
    model: Elsewhere,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    max_new_tokens: int,
    stop: Sequence[str],
    progress: Progress | None,
) -> Generation:
    ids = _ids(tokenizer, prompts)
    _check_lengths(model, ids, max_new_tokens)
    ends = sorted(_end_ids(model, tokenizer))
    found = model.texts(ids, max_new_tokens=max_new_tokens, stop=stop, ends=ends, progress=progress)
    texts, ended_by = zip(*found, strict=True) if found else ((), ())
    none = tuple(np.empty(0) for _ in found)
    return Generation(tuple(texts), tuple(a.astype(np.int64) for a in none), none, tuple(ended_by))


def _answers(
    model: nn.Module,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    draws: _Draws | None,
    max_new_tokens: int,
    stop: Sequence[str],
    batch_size: int | None,
    progress: Progress | None,
    entropies: bool = False,
) -> list[list[Answer]]:
    """Return the answers to every prompt, in the prompts' order: one, or as many as are drawn."""
    if not prompts:
        return []
    ids = _ids(tokenizer, prompts)
    _check_lengths(model, ids, max_new_tokens)
    refuse_unaskable(model)
    ends = _end_ids(model, tokenizer)
    copies = draws.uniform.shape[1] if draws else 1
    new = [[Answer(tokenizer, stop, ends) for _ in range(copies)] for _ in ids]
    before = 0

    def done(n: int) -> None:
        if progress is not None:
            progress("sampling" if draws else "generation", before + n, len(ids))

    with evaluating(model), batches_of_many_shapes():
        for side in by_side(model, [len(row) + max_new_tokens for row in ids]):
            own, growing = [ids[i] for i in side], [new[i] for i in side]
            drawn = draws.of(side) if draws else None
            _grow(model, own, growing, drawn, max_new_tokens, batch_size, done, entropies)
            before += len(side)
    return new


def _grow(
    model: nn.Module,
    ids: list[list[int]],
    answers: list[list[Answer]],
    draws: _Draws | None,
    max_new_tokens: int,
    batch_size: int | None,
    done: Callable[[int], None],
    entropies: bool,
) -> None:
    """Let the answers to some prompts grow; ``done`` is told how many of these have."""
    longest = max(map(len, ids)) + max_new_tokens
    prefix = shared_prefix(model, ids)
    if batch_size is None:
        batch_size = at_once(model, longest - len(prefix))
    copies = len(answers[0])
    n_prompts = min(len(ids), max(1, batch_size // copies))
    common = (model, ids, answers, draws, max_new_tokens)
    with settled(model, longest):
        if grows_in_slots(model):
            size = longest - len(prefix), n_prompts * copies
            _in_slots(*common, *size, done, entropies=entropies, prefix=prefix)
        else:
            _in_batches(*common, n_prompts, done, entropies=entropies)


def _in_slots(
    model: nn.Module,
    ids: list[list[int]],
    answers: list[list[Answer]],
    draws: _Draws | None,
    max_new_tokens: int,
    length: int,
    n_slots: int,
    done: Callable[[int], None],
    *,
    entropies: bool,
    prefix: Sequence[int] = (),
) -> None:
    # Asked for where it can run: it needs Triton, and seconds of transformers.
    from benchsuite.decoding.slots import Slots

    steps = max_new_tokens + 2 * LOOK_EVERY  # It is seen two looks late that an answer has ended.
    temperature = draws.temperature if draws else None
    slots = Slots(
        model,
        n_slots,
        length,
        steps,
        temperature=temperature,
        entropies=entropies,
        prefix=prefix,
    )
    with slots.running():
        numbers = draws.uniform if draws else None
        SlotGrowth(slots, ids, answers, max_new_tokens, numbers).run(done)


def _in_batches(
    model: nn.Module,
    ids: list[list[int]],
    answers: list[list[Answer]],
    draws: _Draws | None,
    max_new_tokens: int,
    n_prompts: int,
    done: Callable[[int], None],
    *,
    entropies: bool,
) -> None:
    device, n_done = next(model.parameters()).device, 0
    for batch in batches([len(row) for row in ids], n_prompts):
        rows, mask = padded([ids[i] for i in batch], device)
        choose = draws.choice(batch, device) if draws else most_probable
        copies = len(answers[batch[0]])
        steps = decode(model, rows, mask, choose, copies=copies)
        growing = [answer for i in batch for answer in answers[i]]
        grow_together(growing, islice(steps, max_new_tokens), entropies=entropies)
        n_done += len(batch)
        done(n_done)


def _alike(model: nn.Module, lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Yield the places of rows that are read together: `batches`, of rows on one side of a turn."""
    for side in by_side(model, lengths):
        for batch in batches([lengths[i] for i in side], batch_size):
            yield [side[i] for i in batch]


def _ids(tokenizer: Any, prompts: Sequence[Prompt]) -> list[list[int]]:
    texts = iter(encoded(tokenizer, [prompt for prompt in prompts if isinstance(prompt, str)]))
    return [next(texts) if isinstance(prompt, str) else list(prompt) for prompt in prompts]


def _gathered(answers: list[Answer]) -> Generation:
    return Generation(
        tuple(answer.text for answer in answers),
        tuple(np.array(answer.ids, np.int64) for answer in answers),
        tuple(answer.log_probs for answer in answers),
        tuple(answer.ended_by for answer in answers),
        tuple(answer.entropies for answer in answers),
    )


def _end_ids(model: nn.Module | Elsewhere, tokenizer: Any) -> frozenset[int]:
    """Return the tokens that end an answer.

    The tokenizer's end of text, those that the model's own files name, and the end of a turn.
    """
    named = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    listed = named if isinstance(named, list | tuple) else [named]
    ends = (*listed, tokenizer.eos_token_id, turn_end(tokenizer))
    return frozenset(i for i in ends if i is not None)


def _check_lengths(
    model: nn.Module | Elsewhere, rows: Sequence[Sequence[int]], new_tokens: int
) -> None:
    lengths = [len(row) for row in rows]
    if min(lengths, default=1) == 0:
        raise UsageError(
            f"prompt {lengths.index(0)} has no token", fix="Give a text before the answer"
        )
    longest = max(lengths, default=0)
    context = context_of(model)
    if context is not None and longest + new_tokens > context:
        raise UsageError(
            f"prompt {lengths.index(longest)} has {longest} tokens: with {new_tokens} new ones it "
            f"exceeds the model's context of {context}",
            fix="Give fewer worked examples, shorter items or a smaller max_new_tokens",
        )
