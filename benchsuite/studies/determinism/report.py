"""Results of several variants beside each other: one table, and who is how far from whom."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchsuite.determinism.document import cross_variant
from benchsuite.determinism.verification import LEVEL, Served, pairs
from benchsuite.printable import count
from benchsuite.records.files import write_whole
from benchsuite.records.record import Record

_AXES = (
    "batch_invariance",
    "prefill_scoring",
    "fresh_process",
    "threads",
    "other_gpu",
    "quantizer",
)
_HEAD = ("variant", "engine", "kernel", "run to run", "L2 mean, nats", *_AXES, "deterministic mode")
_KINDS = {"rehearsal": "random weights", "stand_in": "stand-in"}
"""What is said of weights that are not the model's own, by the record's kind."""


def to_markdown(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a table of the results and one of their distances; a result as ``read`` returns it."""
    rows = [_row(name, result) for name, result in results.items()]
    lines = _table([h.replace("_", " ") for h in _HEAD], rows)
    times = sorted({n for r in results.values() if (n := _repetitions(r))})
    if times:
        told = " or ".join(count(n, "repetition") for n in times)
        lines += ["", f'Run to run: {told}. After "differs" the largest L2, in nats.']
    distances = cross_variant(results)
    if distances:
        lines += ["", "How far the first completions are apart:", ""]
        shown = [
            [d["one"], d["other"], f"{d['l2']:.3g}", _index(d["first_divergent_index"])]
            for d in distances
        ]
        head = ["variant", "other", "L2, nats", "tokens first differ at"]
        # A distance grows with the steps: those of completions cut to the shorter one are named.
        if len({len(r["baseline"]["tokens"][0]) for r in results.values() if _completed(r)}) > 1:
            head.append("steps in common")
            shown = [[*row, str(d["steps"])] for row, d in zip(shown, distances, strict=True)]
        lines += _table(head, shown)
    return "\n".join(lines) + "\n"


def write_files(records: Sequence[Record], folder: Path, columns: Any) -> list[Path]:
    """Write the study's files, model by model and setting by setting: its reporter.

    ``variants.md``, ``cross_variant.json``, and ``verification.json``: which variants can be told
    apart by the tokens that they served.
    """
    groups: dict[str, dict[str, Mapping[str, Any]]] = {}
    served: dict[str, dict[str, Served]] = {}
    seeds = {record.cell.seed for record in records}
    for record in records:
        name = _place(record, with_seed=len(seeds) > 1)
        groups.setdefault(name, {})[record.cell.method] = record.values
        tokens = Served.from_columns(columns(record))
        if tokens is not None:
            served.setdefault(name, {})[record.cell.method] = tokens
    told = {name: pairs(found) for name, found in served.items()}
    text = "\n".join(
        f"## {name}\n\n{to_markdown(found)}{_told_apart(told.get(name, ()))}"
        for name, found in groups.items()
    )
    distances = {name: cross_variant(found) for name, found in groups.items()}
    written = {
        folder / "variants.md": text,
        folder / "cross_variant.json": json.dumps(distances, indent=2) + "\n",
        folder / "verification.json": json.dumps(told, indent=2) + "\n",
    }
    for path, content in written.items():
        write_whole(path, content.encode(), durable=False)
    return list(written)


def _place(record: Record, *, with_seed: bool) -> str:
    """Return where variants are compared: the model, what is not default, what weights.

    Other prompts, another dtype or another seed are other completions, whose distance says nothing
    of the variants.
    """
    cell = record.cell
    told = [f"{name} {value}" for name, value in sorted(cell.changed.items())]
    told += [f"seed {cell.seed}"] if with_seed else []
    told += [_KINDS[record.kind]] if record.kind in _KINDS else []
    return f"{cell.model} ({', '.join(told)})" if told else cell.model


def _told_apart(found: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of pairs: of each number of tokens, AUC, false alarms and detections."""
    if not found:
        return ""
    numbers = [row["tokens"] for row in found[0]["rows"]]
    few = any(row["few"] and row["auc"] is not None for pair in found for row in pair["rows"])
    lines = [
        "",
        "Token-DiFR: are the other's tokens told from the honest one's by their distance from the "
        "original? AUC, false alarms / detections in percent, by the number of tokens; the "
        f"threshold is meant for {LEVEL:.0%} of false alarms."
        + (" ~: fewer than 10 batches without a common prompt." if few else ""),
        "",
        *_table(
            ("honest", "other", "AUC of a token", *map(str, numbers)),
            [
                (
                    pair["honest"],
                    pair["other"],
                    f"{pair['token_auc']:.3f}",
                    *map(_rates, pair["rows"]),
                )
                for pair in found
            ],
        ),
    ]
    return "\n".join(lines) + "\n"


def _rates(row: Mapping[str, Any]) -> str:
    if row["auc"] is None:
        return "too few served"
    shares = f"{100 * row['false_alarms']:.0f} / {100 * row['detected']:.0f}"
    return f"{row['auc']:.3f}, {shares}{' ~' if row['few'] else ''}"


def _completed(result: Mapping[str, Any]) -> bool:
    return bool(result.get("baseline", {}).get("logprobs"))


def _row(name: str, result: Mapping[str, Any]) -> list[str]:
    if not result.get("success", True):
        reason = next(iter(str(result.get("error", "")).splitlines()), "no reason is given")
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


def _repetitions(result: Mapping[str, Any]) -> int:
    return int(result.get("baseline", {}).get("stats", {}).get("repetitions") or 0)


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
