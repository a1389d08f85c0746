"""How long cells will take here and how much memory they need, by records measured here.

Pure functions over records. Rehearsals count as much as real cells: their times and memory are
real. An estimate is a range, and names its basis; without one it is a bound from below or nothing.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from benchsuite import catalog
from benchsuite.printable import count
from benchsuite.records.record import CellFacts, Record
from benchsuite.study import study
from benchsuite.study.cell import Cell

# What disks and links deliver: reading the weights is in no record.
LOAD_BYTES_PER_SECOND = (0.5e9, 4e9)

# How far apart runs of one cell lie on an idle machine, where too few records say it themselves.
_REPEATED = (0.9, 1.15)
# What scaling leaves out: kernels that fit another shape better, layers of other proportions.
_SCALED = (0.75, 1.35)
_FURTHEST = 8
# Work grows with parameters x tokens: linear in the passes, and up to this power in the making of
# what is tried, whose factorizations do more per parameter in a wider model.
_MAKING_GROWTH = 4 / 3


@dataclass(frozen=True)
class Span:
    """A range of seconds or bytes; ``high`` may be infinite."""

    low: float
    high: float

    def __add__(self, other: "Span") -> "Span":
        return Span(self.low + other.low, self.high + other.high)

    def times(self, low: float, high: float) -> "Span":
        """Return the range of the products with a factor that lies in a range itself."""
        return Span(self.low * low, self.high * high)


@dataclass(frozen=True)
class Estimate:
    """What one cell will take.

    ``seconds`` is the cell alone; ``shared`` are the seconds that the first cell of its model and
    method pays for all, such as the features of a corpus; ``memory`` is the peak in bytes.
    """

    cell: Cell
    seconds: Span
    shared: float
    memory: Span
    basis: str

    def fits(self, memory_bytes: int) -> str:
        """Say ``fits``, ``may not fit``, ``will not fit``, or nothing where nobody knows."""
        if self.memory.low > memory_bytes:
            return "will not fit"
        if math.isinf(self.memory.high):
            return ""
        return "may not fit" if self.memory.high > memory_bytes else "fits"


def measured_here(records: Iterable[Record], device: str, gpus: int) -> list[Record]:
    """Return the records that say something about times on a device: those of whole cells.

    ``gpus`` counts those that work on a cell.
    """
    return [
        record
        for record in records
        if record.passed and record.times.spent
        if record.environment.get("device") == device
        if record.environment.get("gpus", 1) == gpus
    ]


def estimate(
    cell: Cell, records: Sequence[Record], at_least: Callable[[Cell], float] | None = None
) -> Estimate:
    """Estimate one cell from records of this device.

    The best basis there is: records of this very model, method and parameters, whatever the seed;
    those of the method on the nearest model or parameters, scaled; ``at_least(cell)``, the seconds
    below which the device cannot stay. Of equally good records, those that had the device to
    themselves count, if there are any.
    """
    akin = [record for record in records if _method(record.cell) == _method(cell)]
    same = [record for record in akin if _point(record.cell) == _point(CellFacts.of(cell))]
    if same:
        return _repeated(cell, _alone(same))
    usable = [record for record in akin if _comparable(cell, record)]
    if usable:
        nearest = min(usable, key=lambda record: abs(math.log(_work_ratio(cell, record))))
        group = [r for r in usable if _point(r.cell) == _point(nearest.cell)]
        return _scaled(cell, _alone(group))
    weights = _bytes(cell.model)
    low = at_least(cell) if at_least else 0.0
    basis = "no record of this method here; at least its forward passes" if low else "no basis"
    return Estimate(cell, Span(low, math.inf), 0.0, Span(weights, math.inf), basis)


def _alone(records: Sequence[Record]) -> Sequence[Record]:
    return [record for record in records if not record.times.contended] or records


def schedule(estimates: Sequence[Estimate], workers: int) -> Span:
    """Return the seconds until the last of ``workers`` is done, longest cells first.

    Each worker loads a model when it changes to it, and takes what ends soonest for it.
    """
    return Span(
        _makespan(estimates, workers, lambda span: span.low, 1),
        _makespan(estimates, workers, lambda span: span.high, 0),
    )


def _makespan(
    estimates: Sequence[Estimate], workers: int, end: Callable[[Span], float], speed: int
) -> float:
    free, holds = [0.0] * workers, [""] * workers
    paid: set[tuple[Any, ...]] = set()
    for one in sorted(estimates, key=_largest_first):
        load = _bytes(one.cell.model) / LOAD_BYTES_PER_SECOND[speed]
        costs = [load * (held != one.cell.model) for held in holds]
        who = min(range(workers), key=lambda w: free[w] + costs[w])
        key = _method(one.cell), one.cell.model
        free[who] += costs[who] + end(one.seconds) + one.shared * (key not in paid)
        holds[who] = one.cell.model
        paid.add(key)
    return max(free)


def _largest_first(one: Estimate) -> tuple[Any, ...]:
    return -_bytes(one.cell.model), one.cell.model, -one.seconds.low


def _bytes(model: str) -> int:
    return catalog.model(model).weight_bytes


# --- from records of the same cell


def _repeated(cell: Cell, records: Sequence[Record]) -> Estimate:
    shared = max(record.times.shared for record in records)
    times = [record.times.total - record.times.paid for record in records]
    span = Span(min(times), max(times))
    if len(times) < 3:
        span = span.times(*_REPEATED)
    peaks = [record.peak_memory_bytes or 0 for record in records]
    basis = f"{_records(records)} of this model and method"
    return Estimate(cell, span, shared, Span(min(peaks), 1.05 * max(peaks)), basis)


# --- from records of another model or other parameters


def _scaled(cell: Cell, records: Sequence[Record]) -> Estimate:
    parts = [_scaled_seconds(cell, record) for record in records]
    span = Span(min(p.low for p in parts), max(p.high for p in parts)).times(*_SCALED)
    bigger = _parameters(cell.model) / _parameters(records[0].cell.model)
    peaks = [record.peak_memory_bytes or 0 for record in records]
    memory = Span(min(peaks), max(peaks)).times(bigger, bigger).times(*_SCALED)
    floor = _bytes(cell.model)
    source = records[0].cell.model
    other = f"scaled from {source} by parameters x tokens"
    basis = f"{_records(records)}, {other}"
    shared = max(record.times.shared for record in records)
    return Estimate(cell, span, shared, Span(max(memory.low, floor), memory.high), basis)


def _scaled_seconds(cell: Cell, record: Record) -> Span:
    total, making = Span(0.0, 0.0), study(cell.study).making
    ratios = _ratios(cell, record) or {}
    bigger = _parameters(cell.model) / _parameters(record.cell.model)
    furthest = max(ratios.values(), key=lambda ratio: abs(math.log(ratio)), default=bigger)
    for stage, seconds in record.times.spent.items():
        ratio = ratios.get(stage, furthest)
        grown = ratio**_MAKING_GROWTH if stage in making else ratio
        # Stages that we know nothing of may not grow at all.
        ends = (ratio, grown) if stage in ratios else (1.0, ratio)
        own = seconds - record.times.paid_in(stage)
        total += Span(own, own).times(min(ends), max(ends))
    return total


def _comparable(cell: Cell, record: Record) -> bool:
    """Say whether a record is near enough to scale from: a small model's kernels only wait."""
    bigger = _parameters(cell.model) / _parameters(record.cell.model)
    near = 1 / _FURTHEST <= bigger <= _FURTHEST
    return near and _ratios(cell, record) is not None


