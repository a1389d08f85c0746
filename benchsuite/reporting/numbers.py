"""Numbers as a metric shows them: scaled, with its unit, rounded by what is known of them."""

from collections.abc import Mapping
from typing import Any

from benchsuite.statistics.rounding import plain, with_interval, with_uncertainty
from benchsuite.study import Metric


def one(metric: Metric, value: float, digits: int = 4) -> str:
    """Return a single value, ``1.0 %``; a metric without a format shows ``digits`` of it."""
    return _with_unit(metric, _alone(metric, value, digits))


def spread(metric: Metric, mean: float | None, std: float | None, *, unit: bool = True) -> str:
    """Return a mean with its standard deviation, ``41.2 ± 0.8 %``, or alone if that is unknown.

    Without ``unit`` the number is for a table whose head says it.
    """
    if mean is None:
        return "–"
    if not std:
        text = _alone(metric, mean, 4) + (" ± 0" if std is not None else "")
    else:
        text = with_uncertainty(mean * metric.scale, std * metric.scale)
    return _with_unit(metric, text) if unit else text


def interval(metric: Metric, value: float | None, low: float | None, high: float | None) -> str:
    """Return a value with its interval, ``1.7 [0.3, 3.1]``: the unit stands in the table's head."""
    if value is None or low is None or high is None:
        return "–" if value is None else _alone(metric, value, 4)
    return with_interval(value * metric.scale, low * metric.scale, high * metric.scale)


def as_shown(metric: Metric, values: Mapping[int, Any]) -> dict[int, Any]:
    """Return seed -> value as it is shown, to be drawn on an axis in the metric's unit."""
    if metric.scale == 1:
        return dict(values)
    return {seed: value * metric.scale for seed, value in values.items()}


def _alone(metric: Metric, value: float, digits: int) -> str:
    number = value * metric.scale if metric.scale != 1 else value
    if not metric.format:
        return plain(number, digits)
    return f"{number:{metric.format}}".replace("-", "−", 1 if number < 0 else 0)


def _with_unit(metric: Metric, text: str) -> str:
    return f"{text} {metric.unit}" if metric.unit else text
