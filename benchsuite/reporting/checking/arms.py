"""Arms of a summary: a mean with its spread, and the relations between an arm's own numbers."""

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scipy.special import ndtri, stdtrit

from benchsuite.reporting.checking.printed import Number, listed, plus_minus, printed, whole
from benchsuite.reporting.checking.relation import Relation
from benchsuite.statistics.inference.interpret import stability_class

WORDS = {
    "mean": ("mean", "avg", "average"),
    "std": ("std", "sd", "stdev", "std_dev"),
    "cv_percent": ("cv_percent", "cv"),
    "min": ("min",),
    "max": ("max",),
    "n": ("n", "n_seeds", "num_seeds"),
    "interval": ("ci95", "ci_95", "ci90", "ci99", "ci", "confidence_interval"),
    "low": ("ci95_low", "ci95_lower", "ci_low", "ci_lower"),
    "high": ("ci95_high", "ci95_upper", "ci_high", "ci_upper"),
}
_FIELDS = sorted(((w, f) for f, words in WORDS.items() for w in words), key=lambda p: -len(p[0]))
SEEDS, VALUES = ("seeds", "seed_list"), ("values", "per_seed")


@dataclass(frozen=True)
class Arm:
    """One arm's printed numbers; what was not printed is None.

    ``n`` is what the table states (``stated``), or the length of ``seeds`` or ``values``, or what
    is stated for all of the summary. ``interval`` has its ``confidence``. ``most`` is the largest
    value that the metric can have, 100 for an accuracy; its least is 0 then.
    """

    mean: Number | None = None
    std: Number | None = None
    cv_percent: Number | None = None
    min: Number | None = None
    max: Number | None = None
    n: int | None = None
    stated: int | None = None
    interval: tuple[Number, Number] | None = None
    confidence: float = 0.95
    seeds: Sequence[Any] | None = None
    values: tuple[Number, ...] | None = None
    stability: str = ""
    most: float = math.inf

    @property
    def moments(self) -> tuple[Number, Number] | None:
        """Mean and standard deviation, if both are known and possible."""
        if self.mean is None or self.std is None or self.std.high < 0:
            return None
        return self.mean, self.std

    def without_interval(self) -> "Arm":
        """Return the arm without its interval, where that is a difference's."""
        return replace(self, interval=None)


def key_of(name: Any) -> str:
    """Return a key without its decoration: ``GSM8k Acc (%)`` is ``gsm8k_acc``."""
    return re.sub(r"[^a-z0-9]+", "_", str(name).lower()).strip("_")


def arms_of(table: Mapping[str, Any], n: int | None = None) -> dict[str, Arm]:
    """Return the arms in one table by what is left of their keys: ``accuracy_mean`` is accuracy's.

    ``{"mean": .., "std": ..}`` is the arm "". ``n`` is the number of seeds if none stands there.
    """
    parts: dict[str, dict[str, Any]] = {}
    for name, value in table.items():
        pair = plus_minus(value)
        if pair:
            parts.setdefault(key_of(name), {}).update(mean=pair[0], std=pair[1])
            continue
        stem, field = _split(key_of(name))
        if field and value is not None:
            parts.setdefault(stem, {}).setdefault(field, value)
            if field == "interval":
                parts[stem]["confidence"] = _confidence(key_of(name))
    shared = parts.get("", {}).get("n")
    seeds, values = (_first_list(table, names) for names in (SEEDS, VALUES))
    told = {k: table[k] for k in ("stability", "Stability") if isinstance(table.get(k), str)}
    arms = {}
    for stem, found in parts.items():
        if "mean" in found or "std" in found:
            own = {"values": values if not stem else None, "seeds": seeds, "n": shared}
            arms[stem] = _arm(stem, {**own, **found}, n)
    if (
        told
        and (first := next((s for s, a in arms.items() if a.most < math.inf), None)) is not None
    ):
        arms[first] = _with_stability(arms[first], *told.values())
    return arms


def count_of(table: Mapping[str, Any]) -> int | None:
    """Return the number of seeds that a table states for all that stands in it."""
    for name, value in table.items():
        if key_of(name) in WORDS["n"] and (n := whole(value)):
            return n
    seeds = _first_list(table, SEEDS)
    return len(seeds) if seeds else None


