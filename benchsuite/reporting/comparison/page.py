"""A comparison as one HTML page: the tables, the worst chunks with their text, flipped answers."""

from typing import Any

from benchsuite.comparing.measured import Comparison, Paired
from benchsuite.printable import printable
from benchsuite.reporting.comparison.terminal import (
    HEAD,
    OUTCOMES,
    bins_line,
    facts_text,
    items_text,
    measured_on,
    of_seeds,
    seed_line,
    sentences,
    spread_line,
    table,
)
from benchsuite.statistics.rounding import short

MOST_FLIPS = 40
# The classes of the report's style sheet.
_CLASSES = {"not_worse": "held", "worse": "violated", "undecided": "inconclusive"}


def to_page(comparison: Comparison, *, seeds: bool = False) -> str:
    """Return the page; it needs no other file and runs no script."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("benchsuite.reporting"),
        autoescape=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    over: dict[str, Any] | None = None
    if seeds:
        outcome, found = of_seeds(comparison)
        over = {
            "outcome": OUTCOMES[outcome],
            "class": _CLASSES[outcome],
            "lines": [seed_line(one) for one in found],
        }
    return environment.get_template("comparison.html.j2").render(
        base=comparison.base.name,
        facts=facts_text("base", comparison.base),
        measured=f"Measured on {measured_on(comparison)}.",
        text=comparison.settings.text.name,
        head=HEAD,
        seeds=over,
        pairs=[_view(comparison, pair, seeds) for pair in comparison.pairs],
        short=short,
    )


def _view(comparison: Comparison, pair: Paired, seeds: bool) -> dict[str, Any]:
    spread = [] if pair.spread is None else [spread_line(pair.spread), bins_line(pair.spread)]
    return {
        "name": pair.facts.name,
        "outcome": OUTCOMES[pair.verdict.outcome],
        "class": _CLASSES[pair.verdict.outcome],
        "facts": facts_text("candidate", pair.facts),
        "rows": table(comparison, pair),
        "lines": [
            items_text(comparison, pair),
            *(f"KL {line}" for line in spread),
            *sentences(comparison, pair, seeds=seeds),
        ],
        "worst": pair.worst,
        "flips": pair.flips[:MOST_FLIPS],
        "more_flips": max(0, len(pair.flips) - MOST_FLIPS),
        "layers": pair.layers,
    }
