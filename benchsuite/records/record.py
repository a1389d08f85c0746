"""What a cell leaves: a JSON record in the study documents' keys, and how it is built."""

import contextlib
import datetime
import math
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from benchsuite import catalog
from benchsuite.errors import BenchsuiteError, CorruptRecord
from benchsuite.records.fingerprint import Fingerprint, digest
from benchsuite.study import STUDIES, Cell

if TYPE_CHECKING:
    import numpy as np

SCHEMA_VERSION = 1
Record = dict[str, Any]


class RecordBuilder:
    """Collects what a cell measures; the plugin turns it into the stored record.

    ``stage`` times a part of the cell and names it in progress and errors, ``update`` adds
    measured values, ``items`` adds per-item evidence for the Parquet side file, ``provenance``
    says what the weights are.
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
        self.columns: dict[str, np.ndarray] = {}
        self.timings: dict[str, float] = {}
        self.reported_times: dict[str, float] = {}
        self.clocked: dict[str, Any] = {}
        self.source: dict[str, Any] = {"weights": None, "stand_in": None}
        self.checks: list[Callable[[], None]] = []
        self._on_stage = on_stage
        self._peak = _PeakMemory()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage, in seconds, as ``timings[name]`` and ``{name}_time_sec``."""
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

    def update(self, **values: Any) -> None:
        """Add measured values: numbers, strings, lists and dicts of them."""
        self.values |= values

    def __getitem__(self, name: str) -> Any:
        """Return a value measured so far."""
        return self.values[name]

    def items(self, **columns: Any) -> None:
        """Add per-item evidence: one-dimensional columns, equally long in one call.

        Items of another kind (questions beside chunks of text) come by a call of their own.
        """
        import numpy as np

        self.columns |= {name: np.asarray(column) for name, column in columns.items()}
        lengths = {name: len(self.columns[name]) for name in columns}
        if len(set(lengths.values())) > 1:
            raise BenchsuiteError(
                f"per-item columns of unequal length: {lengths}", self.cell.id, "one row per item"
            )

    def provenance(self, **facts: Any) -> None:
        """Say where the weights come from: ``weights``, ``stand_in``, ``weights_digest``."""
        self.source |= facts

    def time(self, name: str, seconds: float) -> None:
        """Report ``{name}_time_sec`` as something else than the seconds spent in the stage.

        The standalone cost of a selection whose features were already there, for instance.
        """
        self.reported_times[name] = seconds

    def clock(self, **facts: Any) -> None:
        """Add measured times and memory: values that differ from run to run, like a latency."""
        self.clocked |= facts

    def finish(
        self, outcome: str, *, contended: bool = False, error: Mapping[str, str] | None = None
    ) -> Record:
        """Return the record, without the digests that the store adds."""
        values, not_finite = _finite(self.values)
        if not_finite and outcome == "passed":
            raise BenchsuiteError(
                f"{', '.join(not_finite)} is not a finite number",
                self.cell.id,
                "look at the weights and at the evaluated text; the record keeps what was measured",
            )
        spent = self.timings | self.reported_times
        making = self._making()
        measured = {**self.timings, "total": sum(self.timings.values()), "contended": contended}
        times = {f"{name}_time_sec": seconds for name, seconds in spent.items()}
        return {
            "model": catalog.model(self.cell.model).hub_id,
            **{k: v for k, v in self.cell.axes.items() if k != "model"},
            **self.cell.parameters,
            **times,
            "total_time_sec": sum(spent[name] for name in spent if name in making),
            **values,
            **_finite(self.clocked)[0],
            "schema_version": SCHEMA_VERSION,
            "cell": cell_facts(self.cell),
            "fingerprint": self.fingerprint.as_dict(),
            "environment": self.environment,
            **self.source,
            "peak_memory_bytes": self._peak.fold(),
            "timings": measured,
            "started_at": self.started_at,
            "outcome": outcome,
            "error": dict(error) if error else None,
            "results_sha256": self.results_digest(),
        }

    def _making(self) -> Collection[str]:
        """Return the stages that the study counts: those that make what it tries, or all."""
        declared = STUDIES.get(self.cell.study)
        return declared.making if declared and declared.making else self.timings.keys()

    def results_digest(self) -> str:
        """Return the digest of everything measured except times: equal bits, equal digest."""
        columns = {name: _column_digest(column) for name, column in self.columns.items()}
        return digest([_finite(self.values)[0], columns])


