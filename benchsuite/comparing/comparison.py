"""A whole comparison: a base, its candidates, one text, some questions; what is measured and said.

The base is opened once and each candidate beside it in turn, so that two models are held at most.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from benchsuite.catalog import Sources
from benchsuite.comparing import apart, measure, questions
from benchsuite.comparing.layers import Layer, layers
from benchsuite.comparing.pairs import PairedItems
from benchsuite.comparing.prompt_log_probs import Said
from benchsuite.comparing.server import USUAL, Server, Serving, Side, Sides
from benchsuite.comparing.speeds import Speed, generation
from benchsuite.comparing.spread import Spread, kl_spread
from benchsuite.comparing.subject import Subject
from benchsuite.comparing.texts import Text, chunk_ids, usual_length
from benchsuite.comparing.verdict import Verdict, judge
from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.evaluation.generation import Progress

WORST_CHUNKS = 5


@dataclass(frozen=True)
class Settings:
    """What is asked of a comparison; lengths in tokens, ``seq_len`` 0 for the usual one.

    ``group`` neighbouring chunks are one cluster. ``margins`` are by metric or kind, as the
    verdict reads them. ``speed`` times generation.
    """

    text: Text
    tokens: int
    seq_len: int
    sets: Sequence[questions.QuestionSet] = ()
    margins: Mapping[str, str] = field(default_factory=dict)
    alpha: float = 0.05
    power: float = 0.9
    group: int = 1
    layers: bool = False
    speed: bool = True


@dataclass(frozen=True)
class Facts:
    """What is known of one model besides its answers; sizes in bytes, speed in tokens a second.

    Of a server's model neither is known.
    """

    name: str
    read_by: str
    dtype: str
    disk_bytes: int | None
    memory_bytes: int | None
    notes: tuple[str, ...]
    speed: Speed | None


@dataclass(frozen=True)
class Chunk:
    """A chunk of the text with its place, its KL, both NLLs (nats per token) and its beginning."""

    index: int
    kl: float
    base_nll: float
    nll: float
    text: str


@dataclass(frozen=True)
class Paired:
    """A candidate beside the base.

    ``items`` are judged by ``verdict``; ``shares`` are those that have no margin (equal
    predictions, tokens predicted). ``floor`` has the items of the base against itself, by metric.
    ``read`` and ``spread`` are None where the vocabularies differ or one side is a server, as
    ``refused`` then says.
    """

    facts: Facts
    items: tuple[PairedItems, ...]
    shares: tuple[PairedItems, ...]
    floor: Mapping[str, PairedItems]
    verdict: Verdict
    read: measure.Read | None
    spread: Spread | None
    floor_spread: Spread | None
    worst: tuple[Chunk, ...]
    flips: tuple[questions.Flip, ...]
    layers: tuple[Layer, ...]
    refused: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """A base and its candidates, by what was measured of all of them."""

    base: Facts
    settings: Settings
    pairs: tuple[Paired, ...]
    device: str


def compare(
    base_word: str,
    words: Sequence[str],
    settings: Settings,
    sources: Sources = Sources(),
    *,
    device: str = "cpu",
    serving: Serving = USUAL,
    tell: Callable[[str], None] = lambda text: None,
    progress: Progress | None = None,
) -> Comparison:
    """Measure every candidate beside the base; ``tell`` hears what is done at the moment.

    ``serving`` says how servers are asked. Raises what `Sides.open` does, and ``UsageError`` where
    nothing can be compared.
    """
    sides = Sides((base_word, *words), sources, serving, device)
    served = sides.servers(tell)
    tell(f"opening {base_word}")
    measured = _Base(served.get(0) or sides.open(0), settings, tell, progress)
    pairs = []
    for place, word in enumerate(words, 1):
        tell(f"opening {word}")
        candidate = served.get(place) or sides.open(place)
        pairs.append(measured.beside(candidate))
        candidate.close()
    return Comparison(measured.facts, measured.settings, tuple(pairs), device)


class _Base:
    """The base with what is measured of it once: its speed, its answers, its floor of these."""

    def __init__(
        self,
        subject: Side,
        settings: Settings,
        tell: Callable[[str], None],
        progress: Progress | None,
    ) -> None:
        settings = replace(settings, seq_len=settings.seq_len or usual_length(subject.model))
        self.subject, self.settings = subject, settings
        self._tell, self._progress = tell, progress
        self.ids = chunk_ids(
            settings.text, subject.tokenizer, subject.model, settings.tokens, settings.seq_len
        )
        self.facts = facts(subject, self.ids if settings.speed else None)
        self.answers = self._ask(subject)
        self.again = self._ask(subject, rounded=True)
        self._floor: dict[str, PairedItems] = {}
        for asked, one, two in zip(settings.sets, self.answers, self.again, strict=True):
            if one and two:
                found = questions.paired(asked, one, two)
                self._floor |= {items.metric: items for items in found}
        self._floor_spread: Spread | None = None
        self._said: Said | None = None

    def _ask(self, subject: Side, rounded: bool = False) -> list[questions.Answers | None]:
        """Return a side's answers set by set, None to a set that it cannot be asked."""
        found: list[questions.Answers | None] = []
        for asked in self.settings.sets:
            if questions.not_asked(subject, asked):
                found.append(None)
                continue
            beside = " again, as its floor" if rounded else ""
            self._tell(f"asking {subject.name} {asked.name}{beside}")
            found.append(questions.ask(subject, asked, rounded=rounded, progress=self._progress))
        return found

    def beside(self, candidate: Side) -> Paired:
        """Return what is measured of a candidate beside this base."""
        settings, base = self.settings, self.subject
        why = measure.same_vocabulary(
            base.tokenizer, candidate.tokenizer, settings.text.joined[:20_000]
        )
        if why:
            refused = [
                f"the vocabularies differ ({why}): there is no KL between them, and perplexities "
                "per token cannot be compared; only answers are"
            ]
            text = _Text()
        elif isinstance(base, Server) or isinstance(candidate, Server):
            text, refused = self._read_apart(candidate)
        else:
            text, refused = self._read(base, candidate)
        judged, flipped = list(text.judged), []
        answers = self._ask(candidate)
        for asked, one, two in zip(settings.sets, self.answers, answers, strict=True):
            if one and two:
                judged += questions.paired(asked, one, two)
                flipped += questions.flips(asked, one, two)
            else:
                refused += filter(None, (questions.not_asked(s, asked) for s in (base, candidate)))
        if not judged:
            raise UsageError(
                f"{base.name} and {candidate.name} cannot be compared over a text: "
                f"{why or '; '.join(refused)}",
                fix="Ask both questions that they answer in words: --questions gsm8k,squad_v2",
            )
        ranked, reason = self._layers(candidate) if settings.layers and not why else ((), "")
        if reason:
            refused.append(reason)
        return Paired(
            facts(candidate, self.ids if settings.speed and text.judged else None),
            tuple(judged),
            text.shares,
            dict(self._floor),
            judge(judged, margins=settings.margins, alpha=settings.alpha, power=settings.power),
            text.read,
            text.spread,
            self._floor_spread,
            text.worst,
            tuple(flipped),
            ranked,
            tuple(refused),
        )

    def _read(self, base: Subject, candidate: Subject) -> tuple["_Text", list[str]]:
        """Let both models read the text at once."""
        settings, refused = self.settings, []
        if not measure.same_specials(base.tokenizer, candidate.tokenizer):
            refused.append(
                "the candidate's own special tokens: its tokenizer puts others around a text, "
                "and both read the base's"
            )
        self._tell(f"reading {self.ids.numel():,} tokens with both")
        read = measure.read(
            base.model,
            candidate.model,
            self.ids,
            seq_len=settings.seq_len,
            floor=self._floor_spread is None,
            progress=self._progress,
        )
        by_chunk = read.tokens.items(settings.group)
        if read.floor is not None:
            floor = read.floor.items(settings.group)
            self._floor |= floor
            self._floor_spread = kl_spread(read.floor, floor["kl"])
        found = _Text(
            (by_chunk["nll"], by_chunk["kl"]),
            (by_chunk["same_top"], by_chunk["next_token"]),
            read,
            kl_spread(read.tokens, by_chunk["kl"]),
            tuple(_worst(read, base.tokenizer)),
        )
        return found, refused

    def _read_apart(self, candidate: Side) -> tuple["_Text", list[str]]:
        """Let each side read the text by itself, where one is a server."""
        base, group = self.subject, self.settings.group
        why = apart.not_read(base, candidate)
        if why:
            return _Text(), [why]
        chunks = self.ids.view(-1, self.settings.seq_len)
        if self._said is None:
            self._tell(f"{base.name} reads {self.ids.numel():,} tokens")
            self._said = apart.said_by(base, chunks, progress=self._progress)
            first = chunks[: max(2, measure.FLOOR_TOKENS["cpu"] // self.settings.seq_len)]
            again = apart.said_by(base, first, again=True, progress=self._progress)
            begun = Said(self._said.log_probs[: len(first)], self._said.top[: len(first)])
            self._floor = apart.items(begun, again, first, group) | self._floor
        self._tell(f"{candidate.name} reads {self.ids.numel():,} tokens")
        said = apart.said_by(candidate, chunks, progress=self._progress)
        found = apart.items(self._said, said, chunks, group)
        judged = (found.pop("nll"),)
        return _Text(judged, tuple(found.values())), [apart.NO_KL]

    def _layers(self, candidate: Side) -> tuple[tuple[Layer, ...], str]:
        if isinstance(self.subject, Server) or isinstance(candidate, Server):
            return (), "a ranking of layers: a server shows no weights"
        self._tell("replacing one layer at a time")
        chunks = self.ids.view(-1, self.settings.seq_len)
        try:
            found = layers(self.subject.model, candidate.model, chunks, progress=self._progress)
        except BenchsuiteError as error:
            return (), f"no ranking of layers: {error}"
        return tuple(found), ""


@dataclass(frozen=True)
class _Text:
    """What a text gave: the fields of ``Paired`` that are about it."""

    judged: tuple[PairedItems, ...] = ()
    shares: tuple[PairedItems, ...] = ()
    read: measure.Read | None = None
    spread: Spread | None = None
    worst: tuple[Chunk, ...] = ()


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
