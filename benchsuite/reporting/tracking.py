"""Records as Weights & Biases runs: one run per cell, grouped by study."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchsuite.records.record import TIME, Record
from benchsuite.reporting.load import flatten


def track(records: Sequence[Record], folder: Path, mode: str) -> int:
    """Log each record as a run and return how many; ``mode`` is online or offline.

    A run's id is the record's fingerprint: logging a record again updates its run. Offline runs lie
    in ``folder/wandb`` until ``wandb sync`` sends them.
    """
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    for record in records:
        facts = record.cell
        run = wandb.init(
            project="benchsuite",
            dir=str(folder),
            mode=mode,  # type: ignore[arg-type]
            id=record.fingerprint.value,
            resume="allow" if mode == "online" else None,
            name=facts.name,
            group=facts.study,
            job_type=facts.method,
            tags=[record.kind, facts.model],
            config=_configuration(record),
            reinit="finish_previous",
            settings=wandb.Settings(silent=True, disable_git=True, save_code=False),
        )
        run.summary.update(_measured(record))
        run.finish()
    return len(records)


def _configuration(record: Record) -> dict[str, Any]:
    source = {"weights": record.source.weights, "stand_in": record.source.stand_in}
    own = {**source, "started_at": record.started_at, "environment": dict(record.environment)}
    return {**record.cell.axes, **record.cell.parameters, **own}


def _measured(record: Record) -> dict[str, Any]:
    times = {f"{stage}{TIME}": seconds for stage, seconds in record.times.all().items()}
    told = {**times, f"total{TIME}": record.times.making, **record.values, **record.clocked}
    own = {
        "outcome": record.outcome,
        "peak_memory_bytes": record.peak_memory_bytes,
        "results_sha256": record.results_sha256,
    }
    left = flatten({**told, "timings": record.times.spent, **own})
    return {k: v for k, v in left.items() if isinstance(v, int | float | str)}