def cell_facts(cell: Cell) -> dict[str, Any]:
    """Return the record's ``cell`` object."""
    return {
        "study": cell.study,
        "id": cell.id,
        "name": cell.name,
        "axes": dict(cell.axes),
        "parameters": dict(cell.parameters),
        "changed": cell.changed,
    }


def crashed(cell_object: Mapping[str, Any], marker: Mapping[str, Any], message: str) -> Record:
    """Return the record of a cell whose process died, from the marker it left behind."""
    return {
        "model": catalog.model(cell_object["axes"]["model"]).hub_id,
        **{k: v for k, v in cell_object["axes"].items() if k != "model"},
        **cell_object["parameters"],
        "schema_version": SCHEMA_VERSION,
        "cell": dict(cell_object),
        "fingerprint": dict(marker["fingerprint"]),
        "environment": dict(marker["environment"]),
        "weights": None,
        "stand_in": None,
        "started_at": marker["started_at"],
        "outcome": "crashed",
        "error": {"message": message, "stage": marker.get("stage", "unknown")},
    }


def seal(record: Record) -> Record:
    """Return the record with ``record_sha256`` over all the rest, by which edits are noticed."""
    body = {k: v for k, v in record.items() if k != "record_sha256"}
    return body | {"record_sha256": digest(body)}


def verify(record: Any, path: Any) -> Record:
    """Return a record read from ``path`` if it is whole; raise `CorruptRecord` otherwise."""
    if not isinstance(record, dict) or "record_sha256" not in record or "cell" not in record:
        raise CorruptRecord("not a record: the object lacks record_sha256 or cell", str(path))
    if seal(record)["record_sha256"] != record["record_sha256"]:
        raise CorruptRecord("the record was changed after it was written", str(path))
    return record


def now() -> str:
    """Return the time in ISO 8601, UTC, to the millisecond."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def _finite(value: Any, where: str = "") -> tuple[Any, list[str]]:
    """Replace non-finite floats by None, and name them: JSON has no NaN."""
    if isinstance(value, Mapping):
        pairs = {k: _finite(v, f"{where}.{k}".lstrip(".")) for k, v in value.items()}
        return {k: v for k, (v, _) in pairs.items()}, [b for _, bad in pairs.values() for b in bad]
    if isinstance(value, list | tuple):
        items = [_finite(v, f"{where}[{i}]") for i, v in enumerate(value)]
        return [v for v, _ in items], [b for _, bad in items for b in bad]
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None, [where]
    return value, []


def _column_digest(column: "np.ndarray") -> str:
    import hashlib

    if column.dtype.kind in "OUT":
        return digest(column.tolist())
    return hashlib.sha256(column.tobytes()).hexdigest()


def _synchronize() -> None:
    cuda = _cuda()
    if cuda is not None:
        cuda.synchronize()


class _PeakMemory:
    """Peak bytes since creation: of the GPU where CUDA is in use, of this process otherwise."""

    def __init__(self) -> None:
        self._highest = {"cuda": 0, "resident": 0}
        with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        cuda = _cuda()
        if cuda is not None:
            cuda.reset_peak_memory_stats()

    def fold(self) -> int | None:
        """Return the highest mark of all calls so far, that of this moment included."""
        cuda = _cuda()
        kind, mark = "resident", _resident_peak()
        if cuda is not None:
            kind, mark = "cuda", int(cuda.max_memory_allocated())
        self._highest[kind] = max(self._highest[kind], mark)
        return self._highest[kind] or None


def _cuda() -> Any:
    """Return ``torch.cuda`` if this process uses it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda
    return None


def _resident_peak() -> int:
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
