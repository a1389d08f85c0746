"""Quality against what is paid for it: every seed a point, the means, and their Pareto front.

The geometry alone, in the units of an SVG of ``WIDTH`` by ``HEIGHT``; a template draws it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from benchsuite.records.record import Record
from benchsuite.reporting import numbers, strip
from benchsuite.reporting.groups import Group
from benchsuite.reporting.summary import on_device
from benchsuite.study import Cost, Metric, Study

WIDTH, HEIGHT = 860, 360
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 14, 46
FEWEST = 3  # methods below which there is nothing to weigh
LETTER, LINE = 7.3, 13.0  # the room that a letter of a label takes, and its height
FAR = 4.0  # costs over more than this ratio are drawn on a logarithmic axis

Pair = tuple[float, float]
Label = tuple[float, float, str]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Scale:
    """An axis from a value to units of the picture; ``ticks`` are (place, text)."""

    first: float
    last: float
    axis: strip.Axis
    logarithmic: bool
    ticks: tuple[tuple[float, str], ...]

    def place(self, value: float) -> float:
        """Return where a value lies; one beyond the axis lies at its end."""
        inside = min(
            max(math.log10(value) if self.logarithmic else value, self.axis.start), self.axis.stop
        )
        return _between(self.first, self.last, self.axis.place(inside))

    def holds(self, value: float) -> bool:
        """Say whether a value lies on the axis and not beyond it."""
        return self.logarithmic or self.axis.start <= value <= self.axis.stop


@dataclass(frozen=True)
class Mark:
    """A method: its mean's place, its text, where its name stands if there is room for it.

    ``role`` is ``original``, ``unranked`` or nothing. ``outside`` says that the mean lies beyond
    the axis: then the name tells it. ``leader`` is where a line to a name that stands apart ends.
    """

    name: str
    x: float
    y: float
    role: str
    front: bool
    outside: bool
    text: str
    label: Label | None
    leader: tuple[float, float] | None


def views(study: Study, group: Group) -> list[dict[str, Any]]:
    """Return one figure for each of the study's costs that enough methods of a group have."""
    return [drawn for cost in study.costs if (drawn := view(study, group, cost)) is not None]


def view(study: Study, group: Group, cost: Cost) -> dict[str, Any] | None:
    """Return what the template draws, or None where fewer than three methods can be weighed.

    Controls are left out. Times are drawn of one device that nobody shared, the one with most
    records.
    """
    metric = study.ranked_by
    found, simulated = _pairs(study, group, cost)
    if not metric.better or len(found) < FEWEST:
        return None
    means = {m: (fmean(x for x, _ in p), fmean(y for _, y in p)) for m, p in found.items()}
    if min(len({mean[i] for mean in means.values()}) for i in (0, 1)) < 2:
        return None
    everything = [pair for pairs in found.values() for pair in pairs]
    across = _cost_scale([x for x, _ in everything])
    up = _quality_scale(everything, means, sign=-1 if metric.better == "higher" else 1)
    best = front(means, higher=metric.better == "higher")
    marks = _marks(study, cost, means, across, up, best)
    return {
        "cost": cost.metric.label or cost.metric.name,
        "unit": cost.metric.unit,
        "quality": metric.heading,
        "better": metric.better,
        "size": (WIDTH, HEIGHT),
        "frame": (LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM),
        "across": across,
        "up": up,
        "marks": marks,
        "seeds": "".join(
            f"M{across.place(x)} {up.place(y)}h0" for x, y in everything if up.holds(y)
        ),
        "front": "".join(
            f"{'L' if i else 'M'}{across.place(means[m][0])} {up.place(means[m][1])}"
            for i, m in enumerate(best)
        ),
        "best": best,
        "simulated": simulated,
    }


def front(means: Mapping[str, Pair], *, higher: bool) -> list[str]:
    """Return the methods that no other beats in both cost and quality, from the cheapest on.

    ``means`` are (cost, quality); the less cost the better, ``higher`` says which quality is.
    """
    sign = -1 if higher else 1
    order = sorted(means, key=lambda method: (means[method][0], sign * means[method][1]))
    kept: list[str] = []
    for method in order:
        if not kept or sign * means[method][1] < sign * means[kept[-1]][1]:
            kept.append(method)
    return kept


def _pairs(study: Study, group: Group, cost: Cost) -> tuple[dict[str, list[Pair]], list[str]]:
    """Return method -> (cost, quality) of its records, and the methods whose cost is simulated."""
    usable: dict[str, list[Record]] = {}
    simulated = []
    for method in group.methods:
        records = list(group.records_of(method).values())
        own = [r for r in records if not (cost.unless and r.value(cost.unless))]
        if method not in study.controls and own:
            usable[method] = own
        elif records and not own:
            simulated.append(method)
    if any(cost.metric.name in r.clocked for records in usable.values() for r in records):
        usable = _of_one_device(usable)
    found = {
        method: pairs
        for method, records in usable.items()
        if (pairs := list(_numbers(records, cost.metric, study.ranked_by)))
    }
    return found, simulated


def _of_one_device(usable: Mapping[str, Sequence[Record]]) -> dict[str, list[Record]]:
    places = [on_device(r) for records in usable.values() for r in records]
    alone = [place for place in places if not place[1]]
    most = max(dict.fromkeys(alone), key=alone.count, default=None)
    return {
        method: [r for r in records if on_device(r) == most] for method, records in usable.items()
    }


