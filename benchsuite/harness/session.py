"""One process' part of a session: which cells there are, which must run, what they left."""

import errno
import functools
import gc
import logging
import os
import random
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from benchsuite import catalog, engines
from benchsuite.errors import BenchsuiteError
from benchsuite.harness import inputs
from benchsuite.harness.options import Options
from benchsuite.harness.scheduling.devices import TakenGpu
from benchsuite.records import environment
from benchsuite.records.building import RecordBuilder
from benchsuite.records.fingerprint import Fingerprint, code_digest, digest
from benchsuite.records.record import CellFacts, Failure, Record
from benchsuite.records.store import Store
from benchsuite.study import Study, study
from benchsuite.study.cell import Cell

logger = logging.getLogger("benchsuite")

PROPERTY = "benchsuite"


@dataclass
class Decision:
    """What is to be done about one cell, and why."""

    cell: Cell
    state: str  # "cached", "stale", "missing", "failed", "blocked"
    fingerprint: Fingerprint | None = None
    record: Record | None = None
    reasons: list[str] = field(default_factory=list)
    error: BenchsuiteError | None = None


@dataclass
class Bench:
    """The state of a session in this process, kept in ``config.stash``."""

    options: Options
    store: Store
    rootpath: Path
    gpu: TakenGpu | None = None
    far_device: environment.Device | None = None
    _cells: dict[str, list[Cell]] = field(default_factory=dict)

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
        return environment.describe(self.device, self.options.cell_threads)

    @property
    def digest_cache(self) -> Path:
        """Where digests of large files are remembered between sessions."""
        return self.store.root / "file_digests.json"

    def cells(self, name: str, seeds: Sequence[int] = ()) -> list[Cell]:
        """Return the grid of a study under the options in force, or over other ``seeds``."""
        if seeds:
            return self._grid(name, seeds)
        if name not in self._cells:
            self._cells[name] = self._grid(name, self.options.seeds)
        return self._cells[name]

    def _grid(self, name: str, seeds: Sequence[int]) -> list[Cell]:
        declared = study(name)
        first = {"downstream_tasks": True} if "downstream_tasks" in declared.parameters else {}
        every = first if self.options.downstream == "all" else {}
        lender = self.options.settings.get(declared.settings_of, {})
        lent = {k: v for k, v in lender.items() if k in declared.parameters}
        return list(
            declared.cells(
                seeds=seeds or None,
                settings=every | lent | dict(self.options.settings.get(name, {})),
                first_seed=first if self.options.downstream == "first" else None,
                tour=self.options.tour,
            )
        )

    def weights_of(self, cell: Cell) -> str:
        """Say which kind of weights the cell's model has: embedded, hub, local or random."""
        return inputs.weights_kind(cell.model, self.options)

    def fingerprint(self, cell: Cell, benchmark: Path) -> Fingerprint:
        """Return the identity of the cell's measurement; ``benchmark`` is its test file."""
        declared = study(cell.study)
        numeric = environment.numeric_identity(self.environment, tuple(declared.packages(cell)))
        engine = declared.engine(cell)
        if engine is not None:
            numeric["engine"] = self.engine_versions(engine)
        return Fingerprint(
            inputs=digest(inputs.of_cell(declared, cell, self.options, self.digest_cache)),
            code=code_digest(tuple(declared.code(cell)), (benchmark,)),
            environment=digest(numeric),
        )

    def engine_python(self, name: str) -> str:
        """Return the interpreter that an engine's process runs under."""
        return self.options.engine_python.get(name, sys.executable)

    def engine_versions(self, name: str) -> dict[str, str]:
        """Return the versions of an engine's packages in its interpreter, or ``absent``."""
        return environment.versions_in(self.engine_python(name), engines.engine(name).packages)

    def decide(self, cell: Cell, benchmark: Path) -> Decision:
        """Look the cell up in the store."""
        try:
            fingerprint = self.fingerprint(cell, benchmark)
        except BenchsuiteError as error:
            return Decision(cell, "blocked", error=error)
        try:
            record = self.store.read(fingerprint.value)
            if record is not None:
                return Decision(cell, "cached", fingerprint, record)
            shown = self.store.exported(cell, self.weights_of(cell))
        except BenchsuiteError as error:
            return Decision(cell, "blocked", error=error)
        if shown is not None and shown.fingerprint != fingerprint:
            reasons = fingerprint.differs_from(shown.fingerprint.as_dict())
            return Decision(cell, "stale", fingerprint, shown, reasons)
        failed = self.store.failures(fingerprint.value)
        if failed:
            return Decision(cell, "failed", fingerprint, failed[-1])
        return Decision(cell, "missing", fingerprint)

    def saved_model(self, cell: Cell) -> Path:
        """Return the folder in which ``--save-models`` keeps a cell's quantized model."""
        return self.options.reports_dir / cell.study / "quantized_models" / cell.name

    def require(self, cell: Cell) -> None:
        """Raise `CellCannotRun` if this machine lacks what the cell needs."""
        inputs.require_packages(cell, study(cell.study).packages(cell))
        for name in inputs.model_names(study(cell.study), cell):
            inputs.require(catalog.model(name), self.options, self.device)

    # --- a cell that runs

    def start(self, decision: Decision, nodeid: str) -> RecordBuilder:
        """Mark the cell as running and return the builder of its record."""
        assert decision.fingerprint is not None
        device = self.device.uuid or self.device.kind
        facts, value = CellFacts.of(decision.cell), decision.fingerprint.value
        running = self.store.running
        running.begin(nodeid, facts, decision.fingerprint, self.environment, device)

        def on_stage(stage: str) -> None:
            running.stage(value, stage)

        return RecordBuilder(decision.cell, decision.fingerprint, self.environment, on_stage)

    def keep(
        self, builder: RecordBuilder, outcome: str, failure: Failure | None, log: str
    ) -> Record:
        """Write the cell's record and, if it is good, its exported view."""
        contended = self.store.running.was_crowded(builder.begun_as)
        contended |= self.gpu is not None and self.gpu.shared()
        record = builder.finish(outcome, contended=contended, failure=failure)
        stored = self.store.write(record, builder.columns, log)
        if stored.passed:
            self.store.export(builder.cell, stored)
        return stored


