"""The page of a trend: each method's nights as a line with its noise, changes marked."""

import math
from collections.abc import Sequence
from typing import Any

from scipy.special import stdtrit

from benchsuite.reporting import numbers, strip
from benchsuite.reporting.page.rendering import templates
from benchsuite.reporting.trend import ALPHA, FACTS, Night, Series, lines, what_changed
from benchsuite.statistics.margins import absolute
from benchsuite.statistics.samples import as_sample, mean_of, std_of

WIDTH, HEIGHT = 420, 64  # of a series' picture
EDGE = 10


def render_trend(nights: Sequence[Night], series: Sequence[Series]) -> str:
    """Return the page over the nights."""
    places = dict.fromkeys((one.study, one.group) for one in series)
    groups = [
        {
            "study": study,
            "group": group,
            "metric": next(s.metric for s in series if (s.study, s.group) == (study, group)),
            "series": [_view(nights, s) for s in series if (s.study, s.group) == (study, group)],
        }
        for study, group in places
    ]
    facts = [
        {"name": night.name, "told": [night.facts[n] for n in FACTS], "folder": night.folder.name}
        for night in nights
    ]
    return (
        templates()
        .get_template("trend.html.j2")
        .render(nights=facts, heads=FACTS, groups=groups, lines=lines(nights, series), alpha=ALPHA)
    )


def _view(nights: Sequence[Night], one: Series) -> dict[str, Any]:
    """Return a series' picture: seeds, the line of means, bands, marks, and what the table says."""
    shown = [[v * one.metric.scale for v in values.values()] for values in one.values]
    bands = [_band(one, shown, night) for night in range(len(shown))]
    inside = [v for values in shown for v in values] + [e for b in bands if b for e in b]
    axis = _axis(one, min(inside), max(inside))

    def x(night: int) -> float:
        return round(EDGE + night / max(1, len(shown) - 1) * (WIDTH - 2 * EDGE), 1)

    def y(value: float) -> float:
        return round(HEIGHT * (1 - axis.place(value) / 100), 1)

    measured = [night for night, values in enumerate(shown) if values]
    means = {night: mean_of(as_sample(shown[night])) for night in measured}
    marks = [
        {
            "x": x(night),
            "y": y(means[night]),
            "worse": one.is_worse(night),
            "text": f"{nights[night].name}: {what_changed(nights, one, night) or 'nothing else'}",
        }
        for night, _ in one.marks()
    ]
    first, last = measured[0], measured[-1]
    return {
        "method": one.method,
        "first": numbers.one(one.metric, means[first] / one.metric.scale),
        "last": numbers.one(one.metric, means[last] / one.metric.scale),
        "key": means[last],
        "marks": marks,
        "changed": [nights[night].name for night, _ in one.marks()],
        "seeds": "".join(f"M{x(n)} {y(v)}h0" for n in measured for v in shown[n]),
        "line": "".join(f"{'L' if i else 'M'}{x(n)} {y(means[n])}" for i, n in enumerate(measured)),
        "bands": [
            (x(n), y(band[1]), y(band[0])) for n, band in enumerate(bands) if band and shown[n]
        ],
        "size": (WIDTH, HEIGHT),
    }


def _band(one: Series, shown: Sequence[Sequence[float]], night: int) -> tuple[float, float] | None:
    """Return where 95 % of a night's means would lie with other seeds; None if no noise is known.

    About the mean of the stretch's first night: t s sqrt(1/n + 1/m) for n and m seeds, s from the
    first night. Not corrected for the looks, as the marks are.
    """
    if not shown[night]:
        return None
    base = shown[one.stretch_of(night)]
    if len(base) < 2:
        return None
    sample = as_sample(base)
    reach = float(stdtrit(len(base) - 1, 0.975)) * std_of(sample)
    reach *= math.sqrt(1 / len(base) + 1 / len(shown[night]))
    return mean_of(sample) - reach, mean_of(sample) + reach


def _axis(one: Series, low: float, high: float) -> strip.Axis:
    """Return a picture's axis: as high as twice what matters at least, or nothing looks like much.

    ``low`` and ``high`` are what it has to show, in the unit shown.
    """
    scale, middle = one.metric.scale, (low + high) / 2
    matters = absolute(one.metric.margin, middle / scale, scale) * abs(scale)
    half = max((high - low) / 2, matters) or 1.0
    return strip.Axis(middle - half, middle + half, ())
