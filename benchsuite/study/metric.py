"""What a study measures: which way is better, in which unit, and how its items make it.

What several studies measure stands here, each once. A study's own metrics stand with it.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchsuite.errors import UsageError
from benchsuite.statistics.margins import absolute

BETTER = ("lower", "higher", "")
NEIGHBOURS = "neighbours"
_OF_ITEMS = ("items", "ranking", "ids", "clusters")


@dataclass(frozen=True)
class Metric:
    """One number of a record, and how it is read.

    ``name`` is the record's key. ``better`` says which way is better: ``lower``, ``higher``, or
    neither. Numbers are shown times ``scale``, in ``unit``; ``format`` is the format of a value
    whose uncertainty is not known (``.1f``), by default four digits. ``label`` is its name in
    running text, ``key`` the source document's, where they have one of their own.

    ``items`` are the record's per-item column and what makes the metric of its mean; by them the
    items of two methods are paired, each known by its name in the column ``ids``. ``clusters`` is
    the column of what items share, or ``NEIGHBOURS``: items follow one another in one text, and
    stretches of them are taken as one. ``ranking`` are the columns of which the metric is the
    AUROC: which answers are right, bool, and how unsure each was. ``parts`` says that the record
    holds a table of such numbers, by task for instance. ``parse_rate`` is the metric, in percent,
    that says how many of the answers behind a score could be read: an unread one counts as wrong.

    ``margin`` is the smallest difference that matters: ``"0.5%"`` of the other arm's value, or a
    number in the unit shown. ``study.metric(name)`` has the user's own where one was given.
    """

    name: str
    better: str = ""
    unit: str = ""
    format: str = ""
    scale: float = 1
    items: tuple[str, Callable[[Any], Any]] | None = None
    ranking: tuple[str, str] | None = None
    ids: str = ""
    clusters: str = ""
    key: str = ""
    label: str = ""
    parts: bool = False
    parse_rate: str = ""
    margin: str = "0.5%"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise UsageError(f"a metric has the name {self.name!r}", fix="give the record's key")
        if self.better not in BETTER:
            raise self._wrong("better", "write better='lower' or better='higher', or leave it out")
        if not isinstance(self.scale, int | float) or not 0 < self.scale < math.inf:
            raise self._wrong("scale", "write a positive number: shown is the stored one times it")
        try:
            format(1.0, self.format)
        except (TypeError, ValueError):
            raise self._wrong("format", "write one of Python's, as '.1f'") from None
        try:
            absolute(self.margin, 1.0)
        except (AttributeError, ValueError):
            raise UsageError(
                f"the margin {self.margin!r} of {self.name} cannot be read",
                fix="write a positive number in the unit shown, as in 1, or a relative one: 0.5%",
            ) from None
        if not _is_of(self.items, str, Callable):
            raise self._wrong("items", "write items=('column', itself): what makes it of the mean")
        if not _is_of(self.ranking, str, str):
            raise self._wrong("ranking", "write ranking=('right', 'unsure'), two columns")

    def _wrong(self, field: str, fix: str) -> UsageError:
        return UsageError(f"metric {self.name!r} has {field}={getattr(self, field)!r}", fix=fix)

    @property
    def heading(self) -> str:
        """The metric with the unit of the numbers shown: ``accuracy (%)``."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    @property
    def stored_heading(self) -> str:
        """The metric with the unit of the stored numbers, which are not scaled."""
        return self.heading if self.scale == 1 else self.name

    @property
    def document_key(self) -> str:
        """The key in the source document's summary."""
        return self.key or self.name

    def part(self, name: str) -> "Metric":
        """Return the metric of one number of the table that this one stands for."""
        return replace(self, name=name, key="", label="", parts=False)

    def as_dict(self) -> dict[str, Any]:
        """Return what a reader of numbers must know, json-able; ``Metric(**it)`` shows them."""
        told = asdict(self)
        return {k: v for k, v in told.items() if k not in _OF_ITEMS}


@dataclass(frozen=True)
class Cost:
    """What quality is paid with, the less the better: the page draws one against the other.

    A record whose value ``unless`` is true has no such cost of its own: a format that is only
    simulated has no latency.
    """

    metric: Metric
    unless: str = ""


def _is_of(pair: Any, first: Any, second: Any) -> bool:
    """Say whether a field is left out, or a tuple of these two kinds."""
    if pair is None:
        return True
    two = isinstance(pair, tuple) and len(pair) == 2
    return two and isinstance(pair[0], first) and isinstance(pair[1], second)


def itself(mean: Any) -> Any:
    """Return the mean of the items: the metric is that."""
    return mean


def percent(mean: Any) -> Any:
    """Return a mean of right (1) and wrong (0) in percent."""
    return 100 * mean


def exponential(mean: Any) -> Any:
    """Return the exponential of a mean: perplexity from nats."""
    import numpy as np

    return np.exp(mean)


PERPLEXITY = Metric(
    "perplexity",
    better="lower",
    items=("chunk_nll", exponential),
    ids="chunk",
    clusters=NEIGHBOURS,
    key="ppl",
    label="PPL",
)
"""Perplexity; items are chunks of text, paired by name."""
KL = Metric(
    "kl",
    better="lower",
    unit="nats",
    items=("chunk_kl", itself),
    margin="0.01",
    ids="chunk",
    clusters=NEIGHBOURS,
)
"""KL of the next token from the original's, in nats; 0.01 nats matter."""
ACCURACY = Metric(
    "accuracy",
    better="higher",
    unit="%",
    format=".1f",
    items=("correct", percent),
    ids="question",
    margin="1",
)
"""Right answers in percent; items are questions, and one point matters."""
