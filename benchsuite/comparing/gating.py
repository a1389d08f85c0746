"""A gate: two models measured batch by batch, only until it is known whether one is worse.

Text and questions come in batches drawn at random, and after each batch every metric that is still
open is looked at. What is decided is measured no further. Where two models do not fit in memory,
the base reads and answers everything first and is let go of, and the candidate alone goes batch by
batch: no model is asked twice.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

from benchsuite.catalog import Sources
from benchsuite.comparing import apart, measure, questions
from benchsuite.comparing.early import LOOKS, EarlyEnd
from benchsuite.comparing.holding import held
from benchsuite.comparing.keeping import Keep, unkept
from benchsuite.comparing.kinds import with_margins
from benchsuite.comparing.measured import Settings
from benchsuite.comparing.pairs import PairedItems
from benchsuite.comparing.questions import Answers
from benchsuite.comparing.room import Fit
from benchsuite.comparing.served import USUAL, Serving
from benchsuite.comparing.server import Server, Side, Sides
from benchsuite.comparing.texts import chunk_ids, usual_length
from benchsuite.comparing.verdict import UNDECIDED, Verdict
from benchsuite.embedded.schema import Question
from benchsuite.errors import UsageError
from benchsuite.evaluation.generation import Progress

TEXT = ("nll", "kl")


@dataclass(frozen=True)
class Gated:
    """What a gate found: both models' names, the verdict, and the items planned by metric.

    ``items`` are those that the verdict is made of, by metric in the order of the looks.
    """

    base: str
    candidate: str
    verdict: Verdict
    planned: Mapping[str, int]
    items: tuple[PairedItems, ...] = field(repr=False)
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
    serving: Serving = USUAL,
    keep: Keep = unkept,
    tell: Callable[[str], None] = lambda text: None,
    progress: Progress | None = None,
) -> Gated:
    """Measure two models until it is decided, at the latest when all items are in.

    ``serving`` says how servers are asked, ``keep`` keeps each batch for a run that breaks off.
    Raises what `Sides.open` does, and ``UsageError`` where their perplexities cannot be compared,
    or a margin is of what a server does not give.
    """
    metrics = judged_metrics(settings)
    sides = Sides((base_word, candidate_word), sources, serving, device)
    served = sides.servers(tell)
    left_out: tuple[str, ...] = ()
    if served:
        metrics, left_out = _without(settings, metrics, tuple(served.values()))
    fit = Fit.of((base_word, candidate_word), (1,), sources, device)
    tell(f"opening {base_word}")
    base = served.get(0) or sides.open(0, fit.device_of(0))
    parts = _parts(base, settings, metrics, fit, keep, progress)
    if fit.in_turn:
        for part in parts:
            tell(f"{base_word}: {part.name}")
            part.hold()
        base.close()
    tell(f"opening {candidate_word}")
    candidate = served.get(1) or sides.open(1, fit.device_of(1))
    for part in parts:
        part.beside(candidate)
    planned = {metric: part.n for part in parts for metric in part.metrics if metric in metrics}
    judge = EarlyEnd(planned, margins=settings.margins, alpha=settings.alpha, power=settings.power)
    _look(parts, planned, judge, tell)
    notes = [note for subject in (base, candidate) for note in subject.notes]
    notes += [why for part in parts if (why := part.unlike(candidate))]
    return Gated(
        base.name, candidate.name, judge.verdict(), planned, judge.items, (*left_out, *notes)
    )


def _parts(
    base: Side,
    settings: Settings,
    metrics: Collection[str],
    fit: Fit,
    keep: Keep,
    progress: Progress | None,
) -> "list[_Text | _Questions]":
    """Return what is measured in batches: the text and the sets that the metrics are of."""
    parts: list[_Text | _Questions] = []
    if set(metrics) & set(TEXT):
        parts.append(_Text(base, settings, fit, keep, progress))
    parts += [
        _Questions(base, asked, keep, progress)
        for asked in settings.sets
        if any(metric.endswith(f":{asked.name}") for metric in metrics)
    ]
    return parts


def _look(
    parts: "Iterable[_Text | _Questions]",
    planned: Collection[str],
    judge: EarlyEnd,
    tell: Callable[[str], None],
) -> None:
    """Measure the open metrics batch by batch, until all are decided or all items are in."""
    for look in range(LOOKS):
        batch: list[PairedItems] = []
        for part in parts:
            if judge.open & set(part.metrics):
                tell(f"look {look + 1} of {LOOKS}: {part.name}")
                batch += [items for items in part.measured(look) if items.metric in planned]
        if judge.feed(batch) != UNDECIDED:
            return


def _without(
    settings: Settings, metrics: tuple[str, ...], servers: tuple[Server, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the metrics that can be judged where servers are asked, and why others are not.

    Raises ``UsageError`` for a declared margin of one that is not, and where none is left.
    """
    unread = apart.not_read(*servers)
    reasons = {"kl": apart.NO_KL} | ({"nll": unread, "kl": unread} if unread else {})
    unasked = {}
    for asked in settings.sets:
        why = next(filter(None, (questions.not_asked(side, asked) for side in servers)), "")
        if why:
            unasked[asked.name] = why
    reasons |= {
        metric: unasked[m] for metric in metrics if (m := metric.rpartition(":")[2]) in unasked
    }
    left_out = tuple(dict.fromkeys(reasons[m] for m in metrics if m in reasons))
    kept = tuple(metric for metric in metrics if metric not in reasons)
    if left_out and (settings.margins or not kept):
        raise UsageError(
            f"this gate cannot judge {left_out[0]}",
            fix="Gate perplexity or generated answers: --margin perplexity=0.5%, or --questions "
            "gsm8k --margin accuracy=1",
        )
    return kept, tuple(f"not judged: {why}" for why in left_out)


