"""Strip plots by hand: every seed a dot, the mean a tick, its interval a line."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LEFT, RIGHT = 3.0, 97.0  # percent of the plot's width that the data may use
JITTER = 5.0  # pixels between dots that would cover each other
MOST_JITTER = 12.0  # pixels that a row has above and below its line
NEAR = 0.8  # percent of the width within which dots touch
# Beyond so many times the distance from the best that three quarters of the methods keep, a method
# would press the others into a line: the axis ends before it.
OUTLYING, SHOWN = 6, 3
NEAREST, FARTHEST = 1e-290, 1e300
ALIKE = 1e-12  # a share of a value in which last bits differ: ticks of all its digits would overlap
FEW = 6  # methods below which each is shown


@dataclass(frozen=True)
class Dot:
    """One seed: its place in percent of the width, its offset from the row's middle in pixels."""

    x: float
    dy: float
    seed: int
    value: float


@dataclass(frozen=True)
class Strip:
    """One method's row; ``outside`` counts the dots that lie beyond the axis."""

    dots: tuple[Dot, ...]
    mean: float | None
    low: float | None
    high: float | None
    outside: str


@dataclass(frozen=True)
class Axis:
    """The axis that all methods of a model share: its range and the ticks (percent, label)."""

    start: float
    stop: float
    ticks: tuple[tuple[float, str], ...]

    def place(self, value: float) -> float:
        """Return where a value lies, in percent of the width."""
        if self.stop == self.start:
            return 50.0
        share = (value - self.start) / (self.stop - self.start)
        return round(LEFT + share * (RIGHT - LEFT), 3)


def shared_axis(arms: Sequence[Mapping[str, Any]]) -> Axis:
    """Return an axis over the arms' values and intervals (``described`` dicts).

    An interval of two seeds reaches six standard deviations to each side: beyond half the range
    of the values it is cut off, so that the dots stay apart.
    """
    values = [v for arm in arms for v in arm["values"]]
    low, high = min(values), max(values)
    largest = max(abs(low), abs(high))
    alike = high - low <= ALIKE * largest
    room = (largest * 0.02 or 1.0) if alike else (high - low) / 2
    ends = [end for arm in arms if arm["ci95"] for end in arm["ci95"]]
    low = max(min([low, *ends]), low - room)
    high = min(max([high, *ends]), high + room)
    if alike:
        low, high = low - room, high + room
    # Between numbers that float64 holds in full, and so far apart that it holds steps between them.
    low, high = (min(max(end, -FARTHEST), FARTHEST) for end in (low, high))
    if high - low < max(NEAREST, ALIKE * abs(high)):
        room = max(NEAREST, 0.02 * abs(high))
        low, high = low - room, high + room
    return Axis(low, high, tuple(ticks(low, high)))


def reach(means: Iterable[float], *, higher: bool) -> float:
    """Return how far from the best mean an axis reaches: infinitely, unless some are far worse.

    ``higher`` says which side is better.
    """
    values = list(means)
    best = max(values) if higher else min(values)
    distances = sorted(abs(value - best) for value in values)
    usual = distances[3 * (len(distances) - 1) // 4]
    outlying = len(values) >= FEW and distances[-1] > OUTLYING * usual > 0
    return SHOWN * usual if outlying else math.inf


def strip(arm: Mapping[str, Any], axis: Axis) -> Strip:
    """Return one method's row on the axis."""
    dots: list[Dot] = []
    inside = [
        (seed, value)
        for seed, value in zip(arm["seeds"], arm["values"], strict=True)
        if axis.start <= value <= axis.stop
    ]
    crowd: Counter[int] = Counter()
    for seed, value in inside:
        x = axis.place(value)
        place = round(x / NEAR)
        near = crowd[place - 1] + crowd[place] + crowd[place + 1]
        crowd[place] += 1
        dots.append(Dot(x, _offset(near), seed, value))
    outside = _outside(arm, axis, len(inside))
    shown = arm["mean"] is not None and axis.start <= arm["mean"] <= axis.stop
    low, high = arm["ci95"] or (None, None)
    return Strip(
        tuple(dots),
        axis.place(arm["mean"]) if shown else None,
        None if low is None or outside else axis.place(max(low, axis.start)),
        None if high is None or outside else axis.place(min(high, axis.stop)),
        outside,
    )


def _offset(near: int) -> float:
    """Return where a dot goes that has ``near`` others at its place: beside them, in the row."""
    if near < 5:
        return (-1) ** near * JITTER * ((near + 1) // 2)
    return round(MOST_JITTER * (2 * (near * 0.618034 % 1) - 1), 1)


def path(row: Strip) -> str:
    """Return the dots as one SVG path of dashes without length, in a box of 100 by 34."""
    return "".join(f"M{dot.x:.4g} {17 + dot.dy:g}h0" for dot in row.dots)


def _outside(arm: Mapping[str, Any], axis: Axis, inside: int) -> str:
    out = len(arm["values"]) - inside
    if not out:
        return ""
    higher = any(value > axis.stop for value in arm["values"])
    # A longer text would cover dots that are inside.
    told = f"{out} more" if inside else f"{out} of {len(arm['values'])} outside"
    return f"{told} →" if higher else f"← {told}"


def ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Return three to six round values inside the range."""
    axis, span = Axis(low, high, ()), high - low
    power = 10 ** math.floor(math.log10(span / 3))
    step = max(s * power for s in (1, 2, 5, 10) if s * power <= span / 3)
    form = _form(step, max(abs(low), abs(high)))
    first, last = math.ceil(low / step), math.floor(high / step)
    return [
        (axis.place(i * step), f"{i * step:{form}}" if i or "f" in form else "0")
        for i in range(first, last + 1)
    ]


def _form(step: float, largest: float) -> str:
    """Return how ticks are written: a number of many zeros would cover its neighbours."""
    decimals = -math.floor(math.log10(step) + 1e-9)
    power = math.floor(math.log10(largest))
    after_first = decimals + power
    if (decimals <= 6 and largest < 1e7) or (after_first > 6 and abs(power) < 15):
        return f".{max(0, decimals)}f"
    return f".{after_first}e"
