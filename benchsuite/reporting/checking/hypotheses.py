"""What t, p, d and the interval of a difference must be if a certain test made them.

A summary seldom says which t-test it used. Each possible one is a hypothesis here. Numbers are
contradictory if no hypothesis explains all of them.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from scipy.special import ndtri, stdtr, stdtrit

from benchsuite.reporting.checking.printed import Number
from benchsuite.reporting.checking.relation import Relation
from benchsuite.statistics.effect import small_sample_correction
from benchsuite.statistics.rounding import signed

STUDENT, WELCH, ONE_SAMPLE, PAIRED = "student", "welch", "one_sample", "paired"
INDEPENDENT = (STUDENT, WELCH)
Moments = tuple[Number, Number]


@dataclass(frozen=True)
class Printed:
    """A comparison's printed numbers, None where there is none, and its two arms' moments.

    ``counts`` are the seeds of the arms. ``difference`` and ``interval`` are of the means,
    ``correlation`` is that of the pairs, ``one_sided`` says that p is.
    """

    t: Number | None = None
    p: Number | None = None
    d: Number | None = None
    g: Number | None = None
    df: Number | None = None
    difference: Number | None = None
    interval: tuple[Number, Number] | None = None
    confidence: float = 0.95
    correlation: Number | None = None
    one_sided: bool = False
    moments: tuple[Moments | None, Moments | None] = (None, None)


def relations(seen: Printed, test: str, counts: tuple[int, int]) -> list[Relation]:
    """Return every relation that can be tested if ``test`` made the numbers from ``counts``."""
    return list(_Hypothesis(seen, test, *counts).relations())


@dataclass(frozen=True)
class _Hypothesis:
    seen: Printed
    test: str
    n_a: int
    n_b: int

    @property
    def size(self) -> str:
        if self.test in (PAIRED, ONE_SAMPLE):
            return f"n = {self.n}, {'paired' if self.test == PAIRED else 'one sample'}"
        same = self.n_a == self.n_b
        return f"n = {self.n_a} an arm" if same else f"n = {self.n_a} and {self.n_b}"

    @property
    def n(self) -> int:
        """The number of differences, or of seeds of the arm that has some."""
        if self.test == PAIRED:
            return min(self.n_a, self.n_b)
        still = self._still
        return self.n_a if still == 1 else self.n_b if still == 0 else max(self.n_a, self.n_b)

    @property
    def _still(self) -> int | None:
        """Which arm does not vary: none (None), the first or the second."""
        stds = [m[1].value if m else None for m in self.seen.moments]
        return next((i for i in (1, 0) if stds[i] == 0 and stds[1 - i] != 0), None)

    def relations(self) -> Iterator[Relation]:
        """Yield the relations between t, p, d, g, df, the means, and the interval."""
        seen, derived_t, df = self.seen, self._t(), self._df()
        if seen.d and seen.t and self._ratio is not None:
            yield self._d_of_t(seen.t, seen.d)
        elif seen.d and self.test in (PAIRED, ONE_SAMPLE):
            yield from self._d_of_pairs(seen.d)
        t = seen.t or derived_t
        free = df if seen.df is None or not seen.df.meets(df) else seen.df
        if seen.p and t:
            yield self._p(t, free, seen.p)
        if seen.t and derived_t:
            said = (
                f"t = {signed(seen.t.value, 3)} does not follow from the means and stds with "
                f"{self.size}, which give {_around(derived_t)}"
            )
            fits = {"t": derived_t.value}
            yield Relation(
                "t from means and stds", seen.t.meets(derived_t), said, _given(t=seen.t), fits
            )
        if seen.df:
            said = f"df {seen.df.value:g} does not belong to {self.size}, which gives {df.told}"
            yield Relation("df from n", seen.df.meets(df), said, _given(df=seen.df))
        if seen.d and self.test in INDEPENDENT and (ways := self._ds_of_means()):
            said = (
                f"d = {signed(seen.d.value, 3)} does not follow from the means and stds, which "
                f"give {_around(ways[0])}"
            )
            kept, fits = any(seen.d.meets(way) for way in ways), {"d": ways[0].value}
            yield Relation("d from means and stds", kept, said, _given(d=seen.d), fits)
        if seen.d and seen.g:
            yield self._g(seen.d, seen.g)
        yield from self._difference(t, free)

    def _t(self) -> Number | None:
        """Return t from the means and standard deviations."""
        first, second = self.seen.moments
        if not first or not second:
            return None
        value = _over(first[0].value - second[0].value, self._errors(first, second, exact=True)[0])
        gaps = (first[0].low - second[0].high, first[0].high - second[0].low)
        errors = self._errors(first, second)
        return Number.spanning(value, [_over(gap, error) for gap in gaps for error in errors])

    def _errors(self, first: Moments, second: Moments, *, exact: bool = False) -> list[float]:
        """Return the standard errors of the difference at the corners of the stds' ranges."""
        pairs = _corners(first[1], second[1], exact)
        if self.test == PAIRED:
            seen = self.seen.correlation
            if exact:
                rs = [seen.value if seen else 0.0]
            else:
                rs = [max(-1.0, seen.low), min(1.0, seen.high)] if seen else [-1.0, 1.0]
            squares = [a * a + b * b - 2 * r * a * b for a, b in pairs for r in rs]
            alike = first[1].low <= second[1].high and second[1].low <= first[1].high
            if not exact and seen is None and alike:
                squares.append(0.0)
            return [math.sqrt(max(0.0, s) / self.n) for s in squares]
        if self.test == ONE_SAMPLE:
            still = self._still
            mine = [a if still == 1 else b if still == 0 else max(a, b) for a, b in pairs]
            return [s / math.sqrt(self.n) for s in mine]
        if self.test == WELCH:
            return [math.sqrt(a * a / self.n_a + b * b / self.n_b) for a, b in pairs]
        weight = math.sqrt(1 / self.n_a + 1 / self.n_b)
        return [weight * self._pooled(a, b) for a, b in pairs]

    def _pooled(self, a: float, b: float) -> float:
        df = self.n_a + self.n_b - 2
        return math.sqrt(((self.n_a - 1) * a * a + (self.n_b - 1) * b * b) / max(1, df))

    def _df(self) -> Number:
        """Return the degrees of freedom."""
        student = float(self.n_a + self.n_b - 2)
        if self.test in (PAIRED, ONE_SAMPLE):
            return Number(self.n - 1.0, self.n - 1.0, self.n - 1.0)
        if self.test == STUDENT:
            return Number(student, student, student)
        first, second = self.seen.moments
        least = min(self.n_a, self.n_b) - 1.0
        if not first or not second:
            return Number(student, least, student)
        value = self._welch_df(first[1].value, second[1].value)
        ends = [self._welch_df(*pair) for pair in _corners(first[1], second[1])]
        shares = [(a * a / self.n_a, b * b / self.n_b) for a, b in _corners(first[1], second[1])]
        # Largest where the shares are as the degrees of freedom, which may lie between the corners.
        best = [x * (self.n_b - 1) - y * (self.n_a - 1) for x, y in shares]
        return Number.spanning(value, [*ends, *([student] if min(best) <= 0 <= max(best) else [])])

    def _welch_df(self, std_a: float, std_b: float) -> float:
        a, b = max(0.0, std_a) ** 2 / self.n_a, max(0.0, std_b) ** 2 / self.n_b
        if a + b == 0 or min(self.n_a, self.n_b) < 2:
            return float(self.n_a + self.n_b - 2)
        a, b = a / (a + b), b / (a + b)
        return 1 / (a * a / (self.n_a - 1) + b * b / (self.n_b - 1))

    @property
    def _ratio(self) -> float | None:
        """The factor from t to d, None where t does not determine d."""
        if self.test == STUDENT or (self.test == WELCH and self.n_a == self.n_b):
            return math.sqrt(1 / self.n_a + 1 / self.n_b)
        return 1 / math.sqrt(self.n) if self.test == ONE_SAMPLE else None

    def _d_of_t(self, t: Number, d: Number) -> Relation:
        ratio = self._ratio
        assert ratio is not None
        derived = Number.spanning(t.value * ratio, (t.low * ratio, t.high * ratio))
        formula = "t sqrt(2 / n)" if self.n_a == self.n_b else "t sqrt(1 / n + 1 / m)"
        formula = "t / sqrt(n)" if self.test == ONE_SAMPLE else formula
        said = (
            f"d = {signed(d.value, 3)} does not belong to t = {signed(t.value, 3)} with "
            f"{self.size}: d = {formula} = {signed(derived.value, 3)}"
        )
        fits = {"d": derived.value, "t": d.value / ratio}
        return Relation("d from t", d.meets(derived), said, _given(t=t, d=d), fits)

    def _ds_of_means(self) -> list[Number]:
        """Return d over the pooled std, and over the root of the two variances' mean."""
        first, second = self.seen.moments
        if not first or not second:
            return []
        gap = first[0].value - second[0].value
        gaps = (first[0].low - second[0].high, first[0].high - second[0].low)
        found = []
        for pooled in (self._pooled, lambda a, b: math.sqrt((a * a + b * b) / 2)):
            stds = [pooled(*pair) for pair in _corners(first[1], second[1])]
            value = _over(gap, pooled(*_corners(first[1], second[1], exact=True)[0]))
            found.append(Number.spanning(value, [_over(g, s) for g in gaps for s in stds]))
        return found

    def _d_of_pairs(self, d: Number) -> Iterator[Relation]:
        """Hold the d of pairs against each of the ways in which it is computed."""
        ways = [] if self.test == ONE_SAMPLE else self._ds_of_means()
        t = self._t() if self.test == ONE_SAMPLE else self.seen.t or self._t_of_p(d.value)
        if not all(self.seen.moments):
            return
        if t:
            for factor in (1.0, small_sample_correction(self.n - 1)):
                ratio = factor / math.sqrt(self.n)
                ways.append(Number.spanning(t.value * ratio, (t.low * ratio, t.high * ratio)))
        told = " or ".join(signed(way.value, 3) for way in ways)
        said = f"d = {signed(d.value, 3)} is none that {self.size} can have: {told}"
        kept = any(d.meets(way) for way in ways)
        yield Relation("d from means and stds", kept, said, _given(d=d))

    def _t_of_p(self, sign: float) -> Number | None:
        """Return the t of pairs whose p is printed alone."""
        p = self.seen.p
        if p is None or self.seen.one_sided or not 0 <= p.value <= 1:
            return None
        tails = [max(p.low, 1e-300) / 2, min(1.0, p.high) / 2, (p.value or p.high) / 2]
        ends = [math.copysign(float(stdtrit(self.n - 1, 1 - tail)), sign) for tail in tails]
        return Number.spanning(ends[2], ends[:2])

    def _g(self, d: Number, g: Number) -> Relation:
        frees = {self.n_a + self.n_b - 2, self.n - 1, min(self.n_a, self.n_b) - 1}
        factors = [f for df in frees if df > 0 for f in _corrections(df)]
        ways = [Number.spanning(d.value * f, (d.low * f, d.high * f)) for f in factors]
        said = (
            f"Hedges' g = {signed(g.value, 3)} does not belong to d = {signed(d.value, 3)} with "
            f"{self.size}"
        )
        return Relation("g from d", any(g.meets(way) for way in ways), said, _given(d=d, g=g))

    def _p(self, t: Number, df: Number, p: Number) -> Relation:
        sizes = [abs(t.low), abs(t.high)]
        least = 0.0 if t.low <= 0 <= t.high else min(sizes)
        sides = 1 if self.seen.one_sided else 2
        value = float(sides * stdtr(df.value, -abs(t.value)))
        ends = [float(sides * stdtr(df.high, -max(sizes))), float(sides * stdtr(df.low, -least))]
        derived = Number.spanning(value, [*ends, *([1 - e for e in ends] if sides == 1 else [])])
        whence = (
            f"does not belong to t = {signed(t.value, 3)}"
            if self.seen.t
            else "does not follow from the means and stds"
        )
        names = {STUDENT: "Student", WELCH: "Welch"}
        said = (
            f"p = {p.value:g} {whence} with {self.size}: {names.get(self.test, 'df')} "
            f"{'gives' if self.test in names else f'{df.value:g} gives'} {value:.4f}"
        )
        if p.meets(Number(value / 2, derived.low / 2, derived.high / 2)):
            said += "; it would be the one-sided p"
        name = "p from t" if self.seen.t else "p from means and stds"
        given = _given(t=self.seen.t, p=p)
        return Relation(name, p.meets(derived), said, given, {"p": value})

    def _difference(self, t: Number | None, df: Number) -> Iterator[Relation]:
        """Hold the difference against the means, and its interval against its error."""
        seen, (first, second) = self.seen, self.seen.moments
        gap = seen.difference
        if first and second:
            a, b = first[0], second[0]
            derived = Number(a.value - b.value, a.low - b.high, a.high - b.low)
            if gap:
                said = f"the difference {gap.value:g} is not that of the means, {derived.told}"
                yield Relation(
                    "difference from means", gap.meets(derived), said, _given(difference=gap)
                )
            gap = gap or derived
        if not seen.interval or not gap:
            return
        low, high = seen.interval
        middle = Number(
            (low.value + high.value) / 2, (low.low + high.low) / 2, (low.high + high.high) / 2
        )
        half = Number(
            (high.value - low.value) / 2, (high.low - low.high) / 2, (high.high - low.low) / 2
        )
        said = f"the interval {low.value:g} to {high.value:g} is not around {gap.value:g}"
        given = {"interval": [low.value, high.value]}
        yield Relation("interval around the difference", middle.meets(gap), said, given)
        error = self._error(gap, t)
        if error:
            ways = _halves(error, df, seen.confidence)
            said = (
                f"the interval {low.value:g} to {high.value:g} reaches {half.value:.4g} to each "
                f"side; {self.size} gives {ways[0].told}"
            )
            kept = any(half.meets(way) for way in ways)
            fits = {"interval": [gap.value - ways[0].value, gap.value + ways[0].value]}
            yield Relation("interval of a difference", kept, said, given, fits)

    def _error(self, gap: Number, t: Number | None) -> Number | None:
        """Return the standard error of the difference, from the stds or from t."""
        first, second = self.seen.moments
        if self.test != PAIRED and first and second:
            value = self._errors(first, second, exact=True)[0]
            return Number.spanning(value, self._errors(first, second))
        if t is None or t.low <= 0 <= t.high or self.seen.t is None:
            return None
        ends = [abs(x / y) for x in (gap.low, gap.high) for y in (t.low, t.high)]
        ends += [0.0] if gap.low <= 0 <= gap.high else []
        return Number.spanning(abs(gap.value / t.value), ends)