class _Text:
    """The text's chunks in batches; neighbours that count as one stay together."""

    metrics: tuple[str, ...] = TEXT

    def __init__(
        self, base: Side, settings: Settings, fit: Fit, keep: Keep, progress: Progress | None
    ) -> None:
        self.name = settings.text.name
        self._base, self._settings, self._fit = base, settings, fit
        self._keep, self._progress = keep, progress
        length = settings.seq_len or usual_length(base.model)
        ids = chunk_ids(
            settings.text, base.tokenizer, base.model, settings.tokens, length, settings.group
        )
        self._chunks = ids.view(-1, length)
        self.n = len(self._chunks)
        self._looks = _drawn(np.arange(self.n) // settings.group)
        self._held: dict[int, measure.Held] = {}

    def hold(self) -> None:
        """Let the base read every batch, before it is taken from memory."""
        for look in np.unique(self._looks):
            chunks = self._chunks[np.flatnonzero(self._looks == look)]
            self._held[int(look)] = self._states(self._base, 0, chunks)

    def beside(self, candidate: Side) -> None:
        """Take the candidate. Raises ``UsageError`` for another vocabulary."""
        why = measure.same_vocabulary(
            self._base.tokenizer, candidate.tokenizer, self._settings.text.joined[:20_000]
        )
        if why:
            raise UsageError(
                f"{self._base.name} and {candidate.name} cannot be compared over a text: {why}",
                fix="Gate their answers: --questions gsm8k --margin accuracy=1",
            )
        self._candidate = candidate

    def unlike(self, candidate: Side) -> str:
        """Return nothing: both read the base's tokens."""
        return ""

    def measured(self, look: int) -> tuple[PairedItems, ...]:
        """Return the next chunks' NLL and KL."""
        rows = np.flatnonzero(self._looks == look)
        if not len(rows):
            return ()

        def make() -> tuple[PairedItems, ...]:
            by_chunk, group = self._read(look, self._chunks[rows]), self._settings.group
            ids = tuple(f"chunk {row}" for row in rows)
            groups = tuple(str(row // group) for row in rows) if group > 1 else None
            found = (by_chunk[metric] for metric in TEXT if metric in by_chunk)
            return tuple(replace(items, ids=ids, clusters=groups) for items in found)

        return self._keep((0, 1), f"text at look {look}", tuple[PairedItems, ...], make)

    def _read(self, look: int, chunks: Tensor) -> dict[str, PairedItems]:
        base, candidate = self._base, self._candidate
        if isinstance(base, Server) or isinstance(candidate, Server):
            first, second = (
                apart.said_by(side, chunks, progress=self._progress) for side in (base, candidate)
            )
            return apart.items(first, second, chunks)
        by_blocks = 1 in self._fit.by_blocks
        found = measure.read(
            self._held.pop(look) if self._held else base.model,
            self._states(candidate, 1, chunks) if by_blocks else candidate.model,
            chunks.flatten(),
            seq_len=chunks.shape[1],
            floor=False,
            progress=self._progress,
        )
        return found.tokens.items()

    def _states(self, side: Side, place: int, chunks: Tensor) -> measure.Held:
        return held(
            side.model,  # type: ignore[arg-type]
            chunks.flatten(),
            seq_len=chunks.shape[1],
            device=self._fit.device if place in self._fit.by_blocks else None,
            progress=self._progress,
        )


class _Questions:
    """One set's questions in batches."""

    def __init__(
        self, base: Side, asked: questions.QuestionSet, keep: Keep, progress: Progress | None
    ) -> None:
        self.name, self.n = asked.name, len(asked.items)
        kinds = ("accuracy", "f1") if isinstance(asked.items[0], Question) else ("accuracy",)
        self.metrics: tuple[str, ...] = tuple(f"{kind}:{asked.name}" for kind in kinds)
        self._base, self._asked = base, asked
        self._keep, self._progress = keep, progress
        self._looks = _drawn(np.arange(self.n))
        self._held: dict[int, Answers] = {}

    def hold(self) -> None:
        """Ask the base every question, before it is taken from memory."""
        for look in np.unique(self._looks):
            self._held[int(look)] = self._answers(self._base, 0, int(look))

    def beside(self, candidate: Side) -> None:
        """Take the candidate."""
        self._candidate = candidate

    def unlike(self, candidate: Side) -> str:
        """Return how the two were asked unlike; empty where they were not, or read other tokens."""
        text = self._asked.items[0].question
        if measure.same_vocabulary(self._base.tokenizer, candidate.tokenizer, text):
            return ""
        return questions.asked_unlike(self._base, candidate, self._asked)

    def measured(self, look: int) -> list[PairedItems]:
        """Ask both models the next questions."""
        if look not in self._looks:
            return []
        first = self._held.get(look) or self._answers(self._base, 0, look)
        return questions.paired(self._asked, first, self._answers(self._candidate, 1, look))

    def _answers(self, side: Side, place: int, look: int) -> Answers:
        rows = np.flatnonzero(self._looks == look)
        asked = replace(self._asked, items=tuple(self._asked.items[i] for i in rows))
        return self._keep(
            (place,),
            f"answers to {self.name} at look {look}",
            Answers,
            lambda: questions.ask(side, asked, progress=self._progress),
        )


def _drawn(units: np.ndarray) -> np.ndarray:
    """Return for each item the look at which it is measured, drawn at random by its unit."""
    n = int(units.max()) + 1
    place = np.random.default_rng(0).permutation(n)
    return (place[units] * LOOKS) // n
