"""The quantizer study's own tables: sizes, accuracy against the original, latency.

They have the rows and columns of the six-quantizer comparison. Methods are ranked by perplexity
among their own kind and width alone: a W4A4 model is no worse method than a weight-only one, it
does more. A rank orders means; what the seeds support is in the claims. A method that draws and has
one seed has no mean, and no rank.
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchsuite import catalog
from benchsuite.quantizers.registry import CACHES, QUANTIZERS, SPARSE
from benchsuite.records.record import Record
from benchsuite.reporting.judging import Columns
from benchsuite.reporting.report import write_text
from benchsuite.reporting.rows import Row, rows_as_csv, rows_as_markdown
from benchsuite.reporting.settings import by_setting, changed_in
from benchsuite.reporting.summary import on_device

BASELINE = "fp16"
QUALITY = ("arc_macro_f1", "arc_accuracy", "squad_f1", "squad_exact", "maths_accuracy")
# What stands beside a score: how many of its answers could be read, and other views of them.
BESIDE = {
    "arc_accuracy": ("arc_accuracy_norm", "arc_parse_rate"),
    "maths_accuracy": ("maths_parse_rate", "maths_median_difference"),
}
Groups = dict[tuple[str, str, str], list[Record]]


def write(records: Sequence[Record], folder: Path, columns: Columns) -> list[Path]:
    """Write ``sizes``, ``accuracy`` and ``latency`` as CSV, and all three as Markdown and JSON."""
    groups = grouped(records)
    tables = {"sizes": sizes(groups), "accuracy": accuracy(groups), "latency": latency(groups)}
    texts = {f"{name}.csv": rows_as_csv(rows) for name, rows in tables.items()}
    parts = [f"## {name}\n\n{rows_as_markdown(rows)}" for name, rows in tables.items()]
    texts["document_tables.md"] = "\n".join(parts)
    texts["document_tables.json"] = json.dumps(tables, indent=2, allow_nan=False) + "\n"
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]


def grouped(records: Iterable[Record]) -> Groups:
    """Return the records by (model with its changed parameters, kind of weights, method).

    A method without a parameter that was changed stands beside those that have it.
    """
    models: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        models.setdefault((record.cell.model, record.kind), []).append(record)
    found: Groups = {}
    for (model, kind), mine in models.items():
        for members in by_setting(mine):
            changed = changed_in(members)
            name = "__".join([model, *(f"{key}-{changed[key]}" for key in sorted(changed))])
            for record in members:
                found.setdefault((name, kind, record.cell.method), []).append(record)
    return found


def sizes(groups: Groups) -> list[Row]:
    """Return a row per model and method: precision, MB (10^6 bytes), compression ratio."""
    return [
        {
            "model": model,
            "weights": _weights(weights, found),
            "method": method,
            "precision": _precision(method, found),
            "size_mb": mean(found, "size_after_mb"),
            "compression": mean(found, "compression_ratio"),
            "quantization_seconds": _on_one_device(found, "quant_time_sec"),
            "peak_memory_mb": _mega(_on_one_device(found, "peak_memory_bytes")),
            "device": " and ".join(sorted({device for device, _ in map(on_device, found)})),
            "contended": any(crowded for _, crowded in map(on_device, found)),
        }
        for (model, weights, method), found in groups.items()
    ]


def _weights(kind: str, records: Sequence[Record]) -> str:
    """Return whose weights these are: ``embedded``, ``hub``; or that they stand in, or are random.

    "Real" would call those of a GGUF, dequantized, what they are not.
    """
    if kind != "real":
        return kind
    return " and ".join(sorted({record.source.weights or "unknown" for record in records}))


def _precision(method: str, records: Sequence[Record]) -> str:
    if method not in QUANTIZERS:
        return _stored_in(records)
    if QUANTIZERS[method].ranking == SPARSE:
        return f"2:4 {_stored_in(records)}".strip()
    if method in CACHES:
        return f"{_stored_in(records)} KV {precision(method)}".strip()
    return precision(method)


def _stored_in(records: Sequence[Record]) -> str:
    """Return the precision of a model's own weights, ``BF16``; nothing if it is not known here."""
    name = records[0].cell.model
    dtype = catalog.MODELS[name].dtype if name in catalog.MODELS else ""
    return {"bfloat16": "BF16", "float16": "FP16", "float32": "FP32"}.get(dtype, dtype)


