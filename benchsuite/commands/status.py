"""``benchsuite status``: what is done, stale, failed, running or missing."""

from collections import Counter
from collections.abc import Sequence

from benchsuite.commands.collecting import collect, require_records
from benchsuite.harness.decision import Decision, State
from benchsuite.printable import count

NOT_DONE = ("running", "failed", "blocked", "stale", "missing")
MOST_MISSING = 60
"""Missing cells beyond which they are counted by study and model: a new folder lacks thousands."""


def status(arguments: Sequence[str]) -> int:
    """Print which cells are done, stale, failed, running or missing.

    Many missing ones are counted; a selection of fewer names them.
    """
    collected = collect(arguments)
    bench = collected.bench()
    if collected.names_a_reports_folder():
        require_records(bench)
    running = {marker.nodeid for marker in bench.store.running.living()}
    states: dict[str, list[str]] = {}
    missing: Counter[str] = Counter()
    for nodeid, cell, path in collected.cells:
        decision = bench.decide(cell, path)
        state = "done" if decision.state is State.CACHED else str(decision.state)
        if nodeid in running and state != "done":
            state = "running"
        told = f"{cell.study}/{cell.id}{_note(decision, state)}"
        states.setdefault(state, []).append(told)
        if state == "missing":
            missing[f"{cell.study}/{cell.model}"] += 1
    for state in NOT_DONE:
        lines = states.get(state, [])
        if state == "missing" and len(lines) > MOST_MISSING:
            lines = [f"{part}: {count(n, 'cell')}" for part, n in missing.items()]
        for line in lines:
            print(f"{state:<8} {line}")
    shown = [state for state in ("done", *NOT_DONE) if state in states]
    print(", ".join(f"{len(states[state])} {state}" for state in shown))
    if others := collected.studies_elsewhere():
        print(f"left out: records of {', '.join(others)}; name the file of its test, or its folder")
    for notice in bench.store.notices:
        print(notice)
    return 0


def _note(decision: Decision, state: str) -> str:
    """Return why a cell is not done, after a colon; nothing where its state says it."""
    if decision.error is not None:
        return f": {decision.error}"
    if decision.reasons:
        return f": changed {', '.join(decision.reasons)}"
    if state == "failed" and decision.record and decision.record.failure:
        return f": {decision.record.failure.last_line[:120]}"
    return ""