BENCH = pytest.StashKey[Bench]()


@functools.lru_cache(maxsize=1)
def _threadpools(n_modules: int) -> Any:
    """Return the loaded BLAS and OpenMP libraries; looked up again once more modules are there."""
    import threadpoolctl

    return threadpoolctl.ThreadpoolController()


@contextmanager
def isolated(seed: int, threads: int, use_torch: bool) -> Iterator[None]:
    """Seed every global generator from the cell's seed, fix its threads, and restore both after.

    Sums and Cholesky factors differ bitwise between thread counts, so that a cell's must not
    depend on how many cells run beside it.
    """
    import numpy as np

    python_state, numpy_state = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    torch_state = None
    if use_torch:
        import torch

        torch_state, torch_threads = torch.get_rng_state(), torch.get_num_threads()
        torch.manual_seed(seed)
        torch.set_num_threads(threads)
    try:
        with _threadpools(len(sys.modules)).limit(limits=threads):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        if torch_state is not None:
            torch.set_rng_state(torch_state)
            torch.set_num_threads(torch_threads)


def free_memory(excinfo: pytest.ExceptionInfo[BaseException] | None) -> None:
    """Let go of what a failed cell held, so that the next one has the memory."""
    if excinfo is not None:
        traceback.clear_frames(excinfo.tb)
    for name in ("last_value", "last_traceback", "last_exc"):
        with suppress(AttributeError):
            delattr(sys, name)
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def explain(error: BaseException, cell: Cell, stage: str) -> str | None:
    """Return one paragraph for an error that a user can mend; None asks for the traceback."""
    if isinstance(error, BenchsuiteError):
        return f"{cell.id}: {error}"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        said = (str(error) or type(error).__name__).splitlines()[0][:200]
        sizes = [n for n in ("n_calibration_samples", "seq_len") if n in cell.parameters]
        lower = f"Lower {' or '.join(sizes)} with --set {cell.study}.NAME=VALUE, choose"
        return (
            f"{cell.id}: out of memory in stage {stage!r} ({said}). {lower if sizes else 'Choose'} "
            "a smaller model, or run it alone on a device with more memory"
        )
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"{cell.id}: missing file {error.filename} in stage {stage!r}. Restore it and rerun"
    if isinstance(error, OSError) and error.errno in _DISK:
        place = f" ({error.filename})" if error.filename else ""
        return (
            f"{cell.id}: {_DISK[error.errno]} in stage {stage!r}{place}. Make room, or name "
            "another folder with --reports-dir, and rerun: what is finished is kept"
        )
    return None


_DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
}


class CellLog(logging.Handler):
    """Collects what the measuring code logs during one cell: the record's ``.log`` side file."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        self.lines.append(self.format(record))

    def text(self) -> str:
        """Return the log so far."""
        return "".join(f"{line}\n" for line in self.lines)


def limit_threads(threads: int) -> None:
    """Set the thread counts that libraries read when they are first imported."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def cell_study(cell: Cell) -> Study:
    """Return the study that declares a cell."""
    return study(cell.study)
