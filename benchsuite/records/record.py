"""What a cell leaves, typed: what was measured, on what, how long it took, or how it failed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchsuite.records.fingerprint import Fingerprint
from benchsuite.study.cell import Cell

TIME = "_time_sec"
"""What the source documents put behind the name of a stage for its seconds."""


@dataclass(frozen=True)
class CellFacts:
    """Which cell: its study, its id and file name, its point of the grid and its parameters.

    ``changed`` are the parameters that are not the study's default. All values are as JSON keeps
    them: a study's tuples are lists here.
    """

    study: str
    id: str
    name: str
    axes: Mapping[str, Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    changed: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, cell: Cell) -> "CellFacts":
        """Return the facts of a cell."""
        tables = (dict(cell.axes), dict(cell.parameters), cell.changed)
        return cls(cell.study, cell.id, cell.name, *map(_as_json, tables))

    @property
    def model(self) -> str:
        """The catalogue name of the model."""
        return self.axes["model"]

    @property
    def method(self) -> str:
        """The method under test; nothing for a study that has no such axis."""
        return self.axes.get("method", "")

    @property
    def seed(self) -> int:
        """The seed from which everything random in the cell was drawn."""
        return self.axes["seed"]


@dataclass(frozen=True)
class Source:
    """Where the weights came from.

    ``weights`` is embedded, hub, local, dequantized, random, checkpoint or (a file of the study
    documents' own) unknown, and None where the cell ended before it had a model. ``stand_in`` says
    why the weights only stand in for the model. ``hub_id`` is the model's name on the hub.
    """

    weights: str | None = None
    stand_in: str | None = None
    weights_digest: str | None = None
    hub_id: str = ""


@dataclass(frozen=True)
class Times:
    """Seconds by stage: ``spent`` this time, and ``reported`` in the place of what was spent.

    ``making`` is the source documents' total, over the stages that make what the study tries; None
    where nobody measured it. ``contended`` says that another cell ran on the device.

    A stage may hold work that is done once for many cells. It reports ``STAGE_shared``, the seconds
    of that, and ``STAGE_spent``, what the cell really spent; the stage itself is the whole.
    """

    spent: Mapping[str, float] = field(default_factory=dict)
    reported: Mapping[str, float] = field(default_factory=dict)
    making: float | None = None
    contended: bool = False

    def of(self, stage: str) -> float | None:
        """Return the seconds of a stage: as reported, else as spent, else None."""
        return self.reported.get(stage, self.spent.get(stage))

    def all(self) -> dict[str, float]:
        """Return every stage's seconds, as reported where they are."""
        return {**self.spent, **self.reported}

    @property
    def total(self) -> float:
        """All that was spent, judging included."""
        return sum(self.spent.values())

    @property
    def shared(self) -> float:
        """What the cell needs that is computed once for many cells, whoever computed it."""
        return sum(self.reported.get(f"{stage}_shared", 0.0) for stage in self.spent)

    @property
    def paid(self) -> float:
        """The part of that which this very cell computed, for others too."""
        return sum(map(self.paid_in, self.spent))

    def paid_in(self, stage: str) -> float:
        """Return the part of ``paid`` that was spent in a stage."""
        shared, spent = (self.reported.get(f"{stage}_{k}", 0.0) for k in ("shared", "spent"))
        return max(spent - ((self.of(stage) or 0.0) - shared), 0.0)


@dataclass(frozen=True)
class Items:
    """The Parquet file beside the record that holds its per-item evidence."""

    file: str
    columns: tuple[str, ...]
    sha256: str | None


@dataclass(frozen=True)
class Failure:
    """Why a cell has no result, and the stage in which it ended."""

    message: str
    stage: str

    @property
    def last_line(self) -> str:
        """The last line of the message, which says most in the least room."""
        lines = self.message.strip().splitlines()
        return lines[-1] if lines else "no message"


@dataclass(frozen=True)
class Record:
    """One measurement, or an attempt at one: a crashed or failed cell has empty ``values``.

    ``values`` are equal for equal bits; ``clocked`` differ from run to run. ``results_sha256`` is
    the digest of the values and items, ``sha256`` that of the whole file. Both are empty for a file
    of the source documents' own, whose ``fingerprint`` is of nothing.
    """

    cell: CellFacts
    fingerprint: Fingerprint
    environment: Mapping[str, Any] = field(default_factory=dict)
    source: Source = Source()
    times: Times = Times()
    values: Mapping[str, Any] = field(default_factory=dict)
    clocked: Mapping[str, Any] = field(default_factory=dict)
    items: Items | None = None
    outcome: str = "passed"
    failure: Failure | None = None
    started_at: str = ""
    peak_memory_bytes: int | None = None
    results_sha256: str = ""
    sha256: str = ""

    @property
    def passed(self) -> bool:
        """Whether the cell was measured."""
        return self.outcome == "passed"

    @property
    def kind(self) -> str:
        """What the numbers may be used for: real, stand_in or rehearsal."""
        if self.source.weights == "random":
            return "rehearsal"
        return "stand_in" if self.source.stand_in else "real"

    @property
    def device_kind(self) -> str:
        """The kind of device: cpu, cuda or unknown."""
        return str(self.environment.get("device_kind") or "unknown")

    @property
    def device_name(self) -> str:
        """The device with its kind, ``cuda: NVIDIA H200``."""
        device = self.environment.get("device")
        kind = self.device_kind
        return f"{kind}: {device}" if device and device != kind else kind

    def value(self, name: str) -> Any:
        """Return a measured value, None if there is none; ``downstream.mmlu`` looks inside.

        Values, what was clocked, the source documents' times (``quant_time_sec``), the peak memory.
        """
        for table in (self.values, self.clocked):
            found = inside(table, name)
            if found is not None:
                return found
        if name == "peak_memory_bytes":
            return self.peak_memory_bytes
        stage = name.removesuffix(TIME)
        if stage == name:
            return None
        return self.times.making if stage == "total" else self.times.of(stage)


def inside(table: Mapping[str, Any], name: str) -> Any:
    """Return the value of a name, None if there is none; a dot looks into the tables."""
    if name in table:
        return table[name]
    found: Any = table
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _as_json(table: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(table, default=str))