def _numbers(records: Iterable[Record], cost: Metric, quality: Metric) -> Iterable[Pair]:
    for record in records:
        pair = record.value(cost.name), record.value(quality.name)
        if all(isinstance(v, int | float) and math.isfinite(v) for v in pair):
            yield pair[0] * cost.scale, pair[1] * quality.scale


def _cost_scale(values: Sequence[float]) -> Scale:
    low, high = min(values), max(values)
    first, last = LEFT, WIDTH - RIGHT
    if low <= 0 or high / low <= FAR:
        return _linear(low, high, first, last)
    axis = strip.Axis(math.log10(low), math.log10(high), ())
    ticks = tuple(
        (_between(first, last, axis.place(math.log10(t))), f"{t:g}") for t in _decades(low, high)
    )
    return Scale(first, last, axis, True, ticks)


def _quality_scale(everything: Sequence[Pair], means: Mapping[str, Pair], *, sign: int) -> Scale:
    """Return an axis of quality that ends before methods that are far worse than the rest."""
    values = [y for _, y in everything]
    best = min(sign * y for _, y in means.values())
    reach = strip.reach((y for _, y in means.values()), higher=sign < 0)
    values = [y for y in values if sign * y - best <= reach]
    return _linear(min(values), max(values), HEIGHT - BOTTOM, TOP)


def _linear(low: float, high: float, first: float, last: float) -> Scale:
    room = 0.0 if low < high else abs(low) * 0.01 or 1.0
    axis = strip.Axis(low - room, high + room, ())
    ticks = strip.ticks(low - room, high + room)
    return Scale(first, last, axis, False, tuple((_between(first, last, p), t) for p, t in ticks))


def _between(first: float, last: float, percent: float) -> float:
    return round(first + percent / 100 * (last - first), 1)


def _decades(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten inside the range; powers alone if they suffice."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1,) if len(powers) > 4 else (1, 2, 5)
    return [s * 10.0**p for p in powers for s in steps if low <= s * 10.0**p <= high]


def _marks(
    study: Study,
    cost: Cost,
    means: Mapping[str, Pair],
    across: Scale,
    up: Scale,
    best: Sequence[str],
) -> list[Mark]:
    """Return the methods with their names placed: the front's first, then the better ones'.

    A name of the front that finds no room beside its point stands apart, with a line to it.
    """
    places = {m: (across.place(x), up.place(y)) for m, (x, y) in means.items()}
    taken: list[Box] = [(x - 5, y - 5, x + 5, y + 5) for x, y in places.values()]
    quality = study.ranked_by
    sign = -1 if quality.better == "higher" else 1
    others = sorted(means.keys() - set(best), key=lambda m: (sign * means[m][1], m))
    names = {m: m if up.holds(y) else f"{m} ({y:.3g})" for m, (_, y) in means.items()}
    labels = {m: _label(names[m], *places[m], taken, _AROUND) for m in best}
    leaders = {}
    for method in best:
        if labels[method] is None:
            labels[method] = _label(names[method], *places[method], taken, _APART)
            leaders[method] = _end_of_leader(labels[method])
    labels |= {m: _label(names[m], *places[m], taken, _AROUND) for m in others}
    marks = []
    for method, (x, y) in places.items():
        role = "original" if method == study.original else ""
        role = role or ("unranked" if method in study.unranked else "")
        told = [
            numbers.one(Metric(m.name, unit=m.unit, format=m.format), v)
            for m, v in zip((quality, cost.metric), means[method][::-1], strict=True)
        ]
        text = f"{method}: {quality.name} {told[0]} at {told[1]}"
        outside = not up.holds(means[method][1])
        name = names[method]
        leader = leaders.get(method)
        marks.append(Mark(name, x, y, role, method in best, outside, text, labels[method], leader))
    return marks


def _label(
    method: str, x: float, y: float, taken: list[Box], places: Iterable[Label]
) -> Label | None:
    """Return where a name stands free at one of the places about its point, and take that room.

    None where there is none.
    """
    width = LETTER * len(method)
    for dx, dy, anchor in places:
        left = x + dx - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
        box = (left, y + dy - LINE + 3, left + width, y + dy + 3)
        inside = box[0] > LEFT and box[2] < WIDTH - 2 and box[1] > 0 and box[3] < HEIGHT - BOTTOM
        if inside and not any(_overlap(box, other) for other in taken):
            taken.append(box)
            return round(x + dx, 1), round(y + dy, 1), anchor
    return None


_AROUND = (
    (9, 4, "start"),
    (-9, 4, "end"),
    (0, -9, "middle"),
    (0, 18, "middle"),
    (8, -7, "start"),
    (8, 15, "start"),
    (-8, -7, "end"),
    (-8, 15, "end"),
    (14, -16, "start"),
    (14, 25, "start"),
)


_APART = tuple(
    (round(radius * math.cos(angle), 1), round(radius * math.sin(angle), 1), anchor)
    for radius in range(30, 181, 15)
    for angle in (math.tau * turn / 16 for turn in range(16))
    for anchor in ("start", "end")
)


def _end_of_leader(label: Label | None) -> tuple[float, float] | None:
    """Return where the line from a point to its name ends: before the name, at half its height."""
    if label is None:
        return None
    gap = 3 if label[2] == "end" else -3
    return label[0] + gap, label[1] - 4


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
