"""Looking inside: what the latents say as words, and accuracy by the steps that a problem takes."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from benchsuite.records.record import Record
from benchsuite.reporting.judging import Columns

SHOWN = 5  # problems of a method, the first of its set

Row = dict[str, Any]


def words(records: Iterable[Record], columns: Columns, title: Mapping[str, str]) -> list[Row]:
    """Return a row for each of the first problems of each set and seed: its latents as words.

    A latent is its likeliest tokens, joined by a slash. ``title`` begins every row.
    """
    rows: list[Row] = []
    for record in records:
        found = columns(record)
        if "latents" not in found:
            continue
        axes = record.cell.axes
        for n in range(min(SHOWN, len(found["latents"]))):
            latents = [" / ".join(map(_shown, each)) for each in json.loads(found["latents"][n])]
            rows.append(
                {
                    **title,
                    "Method": axes["method"],
                    "Seed": record.cell.seed,
                    "Set": axes["asked"],
                    "Problem": str(found["question"][n]),
                    "Right answer": str(found["expected"][n]),
                    "Answer": f"{found['prediction'][n]:.15g}",
                    "Latents": " | ".join(latents),
                }
            )
    return rows


def _shown(token: str) -> str:
    return token.strip() or repr(token)[1:-1]


def by_steps(records: Sequence[Record], columns: Columns) -> dict[int, tuple[int, float]]:
    """Return by number of steps of the gold solution: the problems, and the accuracy in percent.

    Over the seeds, which are asked the same problems. Nothing for a set whose problems all have
    as many steps.
    """
    parts = [columns(record) for record in records]
    parts = [part for part in parts if "n_steps" in part]
    if not parts:
        return {}
    steps = np.concatenate([part["n_steps"] for part in parts])
    correct = np.concatenate([part["correct"] for part in parts])
    kinds = np.unique(steps)
    if len(kinds) < 2:
        return {}
    return {
        int(k): (int((steps == k).sum()) // len(parts), 100 * float(correct[steps == k].mean()))
        for k in kinds
    }


def steps_rows(
    found: Mapping[tuple[str, str], Mapping[int, tuple[int, float]]], title: Mapping[str, str]
) -> list[Row]:
    """Return a row for each method and set, ``(method, set)``: problems and accuracy by steps."""
    return [
        {
            **title,
            "Method": method,
            "Set": asked,
            "Steps": steps,
            "Problems": n,
            "Accuracy (%)": f"{accuracy:.1f}",
        }
        for (method, asked), counted in found.items()
        for steps, (n, accuracy) in counted.items()
    ]
