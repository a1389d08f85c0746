"""The user's own smallest effects that matter, which judge records and change none."""

from collections.abc import Mapping
from dataclasses import replace

from benchsuite.errors import UsageError, unknown_name
from benchsuite.study.metric import Metric

_given: dict[str, str] = {}


def use_margins(margins: Mapping[str, str]) -> None:
    """Judge by these margins, by metric, in the place of the declared ones and of any before.

    They say how records are read. No cell's fingerprint holds them.
    """
    _given.clear()
    _given.update(margins)


def as_given(metric: Metric) -> Metric:
    """Return a metric with the user's margin, if there is one for its name."""
    margin = _given.get(metric.name)
    return replace(metric, margin=margin) if margin else metric


def parse_margin(text: str, known: frozenset[str]) -> tuple[str, str]:
    """Return name and margin of ``METRIC=VALUE``; ``known`` are the metrics that there are.

    Raises ``UsageError`` for a text that is none, and an unknown metric.
    """
    name, equals, value = text.partition("=")
    if not equals or not value:
        raise UsageError(
            f"--margin {text!r} cannot be read", fix="write --margin METRIC=VALUE: perplexity=0.5%"
        )
    if name not in known:
        raise unknown_name("metric in --margin", name, sorted(known))
    return name, Metric(name, margin=value).margin
