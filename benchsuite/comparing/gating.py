"""A gate: two models measured batch by batch, only until it is known whether one is worse.

Text and questions come in batches drawn at random, both models are open, and after each batch every
metric that is still open is looked at. What is decided is measured no further.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from benchsuite.catalog import Sources
from benchsuite.comparing import measure, questions
from benchsuite.comparing.comparison import Settings
from benchsuite.comparing.early import LOOKS, EarlyEnd
from benchsuite.comparing.kinds import with_margins
from benchsuite.comparing.pairs import PairedItems
from benchsuite.comparing.subject import Subject, open_subject
from benchsuite.comparing.texts import chunk_ids, usual_length
from benchsuite.comparing.verdict import UNDECIDED, Verdict
from benchsuite.embedded.schema import Question
from benchsuite.errors import UsageError
from benchsuite.evaluation.generation import Progress

TEXT = ("nll", "kl")


@dataclass(frozen=True)
class Gated:
    """What a gate found: both models' names, the verdict, and the items planned by metric."""

    base: str
    candidate: str
    verdict: Verdict
    planned: Mapping[str, int]
    notes: tuple[str, ...] = ()


def judged_metrics(settings: Settings) -> tuple[str, ...]:
    """Return the metrics that a gate judges: those with a declared margin, or all without one."""
    found = list(TEXT)
    for asked in settings.sets:
        found.append(f"accuracy:{asked.name}")
        if isinstance(asked.items[0], Question):
            found.append(f"f1:{asked.name}")
    return with_margins(found, settings.margins)


def gate(
    base_word: str,
    candidate_word: str,
    settings: Settings,
    sources: Sources = Sources(),
    *,
    device: str = "cpu",
    tell: Callable[[str], None] = lambda text: None,
    progress: Progress | None = None,
) -> Gated:
    """Measure two models until it is decided, at the latest when all items are in.

    Raises what `open_subject` does, and ``UsageError`` where their perplexities cannot be compared.
    """
    metrics = judged_metrics(settings)
    tell(f"opening {base_word}")
    base = open_subject(base_word, sources, device=device)
    tell(f"opening {candidate_word}")
    candidate = open_subject(candidate_word, sources, device=device)
    parts: list[_Text | _Questions] = []
    if set(metrics) & set(TEXT):
        parts.append(_Text(base, candidate, settings, progress))
    parts += [
        _Questions(base, candidate, asked, progress)
        for asked in settings.sets
        if any(metric.endswith(f":{asked.name}") for metric in metrics)
    ]
    planned = {metric: part.n for part in parts for metric in part.metrics if metric in metrics}
    judge = EarlyEnd(planned, margins=settings.margins, alpha=settings.alpha, power=settings.power)
    for look in range(LOOKS):
        batch: list[PairedItems] = []
        for part in parts:
            if judge.open & set(part.metrics):
                tell(f"look {look + 1} of {LOOKS}: {part.name}")
                batch += [items for items in part.measured(look) if items.metric in planned]
        if judge.feed(batch) != UNDECIDED:
            break
    notes = tuple(note for subject in (base, candidate) for note in subject.notes)
    return Gated(base.name, candidate.name, judge.verdict(), planned, notes)


class _Text:
    """The text's chunks in batches; neighbours that count as one stay together."""

    metrics: tuple[str, ...] = TEXT

    def __init__(
        self, base: Subject, candidate: Subject, settings: Settings, progress: Progress | None
    ) -> None:
        why = measure.same_vocabulary(
            base.tokenizer, candidate.tokenizer, settings.text.joined[:20_000]
        )
        if why:
            raise UsageError(
                f"{base.name} and {candidate.name} cannot be compared over a text: {why}",
                fix="Gate their answers: --questions gsm8k --margin accuracy=1",
            )
        self.name = settings.text.name
        self._models, self._progress = (base.model, candidate.model), progress
        length = settings.seq_len or usual_length(base.model)
        ids = chunk_ids(settings.text, base.tokenizer, base.model, settings.tokens, length)
        self._chunks = ids.view(-1, length)
        self.n = len(self._chunks)
        self._group = settings.group
        groups = np.arange(self.n) // settings.group
        self._looks = _drawn(groups)

    def measured(self, look: int) -> list[PairedItems]:
        """Return the next chunks' NLL and KL."""
        rows = np.flatnonzero(self._looks == look)
        if not len(rows):
            return []
        chunks = self._chunks[rows]
        found = measure.read(
            *self._models,
            chunks.flatten(),
            seq_len=chunks.shape[1],
            floor=False,
            progress=self._progress,
        )
        by_chunk = found.tokens.items()
        ids = tuple(f"chunk {row}" for row in rows)
        groups = tuple(str(row // self._group) for row in rows) if self._group > 1 else None
        return [replace(by_chunk[metric], ids=ids, clusters=groups) for metric in TEXT]


class _Questions:
    """One set's questions in batches."""

    def __init__(
        self,
        base: Subject,
        candidate: Subject,
        asked: questions.QuestionSet,
        progress: Progress | None,
    ) -> None:
        self.name, self.n = asked.name, len(asked.items)
        kinds = ("accuracy", "f1") if isinstance(asked.items[0], Question) else ("accuracy",)
        self.metrics: tuple[str, ...] = tuple(f"{kind}:{asked.name}" for kind in kinds)
        self._models, self._asked, self._progress = (base, candidate), asked, progress
        self._looks = _drawn(np.arange(self.n))

    def measured(self, look: int) -> list[PairedItems]:
        """Ask both models the next questions."""
        items = tuple(self._asked.items[i] for i in np.flatnonzero(self._looks == look))
        if not items:
            return []
        asked = replace(self._asked, items=items)
        first, second = (
            questions.ask(model, asked, progress=self._progress) for model in self._models
        )
        return questions.paired(asked, first, second)


def _drawn(units: np.ndarray) -> np.ndarray:
    """Return for each item the look at which it is measured, drawn at random by its unit."""
    n = int(units.max()) + 1
    place = np.random.default_rng(0).permutation(n)
    return (place[units] * LOOKS) // n
