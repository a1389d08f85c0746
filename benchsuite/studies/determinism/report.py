"""Results of several variants beside each other: one table, and who is how far from whom."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchsuite.determinism.document import cross_variant
from benchsuite.records.files import write_whole
from benchsuite.records.record import Record

_AXES = ("batch_invariance", "fresh_process", "threads", "other_gpu", "quantizer")
_HEAD = ("variant", "engine", "kernel", "run to run", "L2 mean", *_AXES, "deterministic mode")


def to_markdown(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a table of the results and one of their distances; a result as ``read`` returns it."""
    rows = [_row(name, result) for name, result in results.items()]
    lines = _table([h.replace("_", " ") for h in _HEAD], rows)
    distances = cross_variant(results)
    if distances:
        lines += ["", "How far the first completions are apart:", ""]
        shown = [
            (d["one"], d["other"], f"{d['l2']:.3g}", _index(d["first_divergent_index"]))
            for d in distances
        ]
        lines += _table(("variant", "other", "L2", "tokens first differ at"), shown)
    return "\n".join(lines) + "\n"


def write_files(records: Sequence[Record], folder: Path, columns: Any) -> list[Path]:
    """Write ``variants.md`` and ``cross_variant.json``, model by model: the study's reporter."""
    groups: dict[str, dict[str, Mapping[str, Any]]] = {}
    for record in records:
        kind = " (random weights)" if record.kind == "rehearsal" else ""
        name = record.cell.model + kind
        groups.setdefault(name, {})[record.cell.method] = record.values
    text = "\n".join(f"## {name}\n\n{to_markdown(found)}" for name, found in groups.items())
    distances = {name: cross_variant(found) for name, found in groups.items()}
    written = {
        folder / "variants.md": text,
        folder / "cross_variant.json": json.dumps(distances, indent=2) + "\n",
    }
    for path, content in written.items():
        write_whole(path, content.encode(), durable=False)
    return list(written)


def _row(name: str, result: Mapping[str, Any]) -> list[str]:
    if not result.get("success", True):
        reason = str(result.get("error", "")).splitlines()[0]
        return [name, str(result.get("engine", "")), f"failed: {reason}", *[""] * (len(_HEAD) - 3)]
    stats, axes = result["baseline"]["stats"], result.get("axes", {})
    mean = stats["l2_mean"]
    return [
        name,
        str(result.get("engine", "")),
        _kernel(result.get("kernel", {})),
        _repeats(stats),
        "" if mean is None else f"{mean:.3g}",
        *(_axis(axes.get(axis, {})) for axis in _AXES),
        _deterministic(result.get("deterministic", {})),
    ]


def _kernel(kernel: Mapping[str, Any]) -> str:
    known = {True: "as asked", False: "NOT THE ONE ASKED FOR", None: "not forced or not seen"}
    return known[kernel.get("as_asked")]


def _repeats(stats: Mapping[str, Any]) -> str:
    once = stats.get("repetitions") == 1
    return (
        "one repetition" if once else _exact(stats["tokens_identical"] and stats["logprobs_exact"])
    )


def _exact(exact: bool | None) -> str:
    return {True: "exact", False: "differs", None: ""}[exact]


def _axis(axis: Mapping[str, Any]) -> str:
    size = axis.get("l2_max")
    differs = axis.get("exact") is False and size
    return _exact(axis.get("exact")) + (f" {size:.2g}" if differs else "")


def _deterministic(found: Mapping[str, Any]) -> str:
    if not found.get("succeeded"):
        return "not run"
    stats = found["stats"]
    text = _repeats(stats)
    batch = found.get("batch_invariance", {})
    return f"{text}; batches {_axis(batch)}" if batch.get("tested") else text


def _index(index: int | None) -> str:
    return "never" if index is None else str(index)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
