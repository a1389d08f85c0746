"""The log-probabilities of a prompt's own tokens, as OpenAI-compatible servers give them.

Either by vLLM's own ``prompt_logprobs``, which names tokens by their ids, or by the old
completions' ``echo`` with ``logprobs``, which names them by their texts.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

WAYS: dict[str, dict[str, Any]] = {
    "prompt_logprobs": {"prompt_logprobs": 1},
    "echo": {"echo": True, "logprobs": 1, "return_tokens_as_token_ids": True},
}
"""Way -> what it adds to a request."""

UNKNOWN = -1


@dataclass(frozen=True)
class Said:
    """What a model says of the tokens of a prompt after its first, [T - 1] each.

    ``log_probs`` float64 in nats, ``top`` int64 the most probable token, ``UNKNOWN`` where only its
    text is known and several tokens have it.
    """

    log_probs: np.ndarray
    top: np.ndarray


class Unreadable(ValueError):
    """An answer that does not hold the log-probabilities of its prompt."""


def read_said(way: str, choice: Mapping[str, Any], ids: Sequence[int], texts: "Texts") -> Said:
    """Return what a choice of an answer says of the prompt ``ids``; raises ``Unreadable``."""
    try:
        pairs = _by_id(choice, ids) if way == "prompt_logprobs" else _by_text(choice, ids, texts)
        log_probs = np.array([pair[0] for pair in pairs], np.float64)
    except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
        raise Unreadable(f"{type(error).__name__}: {error}") from error
    if not np.isfinite(log_probs).all() or (log_probs > 1e-3).any():
        raise Unreadable("a log-probability is not finite, or above 0")
    return Said(log_probs, np.array([pair[1] for pair in pairs], np.int64))


class Texts:
    """Which token a text is, by a tokenizer; made when it is first asked for."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: dict[str, int] | None = None

    def id_of(self, text: str) -> int:
        """Return the only token of this text, ``UNKNOWN`` where there is none or several."""
        named = text.removeprefix("token_id:")
        if named != text and named.isdigit():
            return int(named)
        if self._ids is None:
            self._ids = {}
            for i in self._tokenizer.get_vocab().values():
                shown = self._tokenizer.decode([i])
                self._ids[shown] = UNKNOWN if shown in self._ids else i
        return self._ids.get(text, UNKNOWN)


def _by_id(choice: Mapping[str, Any], ids: Sequence[int]) -> list[tuple[float, int]]:
    rows = choice["prompt_logprobs"]
    if len(rows) != len(ids):
        raise Unreadable(f"{len(rows)} tokens of {len(ids)} that were sent")
    found = []
    for row, token in zip(rows[1:], ids[1:], strict=True):
        values = {int(i): float(told["logprob"]) for i, told in row.items()}
        # Of equal ones the first in order, as an argmax takes it.
        found.append((values[token], min(values, key=lambda i: (-values[i], i))))
    return found


def _by_text(
    choice: Mapping[str, Any], ids: Sequence[int], texts: Texts
) -> list[tuple[float, int]]:
    told = choice["logprobs"]
    values, tops = told["token_logprobs"], told["top_logprobs"]
    if len(values) < len(ids):
        raise Unreadable(f"{len(values)} tokens of {len(ids)} that were sent")
    found = []
    for i, token in enumerate(ids[1:], 1):
        own = float(values[i])
        text, best = max(tops[i].items(), key=lambda item: item[1])
        top = token if math.isclose(own, best, abs_tol=1e-9) else texts.id_of(text)
        found.append((own, top))
    return found
