"""``benchsuite plan``: fix in a file what will be run and judged, before there are results."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchsuite import __version__
from benchsuite.commands.collecting import Collected, collect
from benchsuite.errors import UsageError
from benchsuite.harness.outcome import plan_of
from benchsuite.harness.session import Bench
from benchsuite.printable import count
from benchsuite.records.record import Record
from benchsuite.reporting.commands import as_typed
from benchsuite.study import Cell, Claim, Study, study
from benchsuite.study.plan import (
    DIGEST,
    SCHEMA_VERSION,
    VERSION,
    claim_facts,
    content_digest,
    margins_of,
    patterns,
    plain,
    readable,
)

if TYPE_CHECKING:
    from benchsuite.statistics.inference.sequential import Plan

Arms = Mapping[str, Mapping[str, Mapping[int, Record]]]
"""Place -> method -> seed -> record."""


def plan(arguments: Sequence[str]) -> int:
    """Freeze a plan: the selected cells, their parameters, margins, alpha and looks.

    Three words are its own: --out FILE, where the plan is written; --power 0.8, which the printed
    number of seeds is for; --alpha 0.05. With --until-decided the looks are planned. The plan is
    run by `pytest benchmarks --plan FILE`.
    """
    own, words = own_words(arguments)
    power, alpha = (_share(flag, own[flag]) for flag in ("--power", "--alpha"))
    out = Path(own["--out"])
    if not own["--out"] or out.exists():
        what = f"{out} is there, and a frozen plan stays" if own["--out"] else "no file is named"
        raise UsageError(what, fix="write --out with the name of a new file")
    collected = collect(words)
    bench = collected.bench()
    if bench.options.plan is not None:
        raise UsageError("a plan cannot be frozen under another", fix="leave --plan away")
    options, names = bench.options, list(collected.studies())
    body: dict[str, Any] = {
        VERSION: SCHEMA_VERSION,
        "frozen": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        "frozen_by": f"benchsuite {__version__}",
        "alpha": alpha,
        "power": power,
        "tour": options.tour,
        "downstream": options.downstream,
        "settings": {name: dict(values) for name, values in options.settings.items()},
        "margins": dict(options.margins),
        "studies": {n: _planned(bench, collected, n, alpha=alpha, power=power) for n in names},
    }
    body[DIGEST] = content_digest(body)
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(out, "x", encoding="utf-8") as file:
        file.write(readable(body) + "\n")
    for line in _told(body):
        print(line)
    command = as_typed(["pytest", *bench.where, f"--plan={out}"])
    print(f"{out}: sha256 {body[DIGEST][:12]}; run it with: {command}")
    return 0


def own_words(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the values of the command's own options, and pytest's words."""
    own = {"--out": "", "--power": "0.8", "--alpha": "0.05"}
    words, given = [], iter(arguments)
    for word in given:
        flag, equals, value = word.partition("=")
        if flag in own:
            own[flag] = value if equals else next(given, "")
        else:
            words.append(word)
    return own, words


