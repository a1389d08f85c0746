"""``--until-decided``: further seeds for the comparisons that are open, look by look.

The session itself is the first look, over the declared seeds. Each further look is a pytest run of
its own over the arms of the comparisons that are still open, with the command line that the user
gave; what it finds in the store is cached. The looks are planned before the first one, and the
judge makes every claim pay for all of them (``benchsuite.statistics.inference.sequential``).
"""

import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from benchsuite.harness.isolation import free_memory
from benchsuite.harness.outcome import Outcome, judge, plan_of, seeds_of
from benchsuite.harness.session import Bench
from benchsuite.printable import count
from benchsuite.reporting.results import StudyResults
from benchsuite.study.cell import Cell

if TYPE_CHECKING:
    from benchsuite.statistics.inference.sequential import Plan

OPEN = ("lower", "higher", "equivalent")


def further_looks(config: pytest.Config, outcome: Outcome | None, status: int) -> int:
    """Run the looks after the first until nothing is open or no look is left; return the status."""
    bench = Bench.of(config)
    if outcome is None or status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        return status
    free_memory(None)
    benchmarks = {results.study.name: results.benchmark for results in outcome.studies}
    for name in benchmarks:
        if plan_of(bench, name) is None:
            begun = count(len(seeds_of(bench, name)), "seed")
            print(f"{name}: --until-decided {bench.options.until_decided} adds none to its {begun}")
    for look in range(1, _most_looks(bench, outcome)):
        ran = False
        for results in outcome.studies:
            plan = plan_of(bench, results.study.name)
            arms = list(_open_arms(results))
            if plan is None or not arms or look >= len(plan.looks):
                continue
            ran = True
            print(
                f"\n{results.study.name}: look {look + 1} of {len(plan.looks)}, at "
                f"{plan.looks[look]} seeds, for {count(len(arms), 'arm')} of open comparisons",
                flush=True,
            )
            done = subprocess.run(_command(config, plan, look, arms)).returncode
            if done not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
                return done
            status = status or done
        if not ran:
            break
        outcome = judge(bench, benchmarks)
    for results in outcome.studies:
        left = [j for j in results.judgements if _is_open(j)]
        n_open = count(len(left), "comparison")
        print(f"{results.study.name}: {n_open} still open after the last look")
    return status or int(outcome.fails(bench.options.strict_claims))


def _most_looks(bench: Bench, outcome: Outcome) -> int:
    plans = (plan_of(bench, results.study.name) for results in outcome.studies)
    return max((len(plan.looks) for plan in plans if plan is not None), default=0)


def _is_open(judgement: Any) -> bool:
    claim = judgement.claim
    return judgement.is_open and claim.kind in OPEN and not claim.over_items


def _open_arms(results: StudyResults) -> Iterator[Cell]:
    """Yield one cell of each arm of an open comparison: its model, method and further axes."""
    from benchsuite.reporting.groups import groups_of

    wanted = {
        (j.model, method)
        for j in results.judgements
        if _is_open(j)
        for method in (j.claim.method, j.claim.other)
    }
    for group in groups_of(results.cells, results.records):
        for method, cells in group.methods.items():
            if (group.label, method) in wanted and method not in results.study.once:
                yield cells[0]


def _command(config: pytest.Config, plan: "Plan", look: int, arms: list[Cell]) -> list[str]:
    marks = []
    for cell in arms:
        axes = {"study": cell.study, **{k: v for k, v in cell.axes.items() if k != "seed"}}
        marks.append(f"cell({', '.join(f'{k}={v!r}' for k, v in axes.items())})")
    chosen = " or ".join(marks)
    given = config.option.markexpr
    seeds = ",".join(map(str, plan.seeds[: plan.looks[look]]))
    further = [f"--seeds={seeds}", "-m", f"({given}) and ({chosen})" if given else chosen]
    return [sys.executable, "-m", "pytest", *map(str, config.invocation_params.args), *further]
