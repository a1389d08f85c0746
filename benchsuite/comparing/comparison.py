"""A whole comparison: a base, its candidates, one text, some questions; what is measured and said.

The base is opened once and each candidate beside it in turn, so that two models are held at most;
where two do not fit, one is read and let go of before the next is opened.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from benchsuite.catalog import Sources
from benchsuite.comparing import apart, measure, questions
from benchsuite.comparing.holding import held
from benchsuite.comparing.keeping import Keep, unkept
from benchsuite.comparing.layers import Layer, layers
from benchsuite.comparing.measured import (
    Beside,
    Chunk,
    Comparison,
    Facts,
    Measured,
    Reading,
    Settings,
    judged,
)
from benchsuite.comparing.pairs import PairedItems
from benchsuite.comparing.prompt_log_probs import Said
from benchsuite.comparing.questions import Answers
from benchsuite.comparing.room import Fit
from benchsuite.comparing.served import USUAL, Serving
from benchsuite.comparing.server import Server, Side, Sides
from benchsuite.comparing.speeds import generation
from benchsuite.comparing.spread import Spread, kl_spread
from benchsuite.comparing.subject import Subject
from benchsuite.comparing.texts import chunk_ids, usual_length
from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.evaluation.generation import Progress

WORST_CHUNKS = 5


@dataclass(frozen=True)
class Before:
    """What is known from before: ``pairs`` by their candidates' places, which count from 1.

    ``done`` hears of each pair that is measured now; ``keep`` keeps its parts meanwhile.
    """

    pairs: Mapping[int, Beside] = field(default_factory=dict)
    done: Callable[[int, Beside], None] = lambda place, pair: None
    keep: Keep = unkept


NOTHING = Before()


def compare(
    base_word: str,
    words: Sequence[str],
    settings: Settings,
    sources: Sources = Sources(),
    *,
    device: str = "cpu",
    serving: Serving = USUAL,
    before: Before = NOTHING,
    tell: Callable[[str], None] = lambda text: None,
    progress: Progress | None = None,
) -> Comparison:
    """Measure every candidate beside the base; ``tell`` hears what is done at the moment.

    ``serving`` says how servers are asked. What is known ``before`` is not measured again. Raises
    what `Sides.open` does, and ``UsageError`` where nothing can be compared.
    """
    found = dict(before.pairs)
    places = [place for place in range(1, len(words) + 1) if place not in found]
    if places:
        sides = Sides((base_word, *words), sources, serving, device)
        served = sides.servers(tell)
        fit = Fit.of((base_word, *words), places, sources, device)
        tell(f"opening {base_word}")
        opened = served.get(0) or sides.open(0, fit.device_of(0))
        base = _Base(opened, settings, fit, before.keep, tell, progress)
        if fit.in_turn:
            base.let_go(served=bool(served))
        for place in places:
            tell(f"opening {words[place - 1]}")
            candidate = served.get(place) or sides.open(place, fit.device_of(place))
            found[place] = Beside(base.facts, base.beside(candidate, place), base.settings.seq_len)
            candidate.close()
            before.done(place, found[place])
    settings = replace(settings, seq_len=found[1].seq_len)
    pairs = (judged(found[place].measured, settings) for place in sorted(found))
    return Comparison(found[1].base, settings, tuple(pairs), device)


@dataclass(frozen=True)
class Text:
    """What a text gave: the fields of ``Measured`` that are about it."""

    items: tuple[PairedItems, ...] = ()
    shares: tuple[PairedItems, ...] = ()
    floor: Mapping[str, PairedItems] = field(default_factory=dict)
    floor_spread: Spread | None = None
    reading: Reading | None = None
    spread: Spread | None = None
    worst: tuple[Chunk, ...] = ()


class _Base:
    """The base with what is measured of it once: its speed, its answers, its floor of these."""

    def __init__(
        self,
        subject: Side,
        settings: Settings,
        fit: Fit,
        keep: Keep,
        tell: Callable[[str], None],
        progress: Progress | None,
    ) -> None:
        settings = replace(settings, seq_len=settings.seq_len or usual_length(subject.model))
        self.subject, self.settings = subject, settings
        self._fit, self._keep, self._tell, self._progress = fit, keep, tell, progress
        self.ids = chunk_ids(
            settings.text,
            subject.tokenizer,
            subject.model,
            settings.tokens,
            settings.seq_len,
            settings.group,
        )
        self.facts = self._facts(subject, 0, timed=settings.speed)
        self.answers = self._ask(subject, 0)
        self.again = self._ask(subject, 0, rounded=True)
        self._floor: dict[str, PairedItems] = {}
        for asked, one, two in zip(settings.sets, self.answers, self.again, strict=True):
            if one and two:
                found = questions.paired(asked, one, two)
                self._floor |= {items.metric: items for items in found}
        self._rows = _rows(subject)
        self._floor_spread: Spread | None = None
        self._said: Said | None = None
        self._model: nn.Module | measure.Held = subject.model  # type: ignore[assignment]

    def let_go(self, *, served: bool) -> None:
        """Read the text, and take the model from memory; ``served`` candidates read it apart."""
        if served:
            self._say()
        self._tell(f"{self.subject.name} reads {self.ids.numel():,} tokens")
        self._model = self._held(self.subject, 0, floor=True)
        self.subject.close()

    def _held(self, side: Side, place: int, *, floor: bool = False) -> measure.Held:
        return held(
            side.model,  # type: ignore[arg-type]
            self.ids,
            seq_len=self.settings.seq_len,
            device=self._fit.device if place in self._fit.by_blocks else None,
            floor=floor,
            progress=self._progress,
        )

    def _facts(self, subject: Side, place: int, *, timed: bool) -> Facts:
        ids = self.ids if timed else None
        kept = self._keep((place,), "facts", Facts, lambda: facts(subject, ids))
        return replace(
            kept, name=subject.name
        )  # a copy of another side has its facts, not its name

    def _ask(self, subject: Side, place: int, rounded: bool = False) -> list[Answers | None]:
        """Return a side's answers set by set, None to a set that it cannot be asked."""
        found: list[Answers | None] = []
        for asked in self.settings.sets:
            if questions.not_asked(subject, asked):
                found.append(None)
                continue
            name = f"{asked.name}{' again, as its floor' if rounded else ''}"

            def ask(asked: questions.QuestionSet = asked, name: str = name) -> Answers:
                self._tell(f"asking {subject.name} {name}")
                return questions.ask(subject, asked, rounded=rounded, progress=self._progress)

            found.append(self._keep((place,), f"answers to {name}", Answers, ask))
        return found

    def beside(self, candidate: Side, place: int) -> Measured:
        """Return what is measured of the candidate at ``place`` beside this base."""
        settings, base = self.settings, self.subject
        why = measure.same_vocabulary(
            base.tokenizer, candidate.tokenizer, settings.text.joined[:20_000]
        )
        text, refused = self._text(candidate, place, why)
        self._floor |= text.floor
        self._floor_spread = self._floor_spread or text.floor_spread
        items, flipped, unlike = list(text.items), [], []
        answers = self._ask(candidate, place)
        for asked, one, two in zip(settings.sets, self.answers, answers, strict=True):
            if one and two:
                items += questions.paired(asked, one, two)
                flipped += questions.flips(asked, one, two)
                unlike += [] if why else [questions.asked_unlike(base, candidate, asked)]
            else:
                refused += filter(None, (questions.not_asked(s, asked) for s in (base, candidate)))
        if not items:
            raise UsageError(
                f"{base.name} and {candidate.name} cannot be compared over a text: "
                f"{why or '; '.join(refused)}",
                fix="Ask both questions that they answer in words: --questions gsm8k,squad_v2",
            )
        ranked, reason = self._layers(candidate, place) if settings.layers and not why else ((), "")
        if reason:
            refused.append(reason)
        unlike.append(self._padding(candidate) if text.spread else "")
        known = self._facts(candidate, place, timed=settings.speed and bool(text.items))
        return Measured(
            replace(known, notes=(*known.notes, *filter(None, unlike))),
            tuple(items),
            text.shares,
            dict(self._floor),
            text.reading,
            text.spread,
            self._floor_spread,
            text.worst,
            tuple(flipped),
            ranked,
            tuple(refused),
        )

    def _text(self, candidate: Side, place: int, why: str) -> tuple[Text, list[str]]:
        """Return what the text gave and what not; ``why`` says how the vocabularies differ."""
        base = self.subject
        if why:
            return Text(), [
                f"the vocabularies differ ({why}): there is no KL between them, and perplexities "
                "per token cannot be compared; only answers are"
            ]
        if isinstance(base, Server) or isinstance(candidate, Server):
            unread = apart.not_read(base, candidate)
            return (Text(), [unread]) if unread else (self._read_apart(candidate), [apart.NO_KL])
        refused = []
        if not measure.same_specials(base.tokenizer, candidate.tokenizer):
            refused.append(
                "the candidate's own special tokens: its tokenizer puts others around a text, "
                "and both read the base's"
            )
        read = self._keep((0, place), "text", Text, lambda: self._read(candidate, place))
        return read, refused

    def _padding(self, candidate: Side) -> str:
        """Return what to know of ids that one of two models alone predicts, or nothing."""
        more = _rows(candidate) - self._rows
        who = "it" if more > 0 else self.subject.name
        told = f"{who} predicts {abs(more)} ids more than the other: its perplexity pays for what "
        return f"{told}they get, and the KL leaves them out" if more else ""

    def _read(self, candidate: Side, place: int) -> Text:
        """Let both models read the text, or the candidate alone where the base has read it."""
        group = self.settings.group
        self._tell(f"reading {self.ids.numel():,} tokens, {self._fit.how}")
        other = self._held(candidate, place) if place in self._fit.by_blocks else candidate.model
        read = measure.read(
            self._model,
            other,  # type: ignore[arg-type]
            self.ids,
            seq_len=self.settings.seq_len,
            floor=self._floor_spread is None,
            progress=self._progress,
        )
        n_chunks, seq_len = read.chunks.shape
        by_chunk = read.tokens.items(group)
        floor = read.floor.items(group) if read.floor is not None else {}
        return Text(
            (by_chunk["nll"], by_chunk["kl"]),
            (by_chunk["same_top"], by_chunk["next_token"]),
            floor,
            kl_spread(read.floor, floor["kl"]) if read.floor is not None else None,
            Reading(n_chunks, seq_len, read.seconds, read.shared, self._fit.how),
            kl_spread(read.tokens, by_chunk["kl"]),
            tuple(_worst(read, self.subject.tokenizer)),
        )

    def _say(self) -> Said:
        """Let the base read the text alone, and again as its floor."""
        if self._said is None:
            group, chunks = self.settings.group, self.ids.view(-1, self.settings.seq_len)
            self._tell(f"{self.subject.name} reads {self.ids.numel():,} tokens")
            self._said = apart.said_by(self.subject, chunks, progress=self._progress)
            first = chunks[: measure.floor_chunks(torch.device("cpu"), self.settings.seq_len)]
            again = apart.said_by(self.subject, first, again=True, progress=self._progress)
            begun = Said(self._said.log_probs[: len(first)], self._said.top[: len(first)])
            self._floor = apart.items(begun, again, first, group) | self._floor
        return self._said

    def _read_apart(self, candidate: Side) -> Text:
        """Let each side read the text by itself, where one is a server."""
        base, chunks = self._say(), self.ids.view(-1, self.settings.seq_len)
        self._tell(f"{candidate.name} reads {self.ids.numel():,} tokens")
        said = apart.said_by(candidate, chunks, progress=self._progress)
        found = apart.items(base, said, chunks, self.settings.group)
        judged = (found.pop("nll"),)
        return Text(judged, tuple(found.values()))

    def _layers(self, candidate: Side, place: int) -> tuple[tuple[Layer, ...], str]:
        if isinstance(self.subject, Server) or isinstance(candidate, Server):
            return (), "a ranking of layers: a server shows no weights"
        if self._fit.in_turn:
            return (), "a ranking of layers: both models have to fit in memory at once"
        self._tell("replacing one layer at a time")
        base, other = self.subject.model, candidate.model
        chunks = self.ids.view(-1, self.settings.seq_len)

        def rank() -> tuple[Layer, ...]:
            return tuple(layers(base, other, chunks, progress=self._progress))

        try:
            return self._keep((0, place), "layers", tuple[Layer, ...], rank), ""
        except BenchsuiteError as error:
            return (), f"no ranking of layers: {error}"


def _rows(side: Side) -> int:
    """Return how many ids a model predicts, 0 of a server."""
    if isinstance(side, Server):
        return 0
    config: Any = side.model.config
    return int(config.get_text_config().vocab_size)


def facts(subject: Side, ids: Any) -> Facts:
    """Return what is known of a model; its generation is timed after ``ids``, unless None."""
    speed = None
    if ids is not None and isinstance(subject, Subject):
        speed = generation(subject, ids)
    return Facts(
        subject.name,
        subject.read_by,
        subject.dtype,
        subject.disk_bytes,
        subject.memory_bytes,
        subject.notes,
        speed,
    )


def _worst(read: measure.Read, tokenizer: Any) -> list[Chunk]:
    means = read.tokens.kl.mean(1)
    order = np.argsort(-means, kind="stable")[:WORST_CHUNKS]
    return [
        Chunk(
            int(i),
            float(means[i]),
            float(read.tokens.base_nll[i].mean()),
            float(read.tokens.nll[i].mean()),
            tokenizer.decode(read.chunks[i].tolist()),
        )
        for i in order
    ]
