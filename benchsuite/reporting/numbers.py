"""Numbers as a metric shows them: scaled, with its unit, rounded by what is known of them."""

from collections.abc import Mapping
from typing import Any

from benchsuite.statistics.descriptive import describe
from benchsuite.statistics.rounding import alone, in_unit, spread, with_interval
from benchsuite.study import Metric

__all__ = ["as_shown", "interval", "one", "over_seeds", "spread"]


def one(metric: Metric, value: float, digits: int = 4) -> str:
    """Return a single value, ``1.0 %``; a metric without a format shows ``digits`` of it."""
    return in_unit(metric, alone(metric, value, digits))


def interval(metric: Metric, value: float | None, low: float | None, high: float | None) -> str:
    """Return a value with its interval, ``1.7 [0.3, 3.1]``: the unit stands in the table's head."""
    if value is None or low is None or high is None:
        return "–" if value is None else alone(metric, value)
    return with_interval(value * metric.scale, low * metric.scale, high * metric.scale)


def over_seeds(metric: Metric, values: Mapping[int, float]) -> str:
    """Return the mean of values by seed with their standard deviation, ``41.2 ± 0.8 %``."""
    seen = describe(values.values())
    return spread(metric, seen.mean, seen.std)


def as_shown(metric: Metric, values: Mapping[int, Any]) -> dict[int, Any]:
    """Return seed -> value as it is shown, to be drawn on an axis in the metric's unit."""
    if metric.scale == 1:
        return dict(values)
    return {seed: value * metric.scale for seed, value in values.items()}