def relations(arm: Arm) -> Iterator[Relation]:
    """Yield every relation between the numbers of an arm that can be tested."""
    yield from _limits(arm)
    yield from _counts(arm)
    if arm.mean and arm.std and arm.cv_percent and arm.mean.value:
        yield _cv(arm.mean, arm.std, arm.cv_percent)
    if arm.mean and arm.min and arm.max:
        low, high, mean = arm.min, arm.max, arm.mean
        kept = low.low <= mean.high and mean.low <= high.high and low.low <= high.high
        said = f"the mean {mean.value:g} lies outside min {low.value:g} to max {high.value:g}"
        given = {"mean": mean.value, "min": low.value, "max": high.value}
        yield Relation("mean between min and max", kept, said, given)
        if kept and arm.std:
            yield _spread(mean, arm.std, low, high, arm.n, arm.n)
    elif arm.mean and arm.std and math.isfinite(arm.most):
        ends = Number(0.0, 0.0, 0.0), Number(arm.most, arm.most, arm.most)
        yield _spread(arm.mean, arm.std, *ends, arm.n, None)
    if arm.interval and arm.moments and arm.n and arm.n > 1:
        yield _interval(arm)
    if arm.values:
        yield from _of_values(arm)
    if arm.stability and arm.std:
        fits = {stability_class(max(0.0, s)) for s in (arm.std.low, arm.std.high)}
        said = f"std {arm.std.value:g} is {' or '.join(sorted(fits))}, not {arm.stability}"
        yield Relation("stability from std", arm.stability in fits, said)


def _split(key: str) -> tuple[str, str]:
    """Return what a key is about and which field of an arm it holds, "" if none."""
    for word, field in _FIELDS:
        if key == word:
            return "", field
        if key.endswith(f"_{word}"):
            return key.removesuffix(f"_{word}"), field
    for word, field in _FIELDS:
        if key.startswith(f"{word}_"):
            return key.removeprefix(f"{word}_"), field
        if re.fullmatch(rf"{word}\d", key):
            return key[len(word) :], field
    return "", ""


def _arm(stem: str, found: Mapping[str, Any], shared: int | None) -> Arm:
    numbers: dict[str, Any] = {
        k: printed(found.get(k)) for k in ("mean", "std", "cv_percent", "min", "max")
    }
    mean, std = numbers["mean"], numbers["std"]
    if mean and std and std.value == 0:
        # A zero is printed with as many decimals as the mean, whatever its text shows.
        room = min(std.high, mean.high - mean.value)
        numbers["std"] = Number(0.0, -room, room)
    ends = listed(found.get("interval")) or [found.get("low"), found.get("high")]
    low, high = (printed(e) for e in ends) if len(ends) == 2 else (None, None)
    values = [printed(v) for v in found.get("values") or ()]
    seeds = found.get("seeds")
    stated = whole(found.get("n"))
    n = stated if stated is not None else len(seeds or values) or shared
    accuracy = stem.startswith("acc") or "_acc" in stem
    return Arm(
        **numbers,
        n=n,
        stated=stated,
        interval=(low, high) if low and high else None,
        confidence=found.get("confidence", 0.95),
        seeds=seeds,
        values=tuple(v for v in values if v) if values and all(values) else None,
        most=100.0 if accuracy else math.inf,
    )


def _with_stability(arm: Arm, told: str) -> Arm:
    known = {stability_class(s) for s in (0.0, 1.5, 3.0)}
    return replace(arm, stability=told if told in known else "")


def _first_list(table: Mapping[str, Any], names: Sequence[str]) -> list[Any] | None:
    return next((found for k in names if (found := listed(table.get(k)))), None)


def _confidence(key: str) -> float:
    found = re.search(r"9[059]", key)
    return int(found.group()) / 100 if found else 0.95


def _limits(arm: Arm) -> Iterator[Relation]:
    for name in ("std", "cv_percent"):
        seen: Number | None = getattr(arm, name)
        if seen:
            said = f"{name} {seen.value:g} is negative"
            yield Relation(name, seen.value >= 0, said, {name: seen.value}, limit=True)
    if arm.mean and math.isfinite(arm.most):
        kept = arm.mean.high >= 0 and arm.mean.low <= arm.most
        said = f"the mean {arm.mean.value:g} lies outside 0 to {arm.most:g}"
        yield Relation("mean", kept, said, {"mean": arm.mean.value}, limit=True)
    if arm.n is not None:
        yield Relation("n", arm.n > 0, f"n = {arm.n} is no number of seeds", limit=True)


def _counts(arm: Arm) -> Iterator[Relation]:
    for name, held in (("seeds", arm.seeds), ("values", arm.values)):
        if held is not None and arm.stated is not None:
            said = f"n = {arm.stated}, but {len(held)} {name} are listed"
            given, fits = {"n": arm.stated, name: len(held)}, {"n": len(held)}
            yield Relation(f"n from {name}", arm.stated == len(held), said, given, fits)
    if arm.n == 1 and arm.std and arm.std.low > 0:
        said = f"std {arm.std.value:g} of one value: one value has no standard deviation"
        yield Relation("std from n", False, said, {"std": arm.std.value, "n": 1})


