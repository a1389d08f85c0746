"""``benchsuite status``: what is done, stale, failed, running or missing."""

from collections.abc import Sequence

from benchsuite.commands.collecting import collect, require_records

NOT_DONE = ("running", "failed", "blocked", "stale", "missing")


def status(arguments: Sequence[str]) -> int:
    """Print which cells are done, stale, failed, running or missing."""
    collected = collect(arguments)
    bench = collected.bench()
    if collected.names_a_reports_folder():
        require_records(bench)
    running = {marker.nodeid for marker in bench.store.running.living()}
    states: dict[str, list[str]] = {}
    for nodeid, cell, path in collected.cells:
        decision = bench.decide(cell, path)
        state = {"cached": "done"}.get(decision.state, decision.state)
        if nodeid in running and state != "done":
            state = "running"
        note = ""
        if decision.error is not None:
            note = f": {decision.error}"
        elif decision.reasons:
            note = f": changed {', '.join(decision.reasons)}"
        elif state == "failed" and decision.record and decision.record.failure:
            note = f": {decision.record.failure.last_line[:120]}"
        states.setdefault(state, []).append(f"{cell.study}/{cell.id}{note}")
    for state in NOT_DONE:
        for line in states.get(state, []):
            print(f"{state:<8} {line}")
    shown = [state for state in ("done", *NOT_DONE) if state in states]
    print(", ".join(f"{len(states[state])} {state}" for state in shown))
    if others := collected.studies_elsewhere():
        print(f"left out: records of {', '.join(others)}; name the file of its test, or its folder")
    for notice in bench.store.notices:
        print(notice)
    return 0
