"""What goes into a cell, named by digest, and whether this machine can hold it."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchsuite import catalog
from benchsuite.catalog import ModelEntry, Sources
from benchsuite.errors import CellCannotRun, UsageError
from benchsuite.harness.options import Options
from benchsuite.records import environment
from benchsuite.records.environment import Device
from benchsuite.registry import added_entries
from benchsuite.study import Study, study
from benchsuite.study.cell import Cell

GIB = 2**30
# Beyond this a calibration or evaluation pass on a CPU takes days, not minutes.
CPU_WEIGHT_BYTES = 4 * GIB


def weights_kind(name: str, options: Options) -> str:
    """Say which weights a model runs with: checkpoint, embedded, random, local or hub."""
    if name in options.checkpoint:
        return "checkpoint"
    return options.sources.weights_of(catalog.model(name))


def corpus_in_force(name: str, cell: Cell, options: Options) -> str:
    """Return the corpus that a cell really reads: a rehearsal without the hub takes the embedded.

    Its numbers say nothing about quality in any case, and its tokens are as many.
    """
    rehearsal = weights_kind(cell.model, options) == "random"
    return "embedded_text" if rehearsal and name not in options.sources.local else name


# What a rehearsal asks in the place of a public set that it cannot have.
_REHEARSED = {"question": "passages", "choice": "four_choices", "problem": "word_problems"}


def task_in_force(cell: Cell, parameter: str, options: Options) -> str:
    """Return the task that a cell really asks; see `corpus_in_force`."""
    name = study(cell.study).task_of(cell, parameter)
    rehearsal = weights_kind(cell.model, options) == "random"
    entry = catalog.task(name)
    return _REHEARSED[entry.schema] if rehearsal and name not in options.sources.local else name


def of_cell(declared: Study, cell: Cell, options: Options) -> Mapping[str, Any]:
    """Return everything that decides the cell's numbers apart from code and environment."""
    from benchsuite.corpora import text_digest
    from benchsuite.models import hub_digest, weights_digest

    sources = options.sources
    published = published_checkpoint(declared, cell, options)
    weights = {
        name: hub_digest(*published)
        if published and name == cell.model
        else weights_digest(catalog.model(name), sources)
        for name in model_names(declared, cell)
    }
    corpora = {
        parameter: text_digest(corpus_in_force(cell[parameter], cell, options), split, sources)
        for parameter, split in declared.reading("corpus").items()
        if parameter in cell.parameters
    }
    tasks = _task_digests(declared, cell, options)
    files = [_file_digest(path) for path in declared.files(cell)]
    own = catalog.model(cell.model)
    registered = _registered(cell)
    return {
        **({"files": files} if files else {}),
        **({"registered": registered} if registered else {}),
        # The prompts are written with the model's own tokenizer, whichever checkpoint reads them.
        **({"tokenizer": hub_digest(own.hub_id, own.revision)} if published else {}),
        "study": cell.study,
        "axes": dict(cell.axes),
        "parameters": dict(cell.parameters),
        "weights": weights,
        "corpora": corpora,
        "tasks": tasks,
        "checkpoint": _checkpoint_digest(cell, options),
        "trusted": sorted(sources.trusted & set(weights)),
    }


def _task_digests(declared: Study, cell: Cell, options: Options) -> dict[str, str]:
    """Return what identifies the items of the cell's tasks, and of all splits that it reads."""
    from benchsuite.corpora import task_digest

    sources = options.sources
    beside = {task_in_force(cell, p, options): s for p, s in declared.reading("task").items()}
    found = {name: task_digest(name, catalog.task(name).split, sources) for name in beside}
    for name, split in beside.items():
        # The digests of the package's sets and of the hub's are of all their splits.
        if split and sources.folder(name) is not None:
            found[f"{name} {split}"] = _split_digest(name, split, sources)
    shown = [name for name, parameter in declared.parameters.items() if parameter.examples]
    if any(cell.parameters.get(name) for name in shown):
        for name in beside:
            split = catalog.task(name).examples
            found[f"{name} examples"] = _split_digest(name, split, sources)
    return found


def _registered(cell: Cell) -> dict[str, Any]:
    """Return what a user's conftest registered under the cell's names: settings, targets, engines.

    Where an engine's own code lies is no part of what it is.
    """
    found = added_entries((*cell.axes.values(), *cell.parameters.values()))
    for entry in found.values():
        if isinstance(entry, dict) and isinstance(entry.get("environment"), dict):
            entry["environment"].pop("PYTHONPATH", None)
    return found


def _split_digest(name: str, split: str, sources: Sources) -> str:
    """Return the digest of a further split of a task, "" where it has none and asks its own."""
    from benchsuite.corpora import task_digest
    from benchsuite.corpora.files import MissingSplit

    try:
        return task_digest(name, split, sources)
    except MissingSplit:
        return ""


def _file_digest(path: str) -> str:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", fix="check the path") from error


def published_checkpoint(declared: Study, cell: Cell, options: Options) -> tuple[str, str] | None:
    """Return the hub repository and revision that a cell loads as its model, or None."""
    return declared.published(cell) if weights_kind(cell.model, options) == "hub" else None


def model_names(declared: Study, cell: Cell) -> list[str]:
    """Return the catalogue names of the models that a cell loads."""
    values = {**cell.parameters, **cell.axes}
    named = (values.get(name) for name in declared.reading("model"))
    return list(dict.fromkeys(name for name in named if name))


def _checkpoint_digest(cell: Cell, options: Options) -> str | None:
    path = options.checkpoint.get(cell.model)
    if path is None:
        return None
    from benchsuite.models import folder_digest

    return folder_digest(path, options.sources.digest_cache)


def require_packages(cell: Cell, packages: Sequence[str]) -> None:
    """Raise `CellCannotRun` with the install command if a cell's packages are not installed."""
    missing = [name for name in packages if environment.version(name) == "absent"]
    if missing:
        tested = ["--constraint", "constraints.txt"] if Path("constraints.txt").exists() else []
        raise CellCannotRun(
            f"{cell.method} needs {' and '.join(missing)}, not installed",
            fix=f"run pip install {' '.join([*tested, *missing])}",
        )


def require(
    entry: ModelEntry, options: Options, device: Device, *, may_stream: bool = False
) -> None:
    """Raise `CellCannotRun` with the fix if ``device`` cannot hold or reasonably run the model.

    With ``may_stream`` it need not hold it whole.
    """
    if entry.embedded:
        return
    from benchsuite.models import requirements

    needed = requirements(entry, options.sources, device=device.kind)
    size = f"{entry.name} needs {needed / GIB:.1f} GiB"
    if device.kind == "cpu" and needed > CPU_WEIGHT_BYTES and options.device != "cpu":
        raise CellCannotRun(
            f"{size} on a CUDA GPU; none found",
            fix="run on a machine with one, or insist with --device cpu",
        )
    if needed > device.memory_bytes and not may_stream:
        raise CellCannotRun(
            f"{size} and {device.name} has {device.memory_bytes / GIB:.1f} GiB",
            fix="choose a smaller model or a larger device",
        )
