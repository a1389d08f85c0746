"""A cell's record while it grows: what is measured is timed, converted and kept apart by name."""

import contextlib
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from benchsuite import catalog
from benchsuite.errors import BenchsuiteError, CorruptRecord
from benchsuite.models import resident
from benchsuite.printable import without_surrogates
from benchsuite.records.fingerprint import Fingerprint, digest
from benchsuite.records.forms import nested, now, sealed
from benchsuite.records.reading import Misdeclared, check_metrics, record_of
from benchsuite.records.record import TIME, CellFacts, Failure, Record, Source, Times, inside
from benchsuite.study import Cell, names, study
from benchsuite.study.declared import RESERVED

if TYPE_CHECKING:
    import numpy as np

    from benchsuite.records.running import Marker


class RecordBuilder:
    """Collects what a cell measures; the plugin turns it into the stored record.

    ``stage`` times a part of the cell and names it in progress and errors, ``update`` adds
    measured values, ``clock`` those that differ from run to run, ``items`` adds per-item evidence
    for the Parquet side file, ``provenance`` says what the weights are. A name means one thing in
    a record: one that is taken is an error, but for the same value again.
    """

    def __init__(
        self,
        cell: Cell,
        fingerprint: Fingerprint,
        environment: Mapping[str, Any],
        on_stage: Callable[[str], None] = lambda stage: None,
    ) -> None:
        self.cell, self.fingerprint, self.environment = cell, fingerprint, dict(environment)
        # The name of its running marker: setting up may refine the fingerprint.
        self.begun_as = fingerprint.value
        self.started_at = now()
        self.current_stage = "setup"
        self.values: dict[str, Any] = {}
        self.clocked: dict[str, Any] = {}
        self.columns: dict[str, np.ndarray[Any, Any]] = {}
        self.timings: dict[str, float] = {}
        self.reported_times: dict[str, float] = {}
        self.source = Source(hub_id=catalog.model(cell.model).hub_id)
        self.checks: list[Callable[[], None]] = []
        self._not_finite: list[str] = []
        self._on_stage = on_stage
        self._peak = _PeakMemory()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage, in seconds, as ``timings[name]`` and ``{name}_time_sec``."""
        self._name_time(name)
        self.current_stage = name
        self._on_stage(name)
        _synchronize()
        self._peak.fold()
        start = time.perf_counter()
        yield
        _synchronize()
        # A stage that measures memory itself resets the process's mark: keep what was seen so far.
        self._peak.fold()
        self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - start
        self.current_stage = "between stages"

    def time(self, name: str, seconds: float) -> None:
        """Report ``{name}_time_sec`` as something else than the seconds spent in the stage.

        The standalone cost of a selection whose features were already there, for instance.
        """
        self._name_time(name)
        found = self._plain(f"record.time({name!r})", seconds, [])
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise self._wrong(f"record.time({name!r}): {seconds!r} is no number of seconds")
        self._once("record.time", name, self.reported_times, float(found))
        self.reported_times[name] = float(found)

    def update(self, **values: Any) -> None:
        """Add measured values: numbers, texts, arrays, and lists and dicts of them."""
        self._add("record.update", self.values, values, self._not_finite)

    def clock(self, **facts: Any) -> None:
        """Add measured times and memory: values that differ from run to run, like a latency."""
        self._add("record.clock", self.clocked, facts, [])

    def __getitem__(self, name: str) -> Any:
        """Return a value measured so far."""
        return self.values[name]

    def items(self, **columns: Any) -> None:
        """Add per-item evidence: one-dimensional columns, equally long in one call.

        Items of another kind (questions beside chunks of text) come by a call of their own.
        """
        from benchsuite.records.convert import Refused, column

        try:
            found = {name: column(values, name) for name, values in columns.items()}
        except Refused as error:
            raise self._wrong(f"record.items: {error.where}: {error.what}", error.fix) from error
        lengths = {name: len(array) for name, array in found.items()}
        if len(set(lengths.values())) > 1:
            raise self._wrong(f"per-item columns of unequal length: {lengths}", "one row per item")
        for name, array in found.items():
            if name in self.columns and _digest_of(self.columns[name]) != _digest_of(array):
                raise self._wrong(f"record.items: the column {name!r} has other items already")
            self._refuse_texts_for_metric(name, array)
        self.columns |= found

    def provenance(self, **facts: str | None) -> None:
        """Say where the weights come from: ``weights``, ``stand_in``, ``weights_digest``.

        What is said later counts: a checkpoint takes the place of the model it was made from.
        """
        told = {"weights", "stand_in", "weights_digest"}
        for name, fact in facts.items():
            if name not in told or not isinstance(fact, str | None):
                what = f"record.provenance({name}={fact!r}) says nothing of the weights"
                raise self._wrong(what, f"give a text for any of {', '.join(sorted(told))}")
        self.source = Source(**{**vars(self.source), **facts})

    def finish(
        self, outcome: str, *, contended: bool = False, failure: Failure | None = None
    ) -> Record:
        """Return the record, without the digests that the store adds."""
        if self._not_finite and outcome == "passed":
            raise self._wrong(
                f"{', '.join(self._not_finite)} is not a finite number",
                "look at the weights and at the evaluated text; the record keeps what was measured",
            )
        record = self._record(outcome, contended, failure)
        try:
            # What would not be read back is refused now, while somebody looks.
            record_of(sealed(nested(record)))
        except CorruptRecord as error:
            raise self._wrong(f"its record would be {error.what}", "hand over another") from error
        return record

    def _record(self, outcome: str, contended: bool, failure: Failure | None) -> Record:
        times, stages = Times(self.timings, self.reported_times), self._making()
        making = sum(s for name, s in times.all().items() if name in stages)
        return Record(
            cell=CellFacts.of(self.cell),
            fingerprint=self.fingerprint,
            environment=self.environment,
            source=self.source,
            times=Times(dict(self.timings), dict(self.reported_times), making, contended),
            values=dict(self.values),
            clocked=dict(self.clocked),
            outcome=outcome,
            failure=None if failure is None else _as_text(failure),
            started_at=self.started_at,
            peak_memory_bytes=self._peak.fold(),
            results_sha256=self.results_digest(),
        )

    def _making(self) -> Collection[str]:
        """Return the stages that the study counts: those that make what it tries, or all."""
        declared = study(self.cell.study) if self.cell.study in names() else None
        return declared.making if declared and declared.making else self.timings.keys()

    def results_digest(self) -> str:
        """Return the digest of everything measured except times: equal bits, equal digest."""
        columns = {name: _digest_of(column) for name, column in self.columns.items()}
        return digest([self.values, columns])

    # --- what a name may mean

    def _add(
        self, who: str, table: dict[str, Any], values: Mapping[str, Any], lost: list[str]
    ) -> None:
        for name, value in values.items():
            found = self._plain(f"{who}({name}=...)", value, lost, name)
            self._once(who, name, table, found)
            self._free(who, name, table)
            self._refuse_text_for_metric(who, name, found)
            table[name] = found

    def _plain(self, who: str, value: Any, lost: list[str], name: str = "") -> Any:
        from benchsuite.records.convert import Refused, plain

        try:
            found, not_finite = plain(value, name)
        except Refused as error:
            inside = f" at {error.where}" if error.where != name else ""
            raise self._wrong(f"{who}{inside}: {error.what}", error.fix) from error
        lost += not_finite
        return found

    def _once(self, who: str, name: str, table: Mapping[str, Any], value: Any) -> None:
        if name in table and digest(table[name]) != digest(value):
            was, now = (repr(one)[:60] for one in (table[name], value))
            what = f"{who}: {name!r} is {was} already, and would become {now}"
            raise self._wrong(what, "choose another name, or say it once")

    def _free(self, who: str, name: str, table: Mapping[str, Any]) -> None:
        """Raise unless a name is free in the source documents' flat form, but for its own table."""
        taken = (
            (self.cell.axes, "an axis of the study"),
            (self.cell.parameters, "a parameter of the study"),
            (RESERVED, "a key of every record"),
            ({f"{stage}{TIME}" for stage in self._stages()}, "the time of a stage"),
            (self.values, "a value of record.update"),
            (self.clocked, "a fact of record.clock"),
        )
        for others, what in taken:
            if others is not table and name in others:
                raise self._wrong(f"{who}: {name!r} is {what} already", "choose another name")

    def _refuse_text_for_metric(self, who: str, name: str, value: Any) -> None:
        """Raise unless a value that the study compares is a number, while somebody looks."""
        try:
            check_metrics(self.cell.study, lambda metric: inside({name: value}, metric))
        except Misdeclared as error:
            raise self._wrong(f"{who}: {error.what}", error.fix) from error

    def _refuse_texts_for_metric(self, name: str, column: "np.ndarray[Any, Any]") -> None:
        """Raise if a column of which the study makes a metric holds no numbers."""
        declared = study(self.cell.study).metrics if self.cell.study in names() else ()
        for metric in declared:
            read = {*(metric.items or ())[:1], *(metric.ranking or ())}
            if name in read and column.dtype.kind not in "biuf":
                raise self._wrong(
                    f"record.items: the column {name!r} holds texts, and the metric {metric.name} "
                    f"of study {self.cell.study} is made of it",
                    "hand over numbers, or true and false",
                )

    def _stages(self) -> set[str]:
        return {*self.timings, *self.reported_times}

    def _name_time(self, name: str) -> None:
        key = f"{name}{TIME}"
        taken = {*self.cell.axes, *self.cell.parameters, *RESERVED, *self.values, *self.clocked}
        if key in taken or name in ("total", "contended"):
            raise self._wrong(f"the stage {name!r} gives {key!r}, a name that is taken")

    def _wrong(self, what: str, fix: str = "") -> BenchsuiteError:
        return BenchsuiteError(what, self.cell.id, fix or "choose another name")