def accuracy(groups: Groups) -> list[Row]:
    """Return a row per model and method, scores in percent, ranked by perplexity in its kind.

    ``delta_...`` are points against the original; rehearsals have no quality and are left out. Of
    the distances of the word problems' numbers only the median stands here: one wild answer of a
    broken model rules their mean (1e56 has been seen), which the records keep.
    """
    rows = []
    for (model, weights, method), found in groups.items():
        if weights == "rehearsal":
            continue
        original = groups.get((model, weights, BASELINE), [])
        own = _weights(weights, found)
        row: Row = {"model": model, "weights": own, "kind": kind(method), "rank": None}
        row |= {"method": method, "n_seeds": len(found), "perplexity": mean(found, "perplexity")}
        for key in QUALITY:
            value, base = mean(found, key), mean(original, key)
            row[key] = value
            row[f"delta_{key}"] = None if value is None or base is None else value - base
            row |= {beside: mean(found, beside) for beside in BESIDE.get(key, ())}
        row |= {key: mean(found, key) for key in ("kl", "flipped")}
        # The original beside itself flips nothing: that is no share of a sample.
        flips = None if method == BASELINE else _widest(found, "flipped_ci95")
        rows.append(row | {"flipped_ci95": flips})
    return _ranked(rows)


def latency(groups: Groups) -> list[Row]:
    """Return a row per model, method and device: timings of different devices never mix."""
    rows = []
    for (model, weights, method), found in groups.items():
        for device, crowded in dict.fromkeys(map(on_device, found)):
            mine = [r for r in found if on_device(r) == (device, crowded)]
            rows.append(
                {
                    "model": model,
                    "weights": _weights(weights, mine),
                    "method": method,
                    "device": device,
                    "contended": crowded,
                    "simulated": any(r.value("latency_simulated") for r in mine),
                    "latency_seconds": mean(mine, "latency_seconds"),
                    "token_seconds": mean(mine, "token_seconds"),
                    "token_limit_seconds": mean(mine, "token_limit_seconds"),
                    "decoding_path": _only(mine, "decoding_path"),
                    "tokens_per_second": mean(mine, "tokens_per_second"),
                    "inference_memory_mb": _mega(mean(mine, "inference_memory_bytes")),
                    "vllm_latency_seconds": mean(mine, "vllm_latency_seconds"),
                    "vllm_token_seconds": mean(mine, "vllm_token_seconds"),
                    "vllm_tokens_per_second": mean(mine, "vllm_tokens_per_second"),
                    "vllm_memory_mb": _mega(mean(mine, "vllm_memory_bytes")),
                }
            )
    return rows


def _only(records: list[Record], key: str) -> Any:
    """Return the value that all records have, None where they differ."""
    values = {record.value(key) for record in records}
    return values.pop() if len(values) == 1 else None


def kind(method: str) -> str:
    """Return the kind in which a method is ranked: ``weight-only 4 bit``, ``W8A8``, ``W4A4``."""
    entry = QUANTIZERS.get(method)
    if entry is None:
        return "reference" if method == BASELINE else "control"
    return f"weight-only {width(method)} bit" if entry.ranking == "weight-only" else entry.ranking


def precision(method: str) -> str:
    """Return what the codes of a method's weights are: ``INT4``, ``FP8``."""
    return f"{QUANTIZERS[method].numbers}{width(method)}"


def width(method: str) -> int:
    """Return the bits of a method's weights: from its name, else from its settings."""
    found = re.search(r"(?:_w|int|gguf_i?q|kv_fp)(\d)", method)
    if found:
        return int(found[1])
    entry = QUANTIZERS[method]
    return int(entry.settings.get("bits", 8 if entry.ranking == "W8A8" else 4))


def _ranked(rows: list[Row]) -> list[Row]:
    """Sort by model, kind and perplexity, and number each kind's methods."""
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    models = list(dict.fromkeys((row["model"], row["weights"]) for row in rows))

    def place(row: Row) -> tuple[int, int]:
        return models.index((row["model"], row["weights"])), kinds.index(row["kind"])

    rows = sorted(rows, key=lambda row: (*place(row), row["perplexity"] or float("inf")))
    before, rank = None, 0
    for row in filter(_has_a_mean, rows):
        rank = rank + 1 if place(row) == before else 1
        before = place(row)
        if row["kind"] not in ("reference", "control"):
            row["rank"] = rank
    return rows


def _has_a_mean(row: Row) -> bool:
    entry = QUANTIZERS.get(row["method"])
    draws = entry is not None and (entry.calibrated or entry.seeded)
    return row["perplexity"] is not None and (row["n_seeds"] > 1 or not draws)


def mean(records: Sequence[Record], key: str) -> float | None:
    """Return the mean over seeds of a value that some records hold."""
    values = [value for r in records if (value := r.value(key)) is not None]
    return fmean(values) if values else None


def _on_one_device(records: Sequence[Record], key: str) -> float | None:
    return mean(records, key) if len({r.device_name for r in records}) == 1 else None


def _widest(records: Sequence[Record], key: str) -> list[float] | None:
    """Return the range that the intervals of all seeds cover."""
    found = [interval for r in records if (interval := r.value(key))]
    return [min(low for low, _ in found), max(high for _, high in found)] if found else None


def _mega(value: float | None) -> float | None:
    return None if value is None else value / 1e6
