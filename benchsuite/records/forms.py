"""The forms of a record: the store's nested JSON, and the source documents' flat one.

The store writes *version 2*, which says of each number what it is. The source documents' readers
expect one flat object: axes, parameters, times and values side by side, as *version 1* has them.
Both are sealed: ``record_sha256`` is the digest of all the rest of what is read back.
"""

import datetime
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from benchsuite.records.record import TIME, Record

NESTED, FLAT = 2, 1
SEAL = "record_sha256"


def nested(record: Record) -> dict[str, Any]:
    """Return a record as the store keeps it, not sealed yet."""
    return {
        "schema_version": NESTED,
        "cell": table_of(record.cell),
        "fingerprint": record.fingerprint.as_dict(),
        "environment": dict(record.environment),
        "source": table_of(record.source),
        "times": table_of(record.times),
        "values": dict(record.values),
        "clocked": dict(record.clocked),
        "items": None if record.items is None else table_of(record.items),
        "outcome": record.outcome,
        "failure": None if record.failure is None else table_of(record.failure),
        "started_at": record.started_at,
        "peak_memory_bytes": record.peak_memory_bytes,
        "results_sha256": record.results_sha256,
    }


def flat(record: Record) -> dict[str, Any]:
    """Return a record in the source documents' keys, not sealed yet."""
    axes = {k: v for k, v in record.cell.axes.items() if k != "model"}
    times = {f"{stage}{TIME}": seconds for stage, seconds in record.times.all().items()}
    if record.times.making is not None:
        times[f"total{TIME}"] = record.times.making
    source = {"weights": record.source.weights, "stand_in": record.source.stand_in}
    if record.source.weights_digest is not None:
        source["weights_digest"] = record.source.weights_digest
    spent = {**record.times.spent, "total": record.times.total}
    failure = record.failure
    return {
        "model": record.source.hub_id or record.cell.model,
        **axes,
        **record.cell.parameters,
        **times,
        **record.values,
        **record.clocked,
        "schema_version": FLAT,
        "cell": table_of(record.cell),
        "fingerprint": record.fingerprint.as_dict(),
        "environment": dict(record.environment),
        **source,
        "peak_memory_bytes": record.peak_memory_bytes,
        "timings": {**spent, "contended": record.times.contended},
        "started_at": record.started_at,
        "outcome": record.outcome,
        "error": None if failure is None else {"message": failure.message, "stage": failure.stage},
        "items": None if record.items is None else table_of(record.items),
        "results_sha256": record.results_sha256 or None,
    }


def sealed(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what will be read back of an object, with the digest by which edits are noticed."""
    read_back = json.loads(json.dumps({k: v for k, v in body.items() if k != SEAL}))
    return read_back | {SEAL: seal_of(read_back)}


def seal_of(body: Mapping[str, Any]) -> str:
    """Return the digest over all of an object that was read, but its own seal."""
    rest = {k: v for k, v in body.items() if k != SEAL}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def as_text(body: Mapping[str, Any], indent: int | None = 1) -> bytes:
    """Return an object as the text of its file, on one line without ``indent``."""
    return json.dumps(body, indent=indent, allow_nan=False).encode()


def table_of(part: Any) -> dict[str, Any]:
    """Return a part of a record as an object of JSON."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(part).items()}


def now() -> str:
    """Return the time in ISO 8601, UTC, to the millisecond."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
