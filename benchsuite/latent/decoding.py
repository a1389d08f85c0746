"""Greedy answers after a thought, with the forward passes that the decoder really made.

Passes are counted by a hook on the decoder, never by a formula: an item's count is the number of
calls made until its last token was chosen. So a chain of thought costs a pass per token, and a
latent method its readings of question, latents and marker, and a pass per token of the answer. The
call that reads the question (and the placeholders) counts as one.
"""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchsuite.decoding.loop import batches, evaluating
from benchsuite.embedded.schema import Problem
from benchsuite.evaluation import maths, numbers
from benchsuite.evaluation.generation import Progress
from benchsuite.latent.config import Config
from benchsuite.latent.examples import Example, Format
from benchsuite.latent.fitting import refuse_long_questions, refuse_long_thoughts
from benchsuite.latent.memory import in_evaluation
from benchsuite.latent.methods.base import Method
from benchsuite.latent.network import Reasoner


@dataclass
class Calls:
    """How often the decoder has been called since counting began."""

    n: int = 0


@contextmanager
def counting_calls(net: Reasoner) -> Iterator[Calls]:
    """Count the decoder's calls."""
    calls = Calls()

    def count(*_: Any) -> None:
        calls.n += 1

    handle = net.decoder.register_forward_pre_hook(count)
    try:
        yield calls
    finally:
        handle.remove()


@dataclass
class Answer:
    """One answer: its tokens and their log-probabilities (nats), and what it took.

    ``passes`` are all decoder calls up to the last token (the end of text included),
    ``thinking_passes`` those before the first token could be chosen.
    """

    token_ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    passes: int = 0
    thinking_passes: int = 0
    ended: bool = False


@dataclass(frozen=True)
class Scores:
    """What decoding some problems gave.

    ``accuracy`` in percent: the exact number, read after the marker; an answer without one is
    wrong; ``parse_rate`` in percent too. By item: ``correct`` bool [n], ``predictions`` float64 [n]
    (NaN where unreadable), ``passes`` and ``thinking_passes`` int64 [n], ``texts`` as decoded.
    """

    accuracy: float
    parse_rate: float
    n: int
    correct: np.ndarray
    predictions: np.ndarray
    passes: np.ndarray
    thinking_passes: np.ndarray
    texts: tuple[str, ...]

    @property
    def forward_passes(self) -> float:
        """The mean number of decoder calls per problem."""
        return float(self.passes.mean())

    def as_dict(self) -> dict[str, Any]:
        """Return the record's values, the accuracy with its binomial standard error."""
        rate = self.accuracy / 100
        return {
            "accuracy": self.accuracy,
            "accuracy_stderr": 100 * math.sqrt(rate * (1 - rate) / self.n),
            "parse_rate": self.parse_rate,
            "forward_passes": self.forward_passes,
            "thinking_passes": float(self.thinking_passes.mean()),
            "n_items_asked": self.n,
        }

    def rows(self, problems: Sequence[Problem]) -> dict[str, Any]:
        """Return a record's items: of each problem asked what was answered, in how many passes."""
        return {
            "question": [problem.id for problem in problems],
            "correct": self.correct,
            "passes": self.passes,
            "prediction": self.predictions,
            "expected": [problem.answer for problem in problems],
            "n_steps": [len(problem.steps) for problem in problems],
        }

    def above(self, first: "Scores") -> dict[str, float]:
        """Return the untrained accuracy, and by how many standard errors this one is above it.

        The error is that of two independent proportions, the variance never below one item's.
        """
        rates = [scores.accuracy / 100 for scores in (self, first)]
        variance = sum(max(r * (1 - r), 1 / self.n) for r in rates) / self.n
        gain = 100 * (rates[0] - rates[1])
        return {
            "accuracy_untrained": first.accuracy,
            "accuracy_gain": gain,
            "accuracy_gain_in_stderr": gain / (100 * math.sqrt(variance)),
        }


def answers(
    net: Reasoner,
    method: Method,
    config: Config,
    form: Format,
    examples: Sequence[Example],
    *,
    progress: Progress | None = None,
) -> list[Answer]:
    """Return the greedy answer to every example, batched by length."""
    found: dict[int, Answer] = {}
    device = next(net.parameters()).device
    lengths = [len(e.question) for e in examples]
    bf16 = config.training.bf16
    with evaluating(net), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for chosen in batches(lengths, config.evaluation.batch_size):
            group = [Answer() for _ in chosen]
            batch = form.batch([examples[i] for i in chosen])
            with counting_calls(net) as calls:
                read = method.begin(net, batch, config)
                refuse_long_thoughts(net, config, read.context)
                _grow(net, read.hidden[:, -1], read.context, group, calls, config, form)
            found.update(zip(chosen, group, strict=True))
            if progress is not None:
                progress("decoding", len(found), len(examples))
    return [found[i] for i in range(len(examples))]


