"""``benchsuite estimate``: how long, how much memory, and what cannot run."""

from collections.abc import Sequence

from benchsuite.commands.collecting import collect


def estimate(arguments: Sequence[str]) -> int:
    """Say how long the selected cells will take here, the memory of each, and what cannot run."""
    from benchsuite.harness.scheduling.forecast import forecast

    collected = collect(arguments)
    for line in forecast(collected.bench(), [(cell, path) for _, cell, path in collected.cells]):
        print(line)
    return 0
