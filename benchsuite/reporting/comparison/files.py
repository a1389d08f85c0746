"""A comparison for machines: JSON with every item, and JUnit for continuous integration."""

import xml.etree.ElementTree as ET
from dataclasses import asdict
from typing import Any

from benchsuite import __version__
from benchsuite.comparing.measured import Comparison, Facts, Paired
from benchsuite.comparing.pairs import PairedItems
from benchsuite.reporting.comparison.gate import json_text
from benchsuite.reporting.comparison.terminal import (
    OUTCOMES,
    all_rows,
    cells,
    measured_on,
    of_seeds,
)
from benchsuite.reporting.junit import clean

FORM = 1


def to_json(comparison: Comparison, *, seeds: bool = False) -> str:
    """Return the whole comparison: settings, rows, verdicts, spreads, and every item."""
    settings = comparison.settings
    told: dict[str, Any] = {
        "form": FORM,
        "benchsuite": __version__,
        "device": comparison.device,
        "measured_on": measured_on(comparison),
        "text": {"name": settings.text.name, "sha256": settings.text.digest},
        "chunk_tokens": settings.seq_len,
        "questions": {
            asked.name: {"n": len(asked.items), "form": asked.form, "sha256": asked.digest}
            for asked in settings.sets
        },
        "margins": dict(settings.margins),
        "alpha": settings.alpha,
        "power": settings.power,
        "base": _facts(comparison.base),
        "candidates": [_pair(comparison, pair) for pair in comparison.pairs],
    }
    if seeds:
        outcome, found = of_seeds(comparison)
        told["over_seeds"] = {"outcome": outcome, "metrics": [asdict(one) for one in found]}
    return json_text(told)


def to_junit(comparison: Comparison) -> str:
    """Return one suite a candidate and one case a judged metric.

    A metric that is worse is a failure; an undecided one is skipped, with the items that would
    decide as its message.
    """
    root = ET.Element("testsuites", name="benchsuite compare")
    for pair in comparison.pairs:
        rows = [row for row in all_rows(comparison, pair) if row.verdict is not None]
        outcomes = [row.verdict.outcome for row in rows if row.verdict]
        suite = ET.SubElement(
            root,
            "testsuite",
            name=clean(f"{pair.facts.name} beside {comparison.base.name}"),
            tests=str(len(rows)),
            failures=str(outcomes.count("worse")),
            errors="0",
            skipped=str(outcomes.count("undecided")),
        )
        for row, outcome in zip(rows, outcomes, strict=True):
            case = ET.SubElement(
                suite, "testcase", classname=clean(pair.facts.name), name=clean(row.label)
            )
            label, base, candidate, difference, floor, margin, verdict = cells(row)
            message = clean(
                f"{label}: {base} and {candidate}, difference {difference}, floor {floor}, "
                f"margin {margin}: {verdict}"
            )
            if outcome == "not_worse":
                ET.SubElement(case, "system-out").text = message
            else:
                ET.SubElement(case, "failure" if outcome == "worse" else "skipped", message=message)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _pair(comparison: Comparison, pair: Paired) -> dict[str, Any]:
    told: dict[str, Any] = {
        **_facts(pair.facts),
        "outcome": pair.verdict.outcome,
        "verdict": OUTCOMES[pair.verdict.outcome],
        "correction": pair.verdict.correction,
        "rows": [asdict(row) for row in all_rows(comparison, pair)],
        "items": [_items(items) for items in (*pair.items, *pair.shares)],
        "floor": [_items(items) for items in pair.floor.values()],
        "not_compared": list(pair.refused),
        "flips": [asdict(flip) for flip in pair.flips],
        "worst_chunks": [asdict(chunk) for chunk in pair.worst],
        "layers": [asdict(layer) for layer in pair.layers],
    }
    if pair.reading is not None and pair.spread is not None:
        told["spread"] = asdict(pair.spread)
        told["seconds"] = pair.reading.seconds
        told["vocabulary"] = pair.reading.vocabulary
        told["read"] = pair.reading.how
    if pair.floor_spread is not None:
        told["floor_spread"] = asdict(pair.floor_spread)
    return told


def _facts(facts: Facts) -> dict[str, Any]:
    return asdict(facts)


def _items(items: PairedItems) -> dict[str, Any]:
    return {
        "metric": items.metric,
        "ids": list(items.ids),
        "base": items.base.tolist(),
        "candidate": items.candidate.tolist(),
        "clusters": None if items.clusters is None else list(items.clusters),
    }
