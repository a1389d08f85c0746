"""What a session of the selected cells will cost on this machine, as the lines of a table."""

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from benchsuite import catalog
from benchsuite.errors import BenchsuiteError
from benchsuite.harness.scheduling.estimate import Estimate, Span, estimate, measured_here, schedule
from benchsuite.printable import count
from benchsuite.records import environment
from benchsuite.study import study
from benchsuite.study.cell import Cell

if TYPE_CHECKING:
    from benchsuite.harness.session import Bench

GIB = 2**30


def forecast(bench: "Bench", cells: Sequence[tuple[Cell, Path]]) -> Iterator[str]:
    """Yield the lines: one per model and method with its basis, what cannot run, the total."""
    device = bench.device
    each = bench.options.gpus_per_cell
    records = measured_here(bench.store.all_records(), device.name, each)
    finished, impossible, open_cells = 0, dict[str, int](), list[Cell]()
    for cell, path in cells:
        if bench.decide(cell, path).state == "cached" and not bench.options.rerun:
            finished += 1
            continue
        try:
            bench.require(cell)
        except BenchsuiteError as error:
            impossible[str(error)] = impossible.get(str(error), 0) + 1
        else:
            open_cells.append(cell)
    rate = _Rate(device)
    found = [estimate(cell, records, rate.at_least) for cell in open_cells]
    known = count(len(records), "record")
    yield f"{device.name}, {device.memory_bytes / GIB:.0f} GiB; {known} of this device"
    yield from _table(found, device.memory_bytes)
    if finished:
        verbs = "is finished and costs" if finished == 1 else "are finished and cost"
        yield f"{count(finished, 'cell')} {verbs} nothing"
    for reason, n in impossible.items():
        yield f"{count(n, 'cell')} cannot run: {reason}"
    workers = len(environment.gpus_for(each)) // each if device.kind == "cuda" else 1
    yield from _totals(found, max(1, workers))


def _table(found: Sequence[Estimate], memory_bytes: int) -> Iterator[str]:
    def row(one: Estimate) -> tuple[str, str, str, str]:
        return one.cell.study, one.cell.model, _method(one.cell), one.basis

    for (name, model, method, basis), group in groupby(sorted(found, key=row), key=row):
        several = list(group)
        seconds = _union([one.seconds for one in several])
        memory = _union([one.memory for one in several])
        fits = several[0].fits(memory_bytes)
        if fits == "will not fit" and study(name).streams(several[0].cell):
            fits = "comes block by block"
        shared = f" + {_time(several[0].shared)} once" if several[0].shared >= 1 else ""
        yield (
            f"  {name} {model} {method}: {len(several)} x {_times(seconds)}{shared}, "
            f"{_bytes(memory)}{f', {fits}' if fits not in ('', 'fits') else ''}  [{basis}]"
        )


def _totals(found: Sequence[Estimate], most: int) -> Iterator[str]:
    known = [one for one in found if math.isfinite(one.seconds.high)]
    for workers in sorted({1, most}) if known else ():
        who = "one worker" if workers == 1 else f"{workers} workers"
        cells = count(len(known), "cell")
        yield f"{cells} on {who}: {_times(schedule(known, workers))}, models loaded"
    if len(known) < len(found):
        unknown = len(found) - len(known)
        verb = "has" if unknown == 1 else "have"
        yield f"{count(unknown, 'cell')} {verb} no basis for an upper bound: rehearse one first"


class _Rate:
    """The device's own limit, measured when a cell has no better basis."""

    def __init__(self, device: environment.Device) -> None:
        self._device = device
        self._flops = 0.0

    def at_least(self, cell: Cell) -> float:
        """Return the seconds of a cell's forward passes at the measured rate of products."""
        tokens = sum(_tokens(cell).values())
        if not tokens:
            return 0.0
        if not self._flops:
            from benchsuite.harness.scheduling.limits import product_rate

            self._flops = product_rate(self._device.torch_name)
        return 2 * catalog.model(cell.model).n_parameters * tokens / self._flops


def _tokens(cell: Cell) -> dict[str, int]:
    """Return the tokens that go through the model, by stage, as far as parameters count them."""
    declared, found = study(cell.study), dict[str, int]()
    for name, parameter in declared.parameters.items():
        for stage in parameter.tokens_of:
            # Methods without randomness of their own read no text while they are made.
            read = not (stage in declared.making and cell.method in declared.once)
            found[stage] = found.get(stage, 1) * read * (cell.parameters.get(name) or 0)
    return found


def _method(cell: Cell) -> str:
    return "-".join(str(v) for k, v in cell.axes.items() if k not in ("model", "seed"))


def _union(spans: Sequence[Span]) -> Span:
    return Span(min(s.low for s in spans), max(s.high for s in spans))


def _times(span: Span) -> str:
    if not math.isfinite(span.high):
        return f"at least {_time(span.low)}" if span.low else "unknown time"
    return f"{_time(span.low)} to {_time(span.high)}"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.{1 if seconds < 10 else 0}f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _bytes(span: Span) -> str:
    if not math.isfinite(span.high):
        return f"at least {span.low / GIB:.1f} GiB"
    return f"{span.low / GIB:.1f} to {span.high / GIB:.1f} GiB"
