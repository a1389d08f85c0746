"""What a comparison asks for and what it finds, as plain data that can be written and read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchsuite.comparing.layers import Layer
from benchsuite.comparing.pairs import PairedItems
from benchsuite.comparing.questions import Flip, QuestionSet
from benchsuite.comparing.speeds import Speed
from benchsuite.comparing.spread import Spread
from benchsuite.comparing.texts import Text
from benchsuite.comparing.verdict import Verdict, judge

BOTH, IN_TURN, BY_BLOCKS = "both at once", "one at a time", "one at a time, block by block"
"""How two models read a text: both in memory, or one and then the other."""


@dataclass(frozen=True)
class Settings:
    """What is asked of a comparison; lengths in tokens, ``seq_len`` 0 for the usual one.

    ``group`` neighbouring chunks are one cluster. ``margins`` are by metric or kind, as the
    verdict reads them. ``speed`` times generation.
    """

    text: Text
    tokens: int
    seq_len: int
    sets: Sequence[QuestionSet] = ()
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
class Reading:
    """How a text was read by two models that lie here.

    ``seconds`` are those that both took for all tokens, the floor's not counted, ``vocabulary`` the
    ids compared. ``how`` says how much of the models was in memory: ``BOTH``, ``IN_TURN`` or
    ``BY_BLOCKS``.
    """

    n_chunks: int
    seq_len: int
    seconds: float
    vocabulary: int
    how: str


@dataclass(frozen=True)
class Measured:
    """A candidate beside the base, not judged yet.

    ``items`` are what a verdict is made of; ``shares`` are those that have no margin (equal
    predictions, tokens predicted). ``floor`` has the items of the base against itself, by metric.
    ``reading`` and ``spread`` are None where the vocabularies differ or one side is a server, as
    ``refused`` then says.
    """

    facts: Facts
    items: tuple[PairedItems, ...]
    shares: tuple[PairedItems, ...]
    floor: Mapping[str, PairedItems]
    reading: Reading | None
    spread: Spread | None
    floor_spread: Spread | None
    worst: tuple[Chunk, ...]
    flips: tuple[Flip, ...]
    layers: tuple[Layer, ...]
    refused: tuple[str, ...]


@dataclass(frozen=True)
class Beside:
    """All that is measured of one pair: the base's facts, the candidate beside it.

    ``seq_len`` is the length of a chunk in tokens, as it was read.
    """

    base: Facts
    measured: Measured
    seq_len: int


@dataclass(frozen=True)
class Paired(Measured):
    """A candidate beside the base, and the ``verdict`` on its items."""

    verdict: Verdict


def judged(measured: Measured, settings: Settings) -> Paired:
    """Return what was measured with its verdict, by the margins of ``settings``."""
    verdict = judge(
        measured.items, margins=settings.margins, alpha=settings.alpha, power=settings.power
    )
    return Paired(**vars(measured), verdict=verdict)


@dataclass(frozen=True)
class Comparison:
    """A base and its candidates, by what was measured of all of them."""

    base: Facts
    settings: Settings
    pairs: tuple[Paired, ...]
    device: str