def _work_ratio(cell: Cell, record: Record) -> float:
    return math.prod((_ratios(cell, record) or {}).values())


def _ratios(cell: Cell, record: Record) -> dict[str, float] | None:
    """Return how much more a cell does than a record did, by stage; None where nobody can say.

    The stages are those whose tokens the study's parameters count.
    """
    bigger = _parameters(cell.model) / _parameters(record.cell.model)
    ratios: dict[str, float] = {}
    for name, parameter in study(cell.study).parameters.items():
        new, old = cell.parameters.get(name), record.cell.parameters.get(name)
        more = 1.0
        if parameter.tokens_of and new != old:
            old = old or record.value(parameter.counted_as)
            if not new or not old:  # all of another text, or of one that was never read whole
                return None
            more = new / old
        for stage in parameter.tokens_of:
            ratios[stage] = ratios.get(stage, bigger) * more
    return ratios


def _parameters(model: str) -> int:
    return catalog.model(model).n_parameters


# --- which records belong to which cell


def _method(cell: Cell | CellFacts) -> tuple[Any, ...]:
    axes = {k: v for k, v in cell.axes.items() if k not in ("model", "seed")}
    return cell.study, *sorted(axes.items())


def _point(facts: CellFacts) -> tuple[Any, ...]:
    return (*_method(facts), facts.model, *sorted(map(str, facts.parameters.items())))


def _records(records: Sequence[Record]) -> str:
    rehearsed = sum(record.kind == "rehearsal" for record in records)
    return count(len(records), "rehearsal" if rehearsed == len(records) else "record")
