"""What a gate says: on the terminal, in a pull request, to a machine."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchsuite import __version__
from benchsuite.comparing.verdict import NOT_WORSE, UNDECIDED, WORSE, MetricVerdict, Verdict
from benchsuite.printable import printable
from benchsuite.statistics.rounding import plain, with_interval

OUTCOMES = {NOT_WORSE: "not worse", WORSE: "worse", UNDECIDED: "undecided"}
MARKS = {NOT_WORSE: "✅", WORSE: "❌", UNDECIDED: "❔"}
HEAD = ("metric", "base", "candidate", "loss", "margin", "items", "verdict")


def to_text(base: str, candidate: str, verdict: Verdict, notes: Sequence[str] = ()) -> str:
    """Return what the terminal shows."""
    rows = [HEAD, *(_row(metric) for metric in verdict.metrics)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines = [f"{candidate} beside {base}", "", *table, "", *sentences(verdict), *notes, ""]
    return "\n".join([*lines, f"{OUTCOMES[verdict.outcome]}"]) + "\n"


def to_markdown(base: str, candidate: str, verdict: Verdict, notes: Sequence[str] = ()) -> str:
    """Return a comment for a pull request."""
    lines = [
        f"### {MARKS[verdict.outcome]} {_escaped(candidate)} is "
        f"{_outcome(verdict)} beside {_escaped(base)}",
        "",
        f"| {' | '.join(HEAD)} |",
        "|---" * len(HEAD) + "|",
    ]
    lines += [
        "| " + " | ".join(_escaped(cell) for cell in _row(metric)) + " |"
        for metric in verdict.metrics
    ]
    lines += ["", *(f"- {_escaped(line)}" for line in [*sentences(verdict), *notes])]
    return printable("\n".join(lines)) + "\n"


def to_json(base: str, candidate: str, verdict: Verdict, notes: Sequence[str] = ()) -> str:
    """Return the verdict with every number, for a machine."""
    told = {
        "benchsuite": __version__,
        "base": base,
        "candidate": candidate,
        **asdict(verdict),
        "items_needed": verdict.items_needed,
        "notes": list(notes),
    }
    return json_text(told)


def json_text(told: Any) -> str:
    """Return JSON without the numbers that it has not: an interval's missing end becomes null."""
    return json.dumps(_compliant(told), indent=1, allow_nan=False) + "\n"


def _compliant(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _compliant(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_compliant(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def sentences(verdict: Verdict) -> list[str]:
    """Return what is to be known beside the table."""
    level = f"{100 * (1 - 2 * verdict.alpha):.3g} %"
    found = [f"intervals at {level}; {verdict.correction} (alpha {verdict.alpha:g})"]
    if verdict.looks > 1:
        found.append(f"looked at {verdict.looks} times; intervals and verdicts pay for each look")
    for metric in verdict.metrics:
        if metric.outcome == UNDECIDED:
            found.append(needed_sentence(metric, verdict.power))
        if metric.lost is not None and metric.gained is not None and metric.mcnemar_p is not None:
            found.append(
                f"{metric.metric}: {metric.lost} lost, {metric.gained} gained, "
                f"exact McNemar p = {metric.mcnemar_p:.2g}"
            )
    return found


def needed_sentence(metric: MetricVerdict, power: float) -> str:
    """Return how many items would decide an open metric, if that is known."""
    parts = []
    if not math.isfinite(metric.high):
        what = "cluster" if metric.n_clusters else "item"
        return f"{metric.metric}: one {what} holds nearly all, which says nothing of others"
    if metric.items_needed:
        parts.append(f"{metric.items_needed:,} items would decide if the loss is the one seen")
    else:
        parts.append("no number of items decides a loss that is the margin itself")
    if metric.items_if_equal:
        parts.append(f"{metric.items_if_equal:,} if there is none")
    return f"{metric.metric}: {', '.join(parts)} (power {power:g})"


def _outcome(verdict: Verdict) -> str:
    return f"**{OUTCOMES[verdict.outcome]}**"


def _row(metric: MetricVerdict) -> tuple[str, ...]:
    items = f"{metric.n_items:,}"
    if metric.n_clusters:
        items += f" in {metric.n_clusters:,} clusters"
    return (
        metric.metric,
        _value(metric, metric.base),
        _value(metric, metric.candidate),
        f"{with_interval(metric.loss, metric.low, metric.high)} {metric.unit}",
        _margin(metric),
        items,
        OUTCOMES[metric.outcome],
    )


def _margin(metric: MetricVerdict) -> str:
    shown = f"{metric.margin:.3g}"
    return f"{shown} {'point' if shown == '1' and metric.unit == 'points' else metric.unit}"


def _value(metric: MetricVerdict, value: float) -> str:
    return f"{value:.2f} %" if metric.unit == "points" else plain(value)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