def _share(flag: str, text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise UsageError(f"{flag} {text!r} is no share", fix="write a number between 0 and 1")
    return share


def _planned(
    bench: Bench, collected: Collected, name: str, *, alpha: float, power: float
) -> dict[str, Any]:
    """Return what the plan fixes of one study."""
    from benchsuite.statistics.inference.sequential import Plan

    declared = study(name)
    chosen = [cell for _, cell, _ in collected.cells if cell.study == name]
    looks = plan_of(bench, name)
    typed = bench.options.seeds
    if looks and typed and typed != looks.seeds[: looks.looks[0]]:
        raise UsageError(
            f"--seeds {','.join(map(str, typed))} does not go with --until-decided, which looks at "
            f"the first {', '.join(map(str, looks.looks))} of the seeds of study {name}",
            fix="leave --seeds away, or freeze these seeds with one look: without --until-decided",
        )
    cells = _with_further_looks(bench, chosen, looks.seeds) if looks else chosen
    seeds = looks.seeds if looks else tuple(dict.fromkeys(cell.seed for cell in cells))
    looks = looks or Plan(seeds, (len(seeds),))
    arms = _arms(bench, cells)
    places = _places(cells)
    on = {claim: _judged_on(claim, places) for claim in declared.claims}
    family = sum(len(where) for claim, where in on.items() if claim.tested)
    asked = {"alpha": alpha, "family": family, "power": power}
    claims = [
        _planned_claim(declared, claim, where, arms, looks, **asked)
        for claim, where in on.items()
        if where
    ]
    shared, products = patterns(cells)
    return {
        "question": declared.question,
        "seeds": list(seeds),
        "looks": list(looks.looks),
        "spending": looks.spending,
        "parameters": shared,
        "cells": products,
        "n_cells": len(cells),
        "margins": margins_of(declared),
        "family": family,
        "seen": sorted({s for m in arms.values() for a in m.values() for s in a}),
        "claims": claims,
    }


def _planned_claim(
    declared: Study,
    claim: Claim,
    where: Sequence[tuple[str, str]],
    arms: Arms,
    looks: "Plan",
    **asked: Any,
) -> dict[str, Any]:
    """Return a claim, the labels and places that it is judged on, and for how many seeds it asks.

    ``asked`` are the alpha, family and power of `needs.need`.
    """
    from benchsuite.reporting.needs import need, scatter_of

    facts: dict[str, Any] = {**claim_facts(claim), "on": [label for label, _ in where]}
    if claim.other:
        found = {}
        for label, place in where:
            scatter = scatter_of(declared, claim, arms.get(place, {}))
            found[label] = asdict(need(declared, claim, scatter, looks, **asked))
        facts["needs"] = _alike(found)
    return facts


def _with_further_looks(bench: Bench, chosen: Sequence[Cell], seeds: Sequence[int]) -> list[Cell]:
    """Return the chosen cells, and those of their arms at the seeds that later looks may add."""
    ids, arms = {cell.id for cell in chosen}, {(cell.place, cell.method) for cell in chosen}
    first = {cell.id for cell in bench.cells(chosen[0].study)}
    every = bench.cells(chosen[0].study, seeds=seeds)
    return [c for c in every if c.id in ids or (c.id not in first and (c.place, c.method) in arms)]


def _places(cells: Sequence[Cell]) -> dict[tuple[str, str], set[str]]:
    """Return (label, place) -> the methods that are compared there."""
    from benchsuite.reporting.groups import groups_of

    groups = groups_of(cells, {})
    return {(group.label, group.cells[0].place): set(group.methods) for group in groups}


def _judged_on(claim: Claim, places: Mapping[tuple[str, str], set[str]]) -> list[tuple[str, str]]:
    arms = {claim.method, claim.other or claim.method}
    return [where for where, methods in places.items() if arms <= methods]


def _arms(bench: Bench, cells: Sequence[Cell]) -> Arms:
    """Return the records of the planned arms at any seed; of a seed's the newest.

    Rehearsals say nothing of scatter. Stand-ins do, where there is nothing better.
    """
    parameters = {(c.study, c.place, c.method): _without_additions(c) for c in cells}
    found: dict[str, dict[str, dict[int, Record]]] = {}
    kinds = {"stand_in": 0, "real": 1}
    records = [r for r in bench.store.all_records() if r.passed and r.kind in kinds]
    for record in sorted(records, key=lambda r: (kinds[r.kind], r.started_at)):
        cell = Cell(record.cell.study, record.cell.axes, record.cell.parameters, {})
        key = (cell.study, cell.place, cell.method)
        if parameters.get(key) == _without_additions(cell):
            found.setdefault(cell.place, {}).setdefault(cell.method, {})[cell.seed] = record
    return found


def _without_additions(cell: Cell) -> str:
    """Return the parameters that decide the cell's numbers, as text."""
    additions = study(cell.study).additions
    return plain({k: v for k, v in cell.parameters.items() if k not in additions})


def _alike(needs: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what is needed with the models for which it is the same."""
    joined: dict[str, dict[str, Any]] = {}
    for label, found in needs.items():
        facts = {key: value for key, value in found.items() if value is not None}
        joined.setdefault(readable(facts), {"on": [], **facts})["on"].append(label)
    return list(joined.values())


def _told(body: Mapping[str, Any]) -> list[str]:
    """Return what the command prints: per study its size, per claim the seeds that it needs."""
    lines = []
    for name, found in body["studies"].items():
        seeds, looks = found["seeds"], found["looks"]
        at = f", looks at {', '.join(map(str, looks))}" if len(looks) > 1 else ""
        size = count(found["n_cells"], "cell")
        family = count(found["family"], "test")
        lines.append(f"{name}: {size}, {count(len(seeds), 'seed')}{at}, a family of {family}")
        for claim in found["claims"]:
            for one in claim.get("needs", ()):
                where = ", ".join(one["on"][:3]) + (" ..." if len(one["on"]) > 3 else "")
                lines.append(f"  {claim['claim']} [{where}]: {_need_told(one, body['power'])}")
    return lines


def _need_told(one: Mapping[str, Any], power: float) -> str:
    if one.get("seeds") is None:
        return str(one["because"])
    low, high = one.get("low", "?"), one.get("high", "more")
    return f"{one['seeds']} seeds ({low} to {high}) for {100 * power:g} % power: {one['because']}"
