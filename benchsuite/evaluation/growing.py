"""Answers that grow: when one has ended, and how many grow side by side, on a CPU and on a GPU."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from benchsuite.decoding.loop import entropy

if TYPE_CHECKING:
    from benchsuite.decoding.slots import Slots

# Steps between two looks at what was generated: the device goes on meanwhile.
LOOK_EVERY = 8
# A group of slots waits for others to end, so that their prompts are read together.
_WAIT_FOR = 1 / 8


class Answer:
    """One growing answer: it watches for its end, and cuts itself there."""

    def __init__(self, tokenizer: Any, stop: Sequence[str], ends: frozenset[int]) -> None:
        self._tokenizer, self._stop, self._ends = tokenizer, stop, ends
        # Every token has a character at least, but for a few that are special or half of one.
        self._window = max(map(len, stop), default=0) + 8
        self.ids: list[int] = []
        self.text = ""
        self.ended_by = ""
        self.log_probs: np.ndarray = np.empty(0)
        self.entropies: np.ndarray = np.empty(0)

    def add(self, token: int) -> None:
        """Take the next token, unless the answer has ended."""
        if self.ended_by:
            return
        if token in self._ends:
            self.ended_by = "end"
            return
        self.ids.append(token)
        # A stop string that ends in this token began in one of the last few.
        if self._stop and self._cut_at(self._decode(self.ids[-self._window :])) is not None:
            cut = self._cut_at(self._decode(self.ids))
            if cut is not None:
                self.ended_by = "stop"
                self._cut(cut)

    def extend(self, tokens: Sequence[int]) -> None:
        """Take several tokens, as ``add`` takes each: their text is looked at once for all.

        Only where a stop string may be among them are they taken one by one.
        """
        if self.ended_by:
            return
        new = list(takewhile(lambda token: token not in self._ends, tokens))
        text = self._decode(self.ids[-self._window :] + new) if self._stop else ""
        if self._cut_at(text) is not None:
            for token in tokens:
                self.add(token)
            return
        self.ids += new
        if len(new) < len(tokens):
            self.ended_by = "end"

    def close(self, log_probs: np.ndarray, entropies: np.ndarray | None = None) -> None:
        """Keep the log-probabilities, float64 [steps], of the tokens that are left.

        And where they are given the entropies of the distributions that the tokens were taken from.
        """
        if self.ended_by != "stop":
            self.text = self._decode(self.ids)
        self.ended_by = self.ended_by or "limit"
        self.log_probs = log_probs[: len(self.ids)].copy()
        if entropies is not None:
            self.entropies = entropies[: len(self.ids)].copy()

    def _cut_at(self, text: str) -> int | None:
        """Return where the first stop string in a text begins."""
        return min((cut for stop in self._stop if (cut := text.find(stop)) >= 0), default=None)

    def _cut(self, length: int) -> None:
        self.text = self._decode(self.ids)[:length]
        # What is cut off is short: from the end, until a token is needed.
        while self.ids and self._decode(self.ids[:-1])[:length] == self.text:
            self.ids.pop()

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )


def grow_together(
    answers: Sequence[Answer], steps: Iterator[tuple[Tensor, Tensor]], *, entropies: bool = False
) -> None:
    """Let the answers of one batch grow to their ends: (tokens [B], logits) a step.

    ``entropies`` keeps those of each step's distribution, too.
    """
    log_probs, spread = [], []
    for tokens, logits in steps:
        log_probs.append(chosen_log_probs(logits, tokens))
        if entropies:
            spread.append(entropy(logits.float()))
        for answer, token in zip(answers, tokens.tolist(), strict=True):
            answer.add(token)
        if all(answer.ended_by for answer in answers):
            break
    values = torch.stack(log_probs, 1).cpu().numpy()  # [batch, steps]
    spreads = torch.stack(spread, 1).cpu().numpy() if spread else [None] * len(answers)
    for answer, row, own in zip(answers, values, spreads, strict=True):
        answer.close(row, own)


def chosen_log_probs(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return the log-probabilities [N] float64 of tokens [N] under logits [N, vocabulary]."""
    logits = logits.float()
    picked = logits.gather(-1, tokens[:, None])[:, 0]
    return (picked - logits.logsumexp(-1)).double()


@dataclass(eq=False)
class _Held:
    """A prompt's answers in its slots, and how many steps of theirs were looked at."""

    prompt: int
    slots: list[int]
    seen: int = 0


class SlotGrowth:
    """Answers to ``prompts`` (token ids) that grow in slots; when one has ended another begins.

    ``answers`` has the same number of them for every prompt, and ``uniform`` float64 [prompts,
    answers, tokens] the numbers that they are drawn by, or is None. A prompt's answers lie in slots
    that follow each other, and give them free together.
    """

    def __init__(
        self,
        slots: "Slots",
        prompts: Sequence[Sequence[int]],
        answers: Sequence[Sequence[Answer]],
        max_new_tokens: int,
        uniform: np.ndarray | None = None,
    ) -> None:
        self._slots, self._prompts, self._answers = slots, prompts, answers
        self._limit, self._uniform = max_new_tokens, uniform
        self._copies = len(answers[0])
        self._free = [
            list(range(start, start + self._copies))
            for start in range(0, slots.n_slots - self._copies + 1, self._copies)
        ]
        # The longest first: a shortage of memory shows at once.
        self._waiting = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), -i))
        self._held: list[_Held] = []

    def run(self, done: Callable[[int], None]) -> None:
        """Let all answers grow to their ends; ``done`` is told how many prompts are answered."""
        groups, looked = len(self._free), None
        while self._held or self._waiting:
            few = len(self._free) < max(1, groups * _WAIT_FOR)
            if self._waiting and not (few and self._held):
                self._take()
            for _ in range(LOOK_EVERY):
                self._slots.step()
            # The last look is worked on while the device makes these steps.
            look = self._look()
            if looked is not None:
                self._work(*looked)
                done(len(self._prompts) - len(self._waiting) - len(self._held))
            looked = look
            if not self._held:
                looked = None

    def _take(self) -> None:
        n = min(len(self._free), len(self._waiting))
        new = [_Held(self._waiting.pop(), self._free.pop(0)) for _ in range(n)]
        uniform = None
        if self._uniform is not None:
            uniform = torch.from_numpy(np.concatenate([self._uniform[h.prompt] for h in new]))
        self._slots.take(
            [self._prompts[h.prompt] for h in new], [s for h in new for s in h.slots], uniform
        )
        self._held += new

    def _look(self) -> tuple[list[_Held], list[Tensor], Any]:
        """Return who was in the slots, and what they made, on its way to this side."""
        made = self._slots.made
        if not made[0].is_cuda:
            return list(self._held), [x.clone() for x in made], None
        here = [torch.empty_like(x, device="cpu", pin_memory=True) for x in made]
        for copy, x in zip(here, made, strict=True):
            copy.copy_(x, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        return list(self._held), here, event

    def _work(self, held: list[_Held], made: list[Tensor], event: Any) -> None:
        if event is not None:
            event.synchronize()
        tokens, *values = made
        for group in held:
            if group not in self._held:  # ended at the look before
                continue
            until = min(group.seen + LOOK_EVERY, self._limit)
            answers = self._answers[group.prompt]
            for slot, answer in zip(group.slots, answers, strict=True):
                answer.extend(tokens[slot, group.seen : until].tolist())
            group.seen = until
            if until == self._limit or all(answer.ended_by for answer in answers):
                for slot, answer in zip(group.slots, answers, strict=True):
                    answer.close(*(value[slot, :until].numpy() for value in values))
                self._held.remove(group)
                self._free.append(group.slots)
