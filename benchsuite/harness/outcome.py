"""What the records say of the declared grid: found, missing, judged, reported."""

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchsuite import catalog
from benchsuite.errors import BenchsuiteError
from benchsuite.harness.planning import seeds_measured
from benchsuite.harness.session import Bench
from benchsuite.records.judged import JudgedLog
from benchsuite.records.store import unwritable
from benchsuite.reporting.results import Line, StudyResults
from benchsuite.study import study
from benchsuite.study.cell import Cell

if TYPE_CHECKING:
    from benchsuite.reporting.planned import Standing
    from benchsuite.statistics.inference.claims import Judgement
    from benchsuite.statistics.inference.sequential import Plan
    from benchsuite.study.plan import FrozenPlan


@dataclass
class Outcome:
    """What a session, or the command line, concludes; ``unwritten`` is why there is no report."""

    studies: list[StudyResults]
    lines: list[Line] = field(default_factory=list)
    page: Path = Path()
    unwritten: BenchsuiteError | None = None

    @property
    def judgements(self) -> "list[Judgement]":
        """The judgements of all studies."""
        return [j for results in self.studies for j in results.judgements]

    def fails(self, strict: bool) -> bool:
        """Say whether a violated claim fails the session."""
        violated = [j for j in self.judgements if j.outcome == "violated"]
        return any(strict or j.claim.fails_session for j in violated)


def plan_of(bench: Bench, name: str) -> "Plan | None":
    """Return when ``--until-decided`` looks at a study, or None where it adds no seeds.

    That is so without the option, of a study with one seed, and where that has more from the start.
    """
    most, frozen = bench.options.until_decided, bench.options.plan
    if frozen is not None:
        from benchsuite.reporting.planned import looks_of

        return looks_of(frozen, name)
    if not most:
        return None
    seeds = seeds_of(bench, name)
    if len(seeds) < 2 or most < len(seeds):
        return None
    from benchsuite.statistics.inference.sequential import planned

    return planned(seeds, most)


def seeds_of(bench: Bench, name: str) -> tuple[int, ...]:
    """Return the seeds that a study begins with: its own, or its tour's."""
    declared, tour = study(name), study(name).tour
    return tuple(tour.seeds if bench.options.tour and tour is not None else declared.seeds)


def gather(bench: Bench, name: str, benchmark: Path) -> StudyResults:
    """Look every cell of a study's grid up in the store."""
    plan, frozen = plan_of(bench, name), bench.options.plan
    every = plan.seeds if plan else frozen.studies[name].seeds if frozen else ()
    cells = bench.cells(name, seeds=every)
    results = StudyResults(
        study(name),
        cells,
        where=bench.where,
        options=bench.options.again(bench.rootpath),
        benchmark=benchmark,
    )
    for cell in cells:
        decision = bench.decide(cell, benchmark)
        if decision.state == "cached" and decision.record is not None:
            results.records[cell.id] = decision.record
        elif decision.state == "stale":
            results.stale[cell.id] = decision.reasons
        elif decision.state == "failed" and decision.record is not None:
            results.failed[cell.id] = decision.record
        else:
            results.missing.append(cell.id)
    if plan is not None:
        # Further seeds are run where a comparison is open, and missing nowhere.
        further = {c.id for c in cells if c.seed not in plan.seeds[: plan.looks[0]]}
        unrun = further & set(results.missing)
        results.cells = [cell for cell in cells if cell.id not in unrun]
        results.missing = [cell_id for cell_id in results.missing if cell_id not in unrun]
    return results


def judge(
    bench: Bench,
    benchmarks: Mapping[str, Path],
    *,
    models: Collection[str] = (),
    asked: Mapping[str, frozenset[str]] | None = None,
    verbose: bool = False,
    figures: bool = False,
    page: bool = True,
) -> Outcome:
    """Judge studies from the store over their declared grids, and write the report if ``page``.

    ``benchmarks`` maps the studies' names to their test files. The lines name what is missing of
    ``models`` and of models with records, and of a whole plan; the report names all. ``asked`` are
    the places of each study that this session asks for: with those of earlier sessions they make
    the family.
    """
    from benchsuite.reporting import judge_study, terminal_lines, write_report
    from benchsuite.reporting.planned import unpaid_looks

    log = JudgedLog(bench.store.root)
    found = [gather(bench, name, path) for name, path in benchmarks.items()]
    for results in found:
        name, plan = results.study.name, plan_of(bench, results.study.name)
        mine = (asked or {}).get(name, frozenset())
        results.asked = mine | log.asked(name)
        frozen = bench.options.plan
        fixed = {"alpha": frozen.alpha, "declared": frozen.studies[name].family} if frozen else {}
        results.judgements = judge_study(results, columns=bench.store.columns, plan=plan, **fixed)
        judged = list(_judged(results.judgements))
        with contextlib.suppress(OSError):  # who cannot write here leaves no trace of the look
            log.note(name, judged, mine, frozen.sha256 if frozen else "")
        if frozen is not None:
            results.standing = _standing(bench, frozen, results, log)
        else:
            paid = [plan.seeds[:look] for look in plan.looks] if plan else []
            results.notes += unpaid_looks(judged, log.looks(name), paid)
    outcome = Outcome(found)
    if page:
        folder = bench.options.reports_dir
        try:
            reading = {"columns": bench.store.columns, "asked": bench.store.asked}
            outcome.page = write_report(folder, found, **reading, figures=figures)
        except OSError as error:
            outcome.unwritten = unwritable(folder, error)
    for results in found:
        told = results if results.standing else _of_interest(results, models)
        if told.cells:  # else nobody has asked for any yet
            outcome.lines += terminal_lines(told, verbose=verbose)
    return outcome


def _standing(
    bench: Bench, frozen: "FrozenPlan", results: StudyResults, log: JudgedLog
) -> "Standing":
    from benchsuite.reporting.planned import standing

    planned = bench.cells(results.study.name, seeds=frozen.studies[results.study.name].seeds)
    return standing(
        frozen,
        results.study,
        planned,
        results.records,
        due=len(results.cells),
        looks=log.looks(results.study.name),
        measured=seeds_measured(bench, planned),
    )


def _judged(judgements: "Iterable[Judgement]") -> "Iterator[tuple[str, str, tuple[int, ...]]]":
    """Yield the comparisons that have been tested, with the seeds that they rest on."""
    for judgement in judgements:
        seen = judgement.evidence
        if seen.get("p_holm") is not None:
            seeds = {*seen.get("seeds", ()), *seen.get("seeds_other", ())}
            yield judgement.claim.sentence, judgement.model, tuple(sorted(seeds))


def _of_interest(results: StudyResults, models: Collection[str]) -> StudyResults:
    """Leave out the cells and claims of models that nobody has asked for yet."""
    tried = {*results.records, *results.failed, *results.stale}
    chosen = {*models, *(cell.model for cell in results.cells if cell.id in tried)}
    cells = [cell for cell in results.cells if cell.model in chosen]
    ids = {cell.id for cell in cells}
    told = [j for j in results.judgements if j.outcome != "not_run" or _asked(j, cells)]
    return replace(
        results,
        cells=cells,
        missing=[cell_id for cell_id in results.missing if cell_id in ids],
        judgements=told,
    )


def _asked(judgement: "Judgement", cells: list[Cell]) -> bool:
    return any(judgement.model.startswith(catalog.document_name(c.model)) for c in cells)
