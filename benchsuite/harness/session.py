"""One process' part of a session: which cells there are, which must run, what they left."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from benchsuite import catalog, engines
from benchsuite.errors import BenchsuiteError
from benchsuite.harness import inputs
from benchsuite.harness.decision import Decision, Identity, State
from benchsuite.harness.options import Options
from benchsuite.harness.scheduling.devices import TakenGpus
from benchsuite.records import environment, parts
from benchsuite.records.building import RecordBuilder
from benchsuite.records.code import Place, code_of, reaches
from benchsuite.records.files import fitting_name
from benchsuite.records.fingerprint import Fingerprint, digest
from benchsuite.records.record import CellFacts, Failure, Record
from benchsuite.records.store import Store
from benchsuite.study import Cell, study
from benchsuite.study.grid import grid_under

PROPERTY = "benchsuite"


@dataclass
class Bench:
    """The state of a session in this process, kept in ``config.stash``.

    ``where`` are the words by which pytest was told to find the cells, ``tests`` the node of each
    study's test.
    """

    options: Options
    store: Store
    rootpath: Path
    plugins: tuple[str, ...] = ()
    where: tuple[str, ...] = ("benchmarks",)
    taken: TakenGpus | None = None
    far_device: environment.Device | None = None
    tests: dict[str, str] = field(default_factory=dict)
    _cells: dict[str, list[Cell]] = field(default_factory=dict)
    _identities: dict[tuple[Any, ...], Identity] = field(default_factory=dict)
    _code: dict[tuple[Any, ...], tuple[Mapping[str, str], str, bool]] = field(default_factory=dict)

    @classmethod
    def of(cls, config: pytest.Config) -> "Bench":
        """Return the session's state."""
        return config.stash[BENCH]

    @property
    def device(self) -> environment.Device:
        """The device that this process' cells run on, or those that it has run elsewhere."""
        return self.far_device or environment.choose_device(self.options.device)

    @property
    def environment(self) -> dict[str, Any]:
        """The ``environment`` object of this process' records."""
        return environment.describe(
            self.device, self.options.cell_threads, self.options.gpus_per_cell
        )

    @property
    def numeric(self) -> dict[str, Any]:
        """What of the environment may change a number: versions, device, threads."""
        return environment.numeric_identity(self.environment)

    @property
    def torch_devices(self) -> list[str]:
        """The torch devices of a cell in this process, its models' own first."""
        if self.device.kind != "cuda":
            return [self.device.torch_name]
        return [f"cuda:{number}" for number in range(self.options.gpus_per_cell)]

    def cells(self, name: str, seeds: Sequence[int] = ()) -> list[Cell]:
        """Return the grid of a study under the options in force, or over other ``seeds``."""
        if seeds:
            return self._grid(name, seeds)
        if name not in self._cells:
            self._cells[name] = self._grid(name, self.options.seeds)
        return self._cells[name]

    def _grid(self, name: str, seeds: Sequence[int]) -> list[Cell]:
        """Return the cells that the session has: the study's, or those of its plan."""
        if self.options.plan is None:
            return self.grid(name, seeds)
        planned = self.options.plan.studies.get(name)
        if planned is None:
            return []
        wanted = seeds or planned.seeds[: planned.looks[0]]
        cells = self.grid(name, planned.seeds)
        return [cell for cell in cells if cell.id in planned.cells and cell.seed in wanted]

    def grid(self, name: str, seeds: Sequence[int]) -> list[Cell]:
        """Return the study's grid under the options in force, over its own or other ``seeds``."""
        chosen = self.options
        return grid_under(
            name,
            seeds,
            settings=chosen.settings,
            tour=chosen.tour,
            downstream=chosen.downstream,
        )

    def weights_of(self, cell: Cell) -> str:
        """Say which kind of weights the cell's model has: embedded, hub, local or random."""
        return inputs.weights_kind(cell.model, self.options)

    def identity(self, cell: Cell, benchmark: Path) -> Identity:
        """Return the identity of the cell's measurement; ``benchmark`` is its test file.

        Worked out once a session, for the store is asked many times and the answer is the same.
        """
        key = (cell.study, cell.name, benchmark, self.device)
        if key not in self._identities:
            self._identities[key] = self._identify(cell, benchmark)
        return self._identities[key]

    def _identify(self, cell: Cell, benchmark: Path) -> Identity:
        declared = study(cell.study)
        numeric = environment.numeric_identity(self.environment, tuple(declared.packages(cell)))
        engine = declared.engine(cell)
        if engine is not None:
            numeric["engine"] = self.engine_versions(engine)
        code, of_code, uses_torch = self._code_of(cell.study, tuple(declared.code(cell)), benchmark)
        given = inputs.of_cell(declared, cell, self.options)
        found = {"inputs": given, "code": code, "environment": numeric}
        fingerprint = Fingerprint(digest(given), of_code, digest(numeric))
        return Identity(fingerprint, found, uses_torch)

    def _code_of(
        self, name: str, named: tuple[str, ...], benchmark: Path
    ) -> tuple[Mapping[str, str], str, bool]:
        """Return the code that measures a study's cells, its digest, and whether it is torch's.

        Worked out once a session, for most cells of a study share it.
        """
        key = (name, named, benchmark)
        if key not in self._code:
            place = Place(benchmark, self.rootpath, self.plugins)
            code = code_of(place, name, named)
            self._code[key] = code, digest(code), reaches(place, name, named, "torch")
        return self._code[key]

    def identify_again(self, decision: Decision) -> Decision:
        """Return the decision with the digests of what was downloaded meanwhile."""
        if decision.identity is None or not decision.identity.is_provisional:
            return decision
        key = (decision.cell.study, decision.cell.name, decision.benchmark, self.device)
        self._identities.pop(key, None)
        return replace(decision, identity=self.identity(decision.cell, decision.benchmark))

    def engine_python(self, name: str) -> str:
        """Return the interpreter that an engine's process runs under."""
        if engines.engine(name).program:
            return sys.executable
        return self.options.engine_python.get(name, sys.executable)

    def engine_program(self, name: str) -> str:
        """Return the executable that an engine's process starts, "" where there is none."""
        program = engines.engine(name).program
        return self.options.engine_python.get(name) or shutil.which(program) or program

    def engine_versions(self, name: str) -> dict[str, str]:
        """Return the versions of an engine's packages or program, or ``absent``."""
        if program := engines.engine(name).program:
            return {program: environment.version_of_program(self.engine_program(name))}
        return environment.versions_in(self.engine_python(name), engines.engine(name).packages)

    def decide(self, cell: Cell, benchmark: Path) -> Decision:
        """Say what the cell is, and what the store holds of it."""
        try:
            identity = self.identity(cell, benchmark)
        except BenchsuiteError as error:
            return Decision(cell, benchmark, State.BLOCKED, error=error)
        return self.look_up(Decision(cell, benchmark, State.MISSING, identity))

    def look_up(self, decision: Decision) -> Decision:
        """Return the decision by what the store holds now; another session may have filled it."""
        cell, identity = decision.cell, decision.identity
        assert identity is not None
        value = identity.fingerprint.value
        try:
            record = self.store.read(value)
            if record is not None:
                return replace(decision, state=State.CACHED, record=record)
            shown = self.store.exported(cell, self.weights_of(cell))
        except BenchsuiteError as error:
            return replace(decision, state=State.BLOCKED, error=error)
        if shown is not None and shown.fingerprint != identity.fingerprint:
            reasons = self._changed(identity, shown.fingerprint.as_dict())
            return replace(decision, state=State.STALE, record=shown, reasons=reasons)
        failed = self.store.failures(value)
        if failed:
            return replace(decision, state=State.FAILED, record=failed[-1])
        return replace(decision, state=State.MISSING, record=None)

    def _changed(self, identity: Identity, before: Mapping[str, str]) -> list[str]:
        """Name the inputs, the modules and the versions that differ from a stored record's."""
        return [
            parts.differences(self.store.root, name, before.get(name, ""), identity.parts[name])
            for name in identity.fingerprint.differs_from(before)
        ]

    def saved_model(self, cell: Cell) -> Path:
        """Return the folder in which ``--save-models`` keeps a cell's quantized model."""
        folder = self.options.reports_dir / cell.study / "quantized_models"
        return folder / fitting_name(cell.name)

    def require(self, cell: Cell) -> None:
        """Raise `CellCannotRun` if this machine lacks what the cell needs."""
        inputs.require_packages(cell, study(cell.study).packages(cell))
        for name in inputs.model_names(study(cell.study), cell):
            may_stream = self.may_stream(cell, name)
            inputs.require(catalog.model(name), self.options, self.device, may_stream=may_stream)

    def may_stream(self, cell: Cell, name: str) -> bool:
        """Say whether a model of the cell may be larger than the device, and come by blocks."""
        return name == cell.model and study(cell.study).streams(cell)

    # --- a cell that runs

    def start(
        self, decision: Decision, nodeid: str, *, run: str = "", worker: str = ""
    ) -> RecordBuilder:
        """Mark the cell as running and return the builder of its record.

        ``run`` and ``worker`` name the session and this process of it, for those who watch.
        """
        assert decision.fingerprint is not None
        device = self.device.uuid or self.device.kind
        facts, value = CellFacts.of(decision.cell), decision.fingerprint.value
        running, identity = self.store.running, decision.fingerprint
        running.begin(
            nodeid,
            decision.benchmark,
            facts,
            identity,
            self.environment,
            device,
            run=run,
            worker=worker,
            gpus=[gpu.uuid for gpu in self.taken.gpus] if self.taken else (),
        )

        def on_stage(stage: str) -> None:
            running.stage(value, stage)

        return RecordBuilder(decision.cell, decision.fingerprint, self.environment, on_stage)

    def keep(
        self,
        decision: Decision,
        builder: RecordBuilder,
        outcome: str,
        failure: Failure | None,
        log: str,
    ) -> Record:
        """Write the cell's record and, if it is good, its exported view."""
        assert decision.identity is not None
        found, digested = decision.identity.fingerprint, decision.identity.parts
        builder.fingerprint = found
        parts.keep(self.store.root, {k: (getattr(found, k), v) for k, v in digested.items()})
        contended = self.store.running.was_crowded(builder.begun_as)
        contended |= self.taken is not None and self.taken.shared()
        record = builder.finish(outcome, contended=contended, failure=failure)
        stored = self.store.write(record, builder.columns, log)
        if stored.passed:
            self.store.export(builder.cell, stored)
        return stored


BENCH = pytest.StashKey[Bench]()