def _grow(
    net: Reasoner,
    hidden: Tensor,
    context: Any,
    group: list[Answer],
    calls: Calls,
    config: Config,
    form: Format,
) -> None:
    """Let a batch's answers grow token by token from the last hidden states [B, hidden]."""
    end = form.tokenizer.eos_token_id
    for each in group:
        each.thinking_passes = calls.n
    for _ in range(config.evaluation.max_new_tokens):
        log_probs = net.logits(hidden).float().log_softmax(-1)
        best = log_probs.max(-1)
        for each, token, value in zip(
            group, best.indices.tolist(), best.values.tolist(), strict=True
        ):
            if not each.ended:
                each.passes = calls.n
                each.token_ids.append(token)
                each.log_probs.append(value)
                each.ended = token == end
        if all(each.ended for each in group):
            return
        read = net.extend(context, net.embed(best.indices[:, None]))
        hidden, context = read.hidden[:, -1], read.context


def evaluate(
    net: Reasoner,
    method: Method,
    config: Config,
    form: Format,
    problems: Sequence[Problem],
    *,
    worked: Sequence[Problem] = (),
    progress: Progress | None = None,
) -> Scores:
    """Return how many problems are answered with the right number, and at how many passes.

    ``worked`` problems are shown before each question, with steps and answer.

    Raises ``BenchsuiteError`` naming the batch setting when memory runs out, and ``UsageError`` for
    a question that leaves no room for an answer in the model's context.
    """
    refuse_long_questions(net, form, config, problems, worked)
    examples = form.encode(problems, worked)
    with in_evaluation(config):
        found = answers(net, method, config, form, examples, progress=progress)
    texts = tuple(form.tokenizer.decode(each.token_ids, skip_special_tokens=True) for each in found)
    scores = maths.score([read_number(text, method, form) for text in texts], problems)
    return Scores(
        scores.accuracy,
        scores.parse_rate,
        scores.n,
        scores.correct,
        scores.predictions,
        np.array([each.passes for each in found], np.int64),
        np.array([each.thinking_passes for each in found], np.int64),
        texts,
    )


def read_number(text: str, method: Method, form: Format) -> float | None:
    """Return the number behind the marker; where the model announces, a text without it has none.

    Commas, signs, decimals, currency and units are read as ``evaluation.numbers`` reads them.
    """
    if method.announces:
        _, marker, text = text.partition(form.text)
        if not marker:
            return None
    return numbers.final_number(f"{form.text} {text}")


def latent_words(
    net: Reasoner,
    method: Method,
    config: Config,
    form: Format,
    problems: Sequence[Problem],
    *,
    worked: Sequence[Problem] = (),
    n_words: int = 3,
) -> list[list[list[str]]]:
    """Return each problem's latents as words: of each the likeliest tokens, the first one first.

    The model's own head reads the last hidden state that a latent was projected from, as CODI's
    ``probe_latent_token.py`` does. Of a method without latents every list is empty. ``worked`` are
    those of `evaluate`.
    """
    if method.think is None:
        return [[] for _ in problems]
    examples = form.encode(problems, worked)
    found: dict[int, list[list[str]]] = {}
    device, bf16 = net.device, config.training.bf16
    with (
        in_evaluation(config),
        evaluating(net),
        torch.autocast(device.type, torch.bfloat16, enabled=bf16),
    ):
        for chosen in batches([len(e.question) for e in examples], config.evaluation.batch_size):
            thought = method.think(net, form.batch([examples[i] for i in chosen]), config)
            best = net.logits(thought.states).topk(n_words).indices.tolist()
            for i, latents in zip(chosen, best, strict=True):
                found[i] = [[form.tokenizer.decode([token]) for token in each] for each in latents]
    return [found[i] for i in range(len(examples))]


def word_rows(words: Sequence[Sequence[Sequence[str]]]) -> dict[str, list[str]]:
    """Return a record's items of `latent_words`, as JSON: nothing of a method without latents."""
    if not any(words):
        return {}
    return {"latents": [json.dumps(each, ensure_ascii=False) for each in words]}