def crashed(marker: "Marker", message: str) -> Record:
    """Return the record of a cell whose process died, from the marker it left behind."""
    return Record(
        cell=marker.cell,
        fingerprint=marker.fingerprint,
        environment=marker.environment,
        source=Source(hub_id=catalog.model(marker.cell.model).hub_id),
        outcome="crashed",
        failure=Failure(message, marker.stage),
        started_at=marker.started_at,
    )


def _as_text(failure: Failure) -> Failure:
    return Failure(without_surrogates(failure.message), without_surrogates(failure.stage))


def _digest_of(column: "np.ndarray[Any, Any]") -> str:
    import hashlib

    if column.dtype.kind in "OUT":
        return digest(column.tolist())
    return hashlib.sha256(column.tobytes()).hexdigest()


def _synchronize() -> None:
    cuda = _cuda()
    if cuda is not None:
        for number in range(cuda.device_count()):
            cuda.synchronize(number)


class _PeakMemory:
    """Peak bytes since creation: of a GPU where CUDA is in use, of this process otherwise.

    Of several GPUs the one that held most counts.

    Where the system does not let a process lower its own mark, the peak of the process may be an
    earlier cell's: then it is unknown.
    """

    def __init__(self) -> None:
        self._highest = {"cuda": 0, "resident": 0}
        self._is_own = resident.lower_mark()
        cuda = _cuda()
        if cuda is not None:
            for number in range(cuda.device_count()):
                cuda.reset_peak_memory_stats(number)

    def fold(self) -> int | None:
        """Return the highest mark of all calls so far, that of this moment included."""
        cuda = _cuda()
        kind, mark = "resident", resident.peak_bytes() if self._is_own else 0
        if cuda is not None:
            marks = map(cuda.max_memory_allocated, range(cuda.device_count()))
            kind, mark = "cuda", max(map(int, marks))
        self._highest[kind] = max(self._highest[kind], mark)
        return self._highest[kind] or None


def _cuda() -> Any:
    """Return ``torch.cuda`` if this process uses it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda
    return None
