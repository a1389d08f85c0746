"""Records as Weights & Biases runs: one run per cell, grouped by study."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchsuite.reporting.groups import Record, kind_of
from benchsuite.reporting.load import flatten

# A record's own bookkeeping, which is configuration or no number.
_CONFIGURATION = ("cell", "fingerprint", "environment", "weights", "stand_in", "started_at")
_LEFT_OUT = (*_CONFIGURATION, "error", "items", "schema_version", "record_sha256")


def track(records: Sequence[Record], folder: Path, mode: str, project: str = "benchsuite") -> int:
    """Log each record as a run and return how many; ``mode`` is online or offline.

    A run's id is the record's fingerprint: logging a record again updates its run. Offline runs lie
    in ``folder/wandb`` until ``wandb sync`` sends them.
    """
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    for record in records:
        facts = record["cell"]
        run = wandb.init(
            project=project,
            dir=str(folder),
            mode=mode,  # type: ignore[arg-type]
            id=record["fingerprint"]["value"],
            resume="allow" if mode == "online" else None,
            name=facts["name"],
            group=facts["study"],
            job_type=facts["axes"]["method"],
            tags=[kind_of(record), facts["axes"]["model"]],
            config=_configuration(record),
            reinit="finish_previous",
            settings=wandb.Settings(silent=True, disable_git=True, save_code=False),
        )
        run.summary.update(_measured(record))
        run.finish()
    return len(records)


def _configuration(record: Record) -> dict[str, Any]:
    facts = record["cell"]
    own = {name: record.get(name) for name in ("weights", "stand_in", "started_at")}
    environment = dict(record.get("environment") or {})
    return {**facts["axes"], **facts["parameters"], "environment": environment, **own}


def _measured(record: Record) -> dict[str, Any]:
    told = {*record["cell"]["axes"], *record["cell"]["parameters"], *_LEFT_OUT}
    left = flatten({k: v for k, v in record.items() if k not in told})
    return {k: v for k, v in left.items() if isinstance(v, int | float | str)}