def _halves(error: Number, df: Number, confidence: float) -> list[Number]:
    """Return half an interval's width by Student's law, and by the normal one, in common use."""
    tail = 0.5 + confidence / 2
    ends = [float(stdtrit(df.high, tail)) * error.low, float(stdtrit(df.low, tail)) * error.high]
    normal = float(ndtri(tail))
    return [
        Number.spanning(float(stdtrit(df.value, tail)) * error.value, ends),
        Number(normal * error.value, normal * error.low, normal * error.high),
    ]


def _corrections(df: float) -> tuple[float, float]:
    """Return Hedges' J and the approximation that is often used for it."""
    return small_sample_correction(df), 1 - 3 / (4 * df - 1)


def _corners(a: Number, b: Number, exact: bool = False) -> list[tuple[float, float]]:
    if exact:
        return [(max(0.0, a.value), max(0.0, b.value))]
    ends_a, ends_b = ((max(0.0, x.low), max(0.0, x.high)) for x in (a, b))
    return list(itertools.product(ends_a, ends_b))


def _over(gap: float, error: float) -> float:
    if error:
        return gap / error
    return math.copysign(math.inf, gap) if gap else 0.0


def _around(derived: Number) -> str:
    low, high = signed(derived.low, 3), signed(derived.high, 3)
    told = f" (rounding allows {low} to {high})" if low != high else ""
    return f"{signed(derived.value, 3)}{told}"


def _given(**numbers: Number | None) -> dict[str, float]:
    return {name: number.value for name, number in numbers.items() if number}
