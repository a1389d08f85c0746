"""The kinds of metric that a comparison judges: which way is worse, by how much it matters."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchsuite.errors import UsageError, unknown_name
from benchsuite.statistics.margins import absolute


@dataclass(frozen=True)
class Kind:
    """How one kind of metric is read.

    ``label`` is its name in a sentence and in a margin. ``lower`` says that less is better.
    ``bounded`` values lie in [0, 1]. ``scale`` takes a stored number to the ``unit`` of a loss.
    ``margin`` is the loss that matters: ``"0.5%"`` of the base's value, or a number in the unit.
    """

    label: str
    lower: bool
    bounded: bool
    scale: float
    unit: str
    margin: str


KINDS = {
    "nll": Kind("perplexity", True, False, 100, "%", "0.5%"),
    "kl": Kind("kl", True, False, 1, "nats", "0.01"),
    "accuracy": Kind("accuracy", False, True, 100, "points", "1"),
    "f1": Kind("f1", False, True, 100, "points", "1"),
    "score": Kind("score", False, True, 100, "points", "1"),
}


def kind_of(metric: str) -> Kind:
    """Return the kind of ``accuracy:arc_easy``: what stands before the colon."""
    family = metric.partition(":")[0]
    if family not in KINDS:
        raise unknown_name("kind of metric", family, KINDS)
    return KINDS[family]


def shown_name(metric: str) -> str:
    """Return the metric's name in a sentence: ``perplexity`` for ``nll``."""
    _, colon, name = metric.partition(":")
    return kind_of(metric).label + colon + name


def margin_of(metric: str, margins: Mapping[str, str]) -> str:
    """Return the declared margin: the metric's own, or its kind's, or the default."""
    declared = (margins[name] for name in _names(metric) if name in margins)
    return next(declared, kind_of(metric).margin)


def with_margins(metrics: Sequence[str], margins: Mapping[str, str]) -> tuple[str, ...]:
    """Return the metrics that a gate judges: those with a declared margin, or all without any.

    A margin of a metric that is not there is a ``UsageError``.
    """
    known = {name for metric in metrics for name in _names(metric)}
    unused = [name for name in margins if name not in known]
    if unused:
        raise UsageError(
            f"--margin {unused[0]} is of a metric that is not measured",
            fix="name the set that is asked, as in --questions gsm8k, or leave the margin out",
        )
    chosen = tuple(metric for metric in metrics if margins.keys() & set(_names(metric)))
    return chosen or tuple(metrics)


def _names(metric: str) -> tuple[str, ...]:
    """Return by which names a margin may be given, the most special first."""
    return metric, shown_name(metric), metric.partition(":")[0], kind_of(metric).label


def edge_of(metric: str, declared: str, base: float) -> float:
    """Return a declared margin in the unit of the stored differences: nats, or a share.

    ``base`` is the base's mean, of which a relative margin is a part; a perplexity's is that of its
    exponential, and its edge a logarithm of a ratio. Raises ``UsageError`` for a margin that cannot
    be read, or that no value can lose.
    """
    kind = kind_of(metric)
    try:
        if kind.label == "perplexity":
            perplexity = math.exp(base)
            return math.log1p(absolute(declared, perplexity) / perplexity)
        edge = absolute(declared, base, kind.scale)
    except ValueError as error:
        raise _unreadable(shown_name(metric), declared) from error
    if edge == 0:
        raise UsageError(
            f"the margin {declared} of {shown_name(metric)} is a part of a value that is 0",
            fix=f"write it in {kind.unit}: --margin {shown_name(metric)}={kind.margin}",
        )
    if kind.bounded and edge >= 1:
        raise UsageError(
            f"no {shown_name(metric)} can lose {declared} {kind.unit}",
            fix=f"write a margin below 100: --margin {shown_name(metric)}={kind.margin}",
        )
    return edge


def parse_margins(texts: Iterable[str]) -> dict[str, str]:
    """Return name -> margin of ``METRIC=VALUE``; a name is a kind's, or one metric's of it.

    Raises ``UsageError`` for a text that is none, and an unknown name.
    """
    found = {}
    known = {kind.label for kind in KINDS.values()} | set(KINDS)
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise UsageError(
                f"--margin {text!r} cannot be read",
                fix="write --margin METRIC=VALUE: perplexity=0.5% or accuracy=1",
            )
        if name.partition(":")[0] not in known:
            raise unknown_name("metric in --margin", name, known)
        try:
            absolute(value, 1.0)
        except ValueError:
            raise _unreadable(name, value) from None
        found[name] = value.strip()
    return found


def _unreadable(name: str, declared: str) -> UsageError:
    return UsageError(
        f"the margin {declared!r} of {name} cannot be read",
        fix="write a positive number in the unit shown, as in 1, or a relative one: 0.5%",
    )