def _cv(mean: Number, std: Number, cv: Number) -> Relation:
    ends = [abs(s / m) * 100 for s in (max(0.0, std.low), std.high) for m in (mean.low, mean.high)]
    if mean.low <= 0 <= mean.high:
        ends.append(math.inf)
    derived = Number.spanning(abs(std.value / mean.value) * 100, ends)
    said = f"cv {cv.value:g} % is not std / mean, which is {derived.told} %"
    fits = {"cv_percent": derived.value}
    return Relation("cv from std and mean", cv.meets(derived), said, {"cv_percent": cv.value}, fits)


def _spread(
    mean: Number, std: Number, low: Number, high: Number, n: int | None, reached: int | None
) -> Relation:
    """Hold a std against its bounds for values between ``low`` and ``high``.

    At most sqrt((max - mean)(mean - min) n / (n - 1)) (Bhatia and Davis 2000), n = 2 if it is not
    known. At least when all but the two ends, which ``reached`` values attain, lie at their middle.
    """
    least = 0.0
    if reached and reached > 1:
        least = max(0.0, high.low - low.high) / math.sqrt(2 * (reached - 1))
    wide, middle = 0.0, (high.high + low.low) / 2
    for point in (mean.low, mean.high, *([middle] if mean.low <= middle <= mean.high else [])):
        wide = max(wide, (high.high - point) * (point - low.low))
    n = n if n and n > 1 else 2
    derived = Number(std.value, least, math.sqrt(max(0.0, wide) * n / (n - 1)))
    said = (
        f"std {std.value:g} is impossible for {'two or more' if reached is None else f'n = {n}'} "
        f"values from {low.value:g} to {high.value:g} with mean {mean.value:g}: it lies between "
        f"{least:.3g} and {derived.high:.3g}"
    )
    fits = {"std": [least, derived.high]}
    return Relation(
        "std from min, max and mean", std.meets(derived), said, {"std": std.value}, fits
    )


def _interval(arm: Arm) -> Relation:
    """Hold an interval of a mean against Student's; that of the normal law is one, too."""
    assert arm.interval is not None
    assert arm.moments is not None
    assert arm.n is not None
    (mean, std), tail, root = arm.moments, 0.5 + arm.confidence / 2, math.sqrt(arm.n)
    fits = []
    for quantile in (float(stdtrit(arm.n - 1, tail)), float(ndtri(tail))):
        ends = []
        for sign in (-1, 1):
            corners = [
                m + sign * quantile * max(0.0, s) / root
                for m, s in itertools.product((mean.low, mean.high), (std.low, std.high))
            ]
            value = mean.value + sign * quantile * max(0.0, std.value) / root
            ends.append(Number.spanning(value, corners))
        fits.append(ends)
    kept = any(all(a.meets(b) for a, b in zip(arm.interval, e, strict=True)) for e in fits)
    low, high = arm.interval
    said = (
        f"the {100 * arm.confidence:g} % interval {low.value:g} to {high.value:g} is not that of "
        f"mean {mean.value:g} and std {std.value:g} with n = {arm.n}, which is "
        f"{fits[0][0].value:.4g} to {fits[0][1].value:.4g}"
    )
    given = {"interval": [low.value, high.value]}
    return Relation(
        "interval of a mean", kept, said, given, {"interval": [end.value for end in fits[0]]}
    )


def _of_values(arm: Arm) -> Iterator[Relation]:
    """Hold mean, std, min and max against the values that are listed beside them."""
    values = arm.values
    assert values
    n = len(values)
    room = max(v.high - v.value for v in values)
    points = [v.value for v in values]
    mean = math.fsum(points) / n
    derived = {"mean": (mean, room), "min": (min(points), room), "max": (max(points), room)}
    if n > 1:
        std = math.sqrt(math.fsum((x - mean) ** 2 for x in points) / (n - 1))
        derived["std"] = (std, room * math.sqrt(n / (n - 1)))
    for name, (value, slack) in derived.items():
        seen: Number | None = getattr(arm, name)
        if seen:
            fit = Number(value, value - slack, value + slack)
            said = f"{name} {seen.value:g} is not that of the {n} values, which is {fit.told}"
            yield Relation(
                f"{name} from the values", seen.meets(fit), said, {name: seen.value}, {name: value}
            )
