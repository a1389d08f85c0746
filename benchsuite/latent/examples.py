"""Word problems as token ids: a question, a chain of thought, an announced answer.

A row reads ``question \\n`` then ``step step ...`` then ``\\n marker`` then the number and the end
of text. Each part is tokenized by itself, so that student and teacher share the marker's and the
answer's ids whatever stands before them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchsuite.embedded.schema import Problem
from benchsuite.errors import UsageError
from benchsuite.evaluation.chat import encoded
from benchsuite.latent.config import Config, Data

Ids = list[int]


@dataclass(frozen=True)
class Example:
    """One problem's ids; ``steps`` one list each, ``answer`` with the end of text."""

    question: Ids
    steps: tuple[Ids, ...]
    answer: Ids

    @property
    def n_tokens(self) -> int:
        """The tokens of question, steps and answer, without the end of text."""
        return len(self.question) + sum(map(len, self.steps)) + len(self.answer) - 1


@dataclass(frozen=True)
class Widths:
    """How many tokens the parts of the longest example have: what every batch is padded to."""

    question: int
    thought: int
    answer: int

    @classmethod
    def of(cls, examples: Sequence[Example]) -> "Widths":
        """Return the widths of some examples."""
        return cls(
            max(len(e.question) for e in examples),
            max(sum(map(len, e.steps)) for e in examples),
            max(len(e.answer) for e in examples),
        )


@dataclass(frozen=True)
class Tail:
    """What follows the question, int64 [B, L] padded on the right, on the host.

    ``thought``, ``marker`` and ``answer`` are bool [B, L] and share no token.
    """

    ids: Tensor
    mask: Tensor
    thought: Tensor
    marker: Tensor
    answer: Tensor


@dataclass(frozen=True)
class Batch:
    """Some examples: the questions padded on the left, their last token apart, on the host.

    The last token comes apart because the teacher's and the student's rows part after it: the
    context of ``prefix`` [B, Lq] serves both, and its hidden state predicts what follows.
    """

    prefix: Tensor
    prefix_mask: Tensor
    last: Tensor  # [B, 1]
    marker: Tensor  # [B, n], the same in every row
    examples: tuple[Example, ...]
    widths: Widths | None = None  # None: the batch's own

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def n_announced(self) -> int:
        """The tokens of the marker and the longest answer."""
        widths = self.widths or Widths.of(self.examples)
        return self.marker.shape[1] + widths.answer

    def thoughts(self, until: int | None = None) -> list[Ids]:
        """Return each example's steps up to the given index, joined."""
        return [[i for step in e.steps[:until] for i in step] for e in self.examples]

    def tail(self, thoughts: Sequence[Ids]) -> Tail:
        """Return the rows ``thought, marker, answer``."""
        marker = self.marker[0].tolist()
        rows = [[*t, *marker, *e.answer] for t, e in zip(thoughts, self.examples, strict=True)]
        longest = max(map(len, rows))
        if self.widths:
            longest = self.n_announced + (self.widths.thought if any(thoughts) else 0)
        table = [row + [0] * (longest - len(row)) for row in rows]
        sizes = [(len(t), len(row)) for t, row in zip(thoughts, rows, strict=True)]
        ids, ends = torch.tensor(table), torch.tensor(sizes)
        at = torch.arange(longest)
        begins, length = ends[:, :1], ends[:, 1:]
        thought, announced = at < begins, at < begins + len(marker)
        whole = at < length
        return Tail(ids, whole.long(), thought, announced & ~thought, whole & ~announced)


class Format:
    """Turns problems into examples, and examples into batches, for one tokenizer and marker."""

    def __init__(self, tokenizer: Any, marker: str) -> None:
        self.tokenizer, self.text = tokenizer, marker
        (self.marker,) = self._ids([f"\n{marker}"])

    @classmethod
    def of(cls, tokenizer: Any, config: Config) -> "Format":
        """Return the format that a configuration asks for."""
        return cls(tokenizer, config.data.marker)

    def encode(self, problems: Sequence[Problem], worked: Sequence[Problem] = ()) -> list[Example]:
        """Return the problems' ids, whole rows of ``worked`` problems before each question."""
        shown = [i for each in self.encode(worked) for i in self._row(each)] if worked else []
        questions = self._ids([f"{p.question}\n" for p in problems], special=True)
        steps = self._ids([f" {s}" if n else s for p in problems for n, s in enumerate(p.steps)])
        answers = self._ids([f" {p.answer}" for p in problems])
        each, end = iter(steps), self.tokenizer.eos_token_id
        return [
            Example([*shown, *question], tuple(islice(each, len(p.steps))), [*answer, end])
            for p, question, answer in zip(problems, questions, answers, strict=True)
        ]

    def training_set(self, problems: Sequence[Problem], data: Data) -> list[Example]:
        """Return the ids of the problems that a configuration trains on, as CODI's script filters.

        Raises ``UsageError`` where ``data.max_tokens`` and ``data.digit_answers`` leave none.
        """
        wanted = [p for p in problems if p.answer[:1].isdigit() or not data.digit_answers]
        found = self.encode(wanted)
        if data.max_tokens:
            found = [each for each in found if each.n_tokens <= data.max_tokens]
        if not found:
            raise UsageError(
                f"data.max_tokens = {data.max_tokens} and data.digit_answers = "
                f"{str(data.digit_answers).lower()} leave none of {len(problems)} rows",
                fix="raise data.max_tokens, or set it to 0",
            )
        return found

    def batch(self, examples: Sequence[Example], widths: Widths | None = None) -> Batch:
        """Return examples as one batch, padded to ``widths`` where they are given."""
        from benchsuite.decoding.loop import padded

        prefix, mask = padded([e.question[:-1] for e in examples], torch.device("cpu"))
        if widths:
            left = widths.question - 1 - prefix.shape[1]
            prefix, mask = (F.pad(t, (left, 0)) for t in (prefix, mask))
        last = torch.tensor([e.question[-1:] for e in examples])
        marker = torch.tensor([self.marker] * len(examples))
        return Batch(prefix, mask, last, marker, tuple(examples), widths)

    def _row(self, example: Example) -> Ids:
        """Return a whole row: question, steps, marker, answer, end of text."""
        steps = [i for step in example.steps for i in step]
        return [*example.question, *steps, *self.marker, *example.answer]

    def _ids(self, texts: Sequence[str], special: bool = False) -> list[Ids]:
        """Return the ids of texts, in one call: the tokenizer works on them side by side."""
        if not texts:
            return []
        if special:
            return encoded(self.tokenizer, texts)
        return self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
